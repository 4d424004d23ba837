"""Somebody walks into an empty place, close to the camera: the memory of the empty place must not keep them out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.session import Session
from stm_skeletons.parts import Parts

BODY = range(5, 17)
"""COCO's joints from the shoulders down."""


def confidence(parts: Parts) -> float:
    """Mean over the joints of the body of the surest keypoint's score, 0 where there is none."""
    return float(np.mean([parts.keypoint_scores[parts.keypoint_types == joint].max(initial=0) for joint in BODY]))


@pytest.mark.slow
def test_a_memory_costs_who_walks_in_little(shared: Path):
    """From nobody in view to a person at the height of the frame, beside the same weights without a memory."""
    beside = []
    video = shared / "video" / "one-by-one-person-detection.mp4"
    capture = cv2.VideoCapture(str(video))
    assert capture.set(cv2.CAP_PROP_POS_FRAMES, 480)
    with Session.open("edge", min_keypoint_score=0.02) as one, Session.open("edge", min_keypoint_score=0.02) as other:
        for _ in range(80):
            read, frame = capture.read()
            assert read
            frame = np.asarray(frame, np.uint8)
            other.reset()
            beside.append((confidence(one.step(frame)), confidence(other.step(frame))))
    with_memory, without = np.array(beside).T
    assert without[0] < 0.3, "nobody is there at first"
    there = np.flatnonzero(without > 0.6)
    assert len(there) > 30
    assert with_memory[there[10:]].mean() > 0.8 * without[there[10:]].mean()
