"""Which parts belong to the same person."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_skeletons.parts import Parts, assemble_parts
from stm_skeletons.people import join_people
from stm_skeletons.skeleton import COCO17

JOINT = {name: i for i, name in enumerate(COCO17.joints)}


def made(joints: list[str], edges: list[tuple[int, int, float]]) -> Parts:
    """Keypoints at (number, 0) with score 0.5, and edges between two of them with a score."""
    types = [JOINT[name] for name in joints]
    return Parts(
        skeleton=COCO17,
        size=(200, 100),
        keypoint_types=np.array(types, np.int64),
        keypoints=np.array([(i, 0) for i in range(len(joints))], np.float32).reshape(-1, 2),
        keypoint_scores=np.full(len(joints), 0.5, np.float32),
        edge_types=np.array([COCO17.edges.index((types[a], types[b])) for a, b, _ in edges], np.int64),
        edge_ends=np.array([edge[:2] for edge in edges], np.int64).reshape(-1, 2),
        edge_scores=np.array([edge[2] for edge in edges], np.float32),
        people=np.full(len(joints), -1),
    )


def found_at_random(seed: int) -> Parts:
    random = np.random.default_rng(seed)
    peaks = random.uniform(0, 1, (17, 4, 3)).astype(np.float32) * (200, 100, 1)
    return assemble_parts(COCO17, (200, 100), peaks, random.uniform(0, 1, (19, 4, 4)), 0.3, 0.6)


def test_edges_join_people_and_what_nothing_joins_belongs_to_nobody():
    parts = made(
        ["nose", "left_shoulder", "left_shoulder", "right_shoulder", "left_elbow", "left_elbow"],
        [(2, 5, 0.9), (1, 3, 0.9), (1, 4, 0.8)],
    )
    assert join_people(parts).people.tolist() == [-1, 0, 1, 0, 0, 1]
    assert parts.people.tolist() == [-1] * 6


@pytest.mark.parametrize("joints", [[], ["nose"]])
def test_an_empty_frame_and_a_lone_keypoint_hold_nobody(joints: list[str]):
    parts = join_people(made(joints, []))
    assert parts.people.tolist() == [-1] * len(joints)
    assert parts.poses().shape == (0, 17, 3)
    assert parts.to_dict(0, 0.0)["people"] == []


def test_the_weaker_edge_gives_way_where_a_person_would_have_a_joint_twice():
    # The chain of three goes round to a second left shoulder.
    edges = [(0, 2, 0.9), (2, 4, 0.8), (3, 4, 0.7), (1, 3, 0.4)]
    joints = ["left_shoulder", "left_shoulder", "right_shoulder", "left_hip", "right_hip"]
    assert join_people(made(joints, edges)).people.tolist() == [0, -1, 0, 0, 0]
    edges[3] = (1, 3, 0.75)  # now it is the others' edge that is weaker
    assert join_people(made(joints, edges)).people.tolist() == [0, 1, 0, 1, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_nobody_has_a_joint_twice_and_an_edge_between_two_people_would_change_that(seed: int):
    parts = join_people(found_at_random(seed))
    joints = [set(parts.keypoint_types[parts.people == i].tolist()) for i in range(parts.people_count)]
    for number, of_one in enumerate(joints):
        assert len(of_one) == (parts.people == number).sum() >= 2
    for first, second in parts.edge_ends.tolist():
        a, b = parts.people[first], parts.people[second]
        if a == b:
            assert a >= 0, "an edge joins two at least"
            continue
        one, other = (
            joints[person] if person >= 0 else {int(parts.keypoint_types[i])} for person, i in ((a, first), (b, second))
        )
        assert one & other


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_people_do_not_depend_on_the_order_of_edges(seed: int):
    parts = found_at_random(seed)
    order = np.random.default_rng(seed).permutation(len(parts.edge_scores))
    shuffled = replace(
        parts,
        edge_types=parts.edge_types[order],
        edge_ends=parts.edge_ends[order],
        edge_scores=parts.edge_scores[order],
    )
    np.testing.assert_array_equal(join_people(parts).people, join_people(shuffled).people)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_poses_and_lines_name_the_same_keypoints(seed: int):
    parts = join_people(found_at_random(seed))
    poses, line = parts.poses(), parts.to_dict(0, 0.0)
    assert poses.dtype == np.float32
    assert (poses[..., 2] > 0).sum() == (parts.people >= 0).sum()
    assert len(line["people"]) == len(poses)
    for person, pose in zip(line["people"], poses, strict=True):
        assert set(person) == {COCO17.joints[i] for i in np.flatnonzero(pose[:, 2])}
        for name, place in person.items():
            np.testing.assert_allclose(line["keypoints"][name][place], pose[JOINT[name]], atol=0.051)
