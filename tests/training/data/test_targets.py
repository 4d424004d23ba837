"""Training targets, and their weights: 0 where a target is unknown."""

import numpy as np

from stm_skeletons.maps import render_maps
from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.data.joints import joint_columns
from training.data.sequence import SequenceFrame
from training.data.targets import make_targets

HEIGHT, WIDTH = 64, 96
ALL_JOINTS = np.ones(17, bool)


def frame(
    poses: np.ndarray, boxes: list[tuple[float, float, float, float]], mask: np.ndarray | None = None, ignored=None
) -> SequenceFrame:
    corners = [[[a, b], [c, b], [c, d], [a, d]] for a, b, c, d in boxes]
    nothing = np.zeros((HEIGHT // 4, WIDTH // 4), bool)
    labelled = poses[..., 2] > 0
    return SequenceFrame(
        image=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        poses=poses.astype(np.float32),
        inside=labelled,
        hidden=np.zeros_like(labelled),
        boxes=np.array(corners, np.float32).reshape(-1, 4, 2),
        mask=mask,
        ignored=nothing if ignored is None else ignored,
    )


def person(left: float, top: float, joints: int = 17) -> np.ndarray:
    xy = np.array([[left + 2 * i, top + 1.5 * i] for i in range(joints)])
    return np.column_stack([xy, np.ones(joints)])


def test_fully_labelled_person_counts_everywhere():
    poses = person(20, 10)[None]
    maps, weights = make_targets(frame(poses, [(16, 8, 60, 40)]), COCO17, COCO17.channels, ALL_JOINTS)
    np.testing.assert_array_equal(maps, render_maps(poses, COCO17, (HEIGHT, WIDTH)))
    assert weights.all()


def test_unlabelled_joint_is_unknown_only_within_its_persons_box():
    poses = person(20, 10)[None]
    wrist = COCO17.joints.index("left_wrist")
    poses[0, wrist, 2] = 0
    maps, weights = make_targets(frame(poses, [(16, 8, 60, 40)]), COCO17, COCO17.channels, ALL_JOINTS)
    assert maps[1 + wrist].max() == 0
    box = np.zeros((HEIGHT // 4, WIDTH // 4), bool)
    box[3:9, 5:14] = True
    assert not weights[1 + wrist][box].any()
    assert weights[1 + wrist][:, 17:].all()
    for name, known in zip(COCO17.channels[1:], weights[1:], strict=True):
        concerned = name == "left_wrist" or ("left_wrist" in name and "-" in name)
        assert known.all() != concerned, name


def test_mask_is_unknown_between_an_incomplete_persons_outline_and_box():
    poses = person(20, 10)[None]
    poses[0, 16, 2] = 0
    maps, weights = make_targets(frame(poses, [(16, 8, 90, 60)]), COCO17, COCO17.channels, ALL_JOINTS)
    assert weights[0][maps[0] > 0].all()
    assert not weights[0][13, 20]
    segmented = np.zeros((HEIGHT // 4, WIDTH // 4), np.float32)
    segmented[2:8, 4:12] = 1
    maps, weights = make_targets(frame(poses, [(16, 8, 90, 60)], segmented), COCO17, COCO17.channels, ALL_JOINTS)
    np.testing.assert_array_equal(maps[0], segmented)
    assert weights[0].all(), "segmentation covers the whole frame"


def test_ignored_regions_count_for_no_channel():
    ignored = np.zeros((HEIGHT // 4, WIDTH // 4), bool)
    ignored[:5, :7] = True
    _, weights = make_targets(
        frame(person(50, 20)[None], [(48, 18, 90, 50)], None, ignored), COCO17, COCO17.channels, ALL_JOINTS
    )
    assert not weights[:, ignored].any()
    assert weights[:, ~ignored].all()


def test_joints_that_the_data_never_label_are_masked_with_their_edges():
    """COCO data with PoseTrack's skeleton, and PoseTrack data with COCO's."""
    for skeleton, source, never in (
        (POSETRACK15, COCO17.joints, {"head_bottom", "head_top"}),
        (COCO17, POSETRACK15.joints, {"left_eye", "right_eye", "left_ear", "right_ear"}),
    ):
        _, sourced = joint_columns(source, skeleton)
        poses = person(20, 10, len(skeleton.joints))[None]
        poses[0, ~sourced, 2] = 0
        _, weights = make_targets(frame(poses, [(16, 8, 60, 40)]), skeleton, skeleton.channels, sourced)
        for name, known in zip(skeleton.channels[1:], weights[1:], strict=True):
            assert known.any() != bool(never & set(name.split("-"))), name


def test_original_stm_has_one_map_of_all_parts():
    poses = person(20, 10)[None]
    maps, weights = make_targets(frame(poses, [(16, 8, 60, 40)]), COCO17, ("skeleton",), ALL_JOINTS)
    whole = render_maps(poses, COCO17, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(maps[0], whole[1:].max(axis=0))
    assert weights.all()
    poses[0, 3, 2] = 0
    _, weights = make_targets(frame(poses, [(16, 8, 60, 40)]), COCO17, ("skeleton",), ALL_JOINTS)
    assert not weights[0, 4, 6]
    assert weights[0, :, 17:].all()


def test_edges_only_has_mask_and_edge_channels():
    channels = ("mask", *COCO17.edge_names)
    maps, weights = make_targets(frame(person(20, 10)[None], [(16, 8, 60, 40)]), COCO17, channels, ALL_JOINTS)
    assert maps.shape == weights.shape == (20, HEIGHT // 4, WIDTH // 4)


def test_empty_frame_is_background_everywhere():
    maps, weights = make_targets(frame(np.zeros((0, 17, 3)), []), COCO17, COCO17.channels, ALL_JOINTS)
    assert not maps.any()
    assert weights.all()
