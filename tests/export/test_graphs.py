import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_skeletons.maps import render_maps
from stm_skeletons.skeleton import COCO17
from training.model.parts import find_peaks, score_edges

SIZE = (128, 160)
positions = st.tuples(st.floats(8, SIZE[1] - 8), st.floats(8, SIZE[0] - 8))


@settings(deadline=None)
@given(st.lists(positions, min_size=1, max_size=4), st.integers(4, 12))
def test_rendered_joints_are_found_again_to_a_fraction_of_a_pixel(points, sigma):
    for i, a in enumerate(points):
        if any(math.dist(a, b) < 5 * sigma for b in points[:i]):
            return
    poses = np.zeros((len(points), 17, 3))
    poses[:, 0] = [(*point, 2) for point in points]
    maps = torch.from_numpy(render_maps(poses, COCO17, SIZE, sigma)[1:18])
    peaks, _ = find_peaks(maps, 10)
    found = peaks[0, peaks[0, :, 2] > 0.3].numpy()
    assert len(found) == len(points)
    for point in points:
        assert np.linalg.norm(found[:, :2] - point, axis=1).min() < 0.1
    assert peaks[1:, :, 2].max() == 0, "nothing is found on empty maps"


def test_peaks_are_sorted_by_score():
    maps = torch.full((1, 8, 8), 0.01)
    maps[0, 1, 1], maps[0, 6, 6], maps[0, 3, 5] = 0.5, 0.9, 0.7
    peaks, cells = find_peaks(maps, 3)
    np.testing.assert_allclose(peaks[0, :, 2], [0.9, 0.7, 0.5])
    np.testing.assert_allclose(peaks[0, :, :2], [[26, 26], [22, 14], [6, 6]], atol=1e-4)
    np.testing.assert_allclose(cells[0], [[6, 6], [3, 5], [1, 1]])


def test_saturated_area_is_one_peak():
    maps = torch.zeros(1, 32, 32)
    maps[0, 4:16, 8:20] = 1
    peaks, _ = find_peaks(maps, 5)
    assert peaks[0, :, 2].tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(("x", "y"), [(1.0, 60.0), (159.0, 60.0), (80.0, 1.5), (80.0, 126.5)])
def test_joint_in_an_outermost_cell_stays_in_it(x: float, y: float):
    poses = np.zeros((1, 17, 3))
    poses[0, 0] = (x, y, 2)
    peaks, _ = find_peaks(torch.from_numpy(render_maps(poses, COCO17, SIZE)[1:18]), 1)
    np.testing.assert_allclose(peaks[0, 0, :2], (x, y), atol=1.01)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_flat_maps_give_finite_peaks(value: float):
    peaks, _ = find_peaks(torch.full((2, 8, 8), value), 5)
    assert torch.isfinite(peaks).all()


def test_line_through_a_row_of_people_is_not_an_edge():
    """Much of the line lies on people's shoulders: its mean is up to 0.74."""
    poses = np.zeros((3, 17, 3))
    left, right = COCO17.joints.index("left_shoulder"), COCO17.joints.index("right_shoulder")
    for pose, x in zip(poses, (4, 44, 124), strict=True):
        pose[left], pose[right] = (x + 16, 60, 2), (x, 60, 2)
    maps = torch.from_numpy(render_maps(poses, COCO17, SIZE))
    edge = COCO17.edge_names.index("left_shoulder-right_shoulder")
    cells = torch.tensor([[(15.0, x // 4) for x in poses[:, joint, 0]] for joint in (left, right)])
    scores = score_edges(maps[18 + edge][None], cells[:1], cells[1:])[0]
    assert (scores.diagonal() > 0.8).all()
    assert (scores - torch.diag(scores.diagonal())).max() < 0.15


def test_correct_pairs_of_two_crossing_people_score_higher():
    poses = np.zeros((2, 17, 3))
    left, right = COCO17.joints.index("left_elbow"), COCO17.joints.index("left_wrist")
    poses[0, left], poses[0, right] = (22, 22, 2), (142, 102, 2)
    poses[1, left], poses[1, right] = (22, 102, 2), (142, 22, 2)
    maps = torch.from_numpy(render_maps(poses, COCO17, SIZE))
    edge = COCO17.edge_names.index("left_elbow-left_wrist")
    _, cells = find_peaks(maps[1:18], 2)
    scores = score_edges(maps[18:], cells[[a for a, _ in COCO17.edges]], cells[[b for _, b in COCO17.edges]])[edge]
    rows = {tuple(cell): i for i, cell in enumerate(cells[left].int().tolist())}
    columns = {tuple(cell): i for i, cell in enumerate(cells[right].int().tolist())}
    for (start_x, start_y), (end_x, end_y), correct in (
        ((22, 22), (142, 102), True),
        ((22, 102), (142, 22), True),
        ((22, 22), (142, 22), False),
        ((22, 102), (142, 102), False),
    ):
        score = scores[rows[start_y // 4, start_x // 4], columns[end_y // 4, end_x // 4]]
        assert (score > 0.8) == correct
