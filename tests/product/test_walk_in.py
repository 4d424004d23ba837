"""A person walks into an empty scene, close to the camera: its memory must not hide the person."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.session import Session
from stm_skeletons.parts import Parts

BODY = range(5, 17)
"""COCO's joints from the shoulders down."""


SAME_PRECISION = 0.33
"""Threshold at which the frame alone is as precise as the memory at the bundle's threshold (docs/benchmarks.md)."""


def scores(parts: Parts) -> list[float]:
    """Best keypoint score of each joint of the body; 0 for a joint without keypoints."""
    return [float(parts.keypoint_scores[parts.keypoint_types == joint].max(initial=0)) for joint in BODY]


@pytest.mark.slow
def test_memory_does_not_hide_a_person_who_walks_in(shared: Path):
    """From an empty frame to a person of the frame's height, compared with the same weights without memory.

    As many joints are found at thresholds of equal precision. Scores are lower with memory, as is the threshold.
    """
    frames = []
    capture = cv2.VideoCapture(str(shared / "video" / "one-by-one-person-detection.mp4"))
    assert capture.set(cv2.CAP_PROP_POS_FRAMES, 480)
    with Session.open("edge", min_keypoint_score=0.02) as one, Session.open("edge", min_keypoint_score=0.02) as other:
        for _ in range(80):
            read, frame = capture.read()
            assert read
            frame = np.asarray(frame, np.uint8)
            other.reset()
            frames.append((scores(one.step(frame)), scores(other.step(frame))))
        threshold = one.info.keypoint_threshold
    with_memory, without = np.array(frames).transpose(1, 0, 2)
    assert without[0].mean() < 0.3, "no person is in view at first"
    visible = np.flatnonzero(without.mean(axis=1) > 0.6)[10:]
    assert len(visible) > 20
    assert with_memory[visible].mean() > 0.7 * without[visible].mean()
    assert (with_memory[visible] >= threshold).mean() > 0.95 * (without[visible] >= SAME_PRECISION).mean() > 0.8
