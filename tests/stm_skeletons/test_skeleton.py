import pytest
from pydantic import ValidationError

from stm_skeletons.errors import SkeletonError
from stm_skeletons.skeleton import COCO17, POSETRACK15, SKELETONS, Skeleton, skeleton_named


def test_coco_has_17_joints_19_edges_and_37_maps():
    assert (len(COCO17.joints), len(COCO17.edges), len(COCO17.channels)) == (17, 19, 37)
    assert COCO17.channels[0] == "mask"
    assert COCO17.channels[1] == "nose"
    assert COCO17.channels[18] == "left_ankle-left_knee"


def test_posetrack_is_a_tree_over_its_15_joints():
    assert (len(POSETRACK15.joints), len(POSETRACK15.edges)) == (15, 14)
    reached = {0}
    for _ in POSETRACK15.edges:
        reached |= {j for edge in POSETRACK15.edges if reached & set(edge) for j in edge}
    assert reached == set(range(15)), "14 edges that reach all 15 joints are a tree"


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
def test_mirroring_swaps_sides_and_twice_restores_them(skeleton: Skeleton):
    assert tuple(skeleton.flip[skeleton.flip[i]] for i in range(len(skeleton.joints))) == tuple(
        range(len(skeleton.joints))
    )
    for left, right in skeleton.left_right_pairs:
        assert skeleton.joints[left].replace("left", "right") == skeleton.joints[right]
    sided = [name for name in skeleton.joints if name.startswith(("left_", "right_"))]
    assert 2 * len(skeleton.left_right_pairs) == len(sided)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
def test_mirrored_edges_are_edges(skeleton: Skeleton):
    edges = {frozenset(edge) for edge in skeleton.edges}
    assert {frozenset(skeleton.flip[j] for j in edge) for edge in edges} == edges


def test_json_round_trip():
    assert Skeleton.model_validate_json(COCO17.model_dump_json()) == COCO17


@pytest.mark.parametrize(
    ("joints", "edges", "sigmas"),
    [
        (("a", "a"), (), (0.1, 0.1)),
        (("a", "b"), ((0, 2),), (0.1, 0.1)),
        (("a", "b"), ((0, 0),), (0.1, 0.1)),
        (("a", "b"), ((0, 1), (1, 0)), (0.1, 0.1)),
        (("a", "b"), ((0, 1),), (0.1,)),
        ((), (), ()),
    ],
)
def test_inconsistent_skeletons_are_refused(joints, edges, sigmas):
    with pytest.raises(ValidationError):
        Skeleton(name="x", joints=joints, edges=edges, sigmas=sigmas)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(SkeletonError, match="coco17, posetrack15"):
        skeleton_named("openpose")
