from pathlib import Path

import numpy as np
import pytest

from benchmarks.trails import TrailCounts, count_trails
from stm_skeletons.parts import Parts
from stm_skeletons.people import no_people
from stm_skeletons.skeleton import COCO17

CLIP = Path(__file__).parents[2] / "examples" / "vtest-10s.avi"


def parts(*keypoints: tuple[int, float, float]) -> Parts:
    """A frame with keypoints (joint, x, y)."""
    types, xy = np.array([joint for joint, *_ in keypoints], int), np.array([place for _, *place in keypoints])
    nothing = np.zeros(0, np.int64)
    return Parts(
        skeleton=COCO17,
        size=(896, 512),
        keypoint_types=types,
        keypoints=xy.reshape(-1, 2).astype(np.float32),
        keypoint_scores=np.ones(len(types), np.float32),
        edge_types=nothing,
        edge_ends=np.zeros((0, 2), np.int64),
        edge_scores=np.zeros(0, np.float32),
        people=no_people(17),
        owners=np.full(len(types), -1),
    )


def test_keypoint_counts_as_remembered_unless_the_frame_shows_the_joint_nearby():
    counts = TrailCounts()
    counts.add(parts((0, 100, 100), (1, 100, 100), (0, 300, 100)), parts((0, 119, 100), (0, 321, 100)), 0.5)
    assert (counts.keypoints, counts.remembered) == (3, 2)
    counts.add(parts(), parts((0, 1, 1)), 0.5)
    counts.add(parts((0, 1, 1)), parts(), 0.5)
    assert (counts.keypoints, counts.remembered) == (4, 3)


@pytest.mark.slow
def test_people_who_walk_leave_no_trail():
    """The shipped model on footage of walking people."""
    counts = count_trails("edge", str(CLIP), 60)
    assert counts.keypoints > 2000
    assert counts.remembered < 0.005 * counts.keypoints
