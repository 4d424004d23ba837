"""The people of a frame: found and predicted joints, and boxes around them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_skeletons.people import People, no_people


def three_people() -> People:
    """Three people with three joints: all found; one found, predicted and unknown each; none found."""
    keypoints = np.zeros((3, 3, 3), np.float32)
    keypoints[0] = [(10, 20, 0.9), (30, 20, 0.8), (20, 60, 0.7)]
    keypoints[1, :2] = [(100, 50, 0.5), (140, 10, 0.1)]
    keypoints[2, 0], keypoints[2, 2] = (5, 6, 0.1), (8, 4, 0.1)
    return People(
        scores=np.array([0.9, 0.5, 0.1], np.float32),
        keypoints=keypoints,
        peaks=np.array([[0, 0, 0], [1, -1, -1], [-1, -1, -1]]),
        ids=np.array([7, 0, 2]),
    )


def test_joint_is_found_or_predicted_or_unknown():
    people = three_people()
    assert len(people) == 3
    assert people.found.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert people.predicted.tolist() == [[False, False, False], [False, True, False], [True, False, True]]


def test_box_holds_found_joints_or_else_all_predicted_ones():
    boxes = three_people().boxes()
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[10, 20, 20, 40], [100, 50, 0, 0], [5, 4, 3, 2]]


def test_people_can_be_chosen_by_index_or_mask():
    people = three_people()
    for selection in (np.array([2, 0]), np.array([True, False, True])):
        chosen = people.chosen(selection)
        indices = np.arange(3)[selection]
        assert chosen.ids.tolist() == people.ids[indices].tolist()
        np.testing.assert_array_equal(chosen.keypoints, people.keypoints[indices])
        np.testing.assert_array_equal(chosen.peaks, people.peaks[indices])
        np.testing.assert_array_equal(chosen.scores, people.scores[indices])


def test_moved_people_keep_scores_and_unknown_joints_stay_zero():
    people = three_people()
    moved = people.placed(people.keypoints[..., :2] + 100)
    assert moved.keypoints[0, 0].tolist() == np.array([110, 120, 0.9], np.float32).tolist()
    assert moved.keypoints[1, 2].tolist() == [0, 0, 0]
    assert people.keypoints[0, 0, 0] == 10, "the original people are unchanged"
    np.testing.assert_array_equal(moved.boxes()[:, 2:], people.boxes()[:, 2:])


def test_empty_frame_has_no_people():
    empty = no_people(17)
    assert len(empty) == 0
    assert empty.keypoints.shape == (0, 17, 3)
    assert empty.found.shape == empty.predicted.shape == (0, 17)
    assert empty.boxes().shape == (0, 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_box_is_the_bounding_box_of_found_joints(seed: int, count: int):
    random = np.random.default_rng(seed)
    peaks = random.integers(-1, 3, (count, 5))
    peaks[:, 0] = 0
    people = People(
        random.random(count, np.float32),
        random.random((count, 5, 3), np.float32) * (200, 100, 1),
        peaks,
        np.arange(count),
    )
    for (left, top, width, height), keypoints, found in zip(
        people.boxes(), people.keypoints, people.found, strict=True
    ):
        np.testing.assert_allclose((left, top), keypoints[found, :2].min(0))
        np.testing.assert_allclose((left + width, top + height), keypoints[found, :2].max(0), rtol=1e-5)
