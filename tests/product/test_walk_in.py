"""A person walks into an empty scene, close to the camera: its memory must not hide the person."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.session import Session
from stm_skeletons.parts import Parts

BODY = range(5, 17)
"""COCO's joints from the shoulders down."""


def confidence(parts: Parts) -> float:
    """Mean of the best keypoint score of each joint of the body, 0 for a joint without keypoints."""
    return float(np.mean([parts.keypoint_scores[parts.keypoint_types == joint].max(initial=0) for joint in BODY]))


@pytest.mark.slow
def test_memory_hardly_lowers_the_confidence_in_a_person_who_walks_in(shared: Path):
    """From an empty frame to a person of the frame's height, compared with the same weights without memory."""
    confidences = []
    video = shared / "video" / "one-by-one-person-detection.mp4"
    capture = cv2.VideoCapture(str(video))
    assert capture.set(cv2.CAP_PROP_POS_FRAMES, 480)
    with Session.open("edge", min_keypoint_score=0.02) as one, Session.open("edge", min_keypoint_score=0.02) as other:
        for _ in range(80):
            read, frame = capture.read()
            assert read
            frame = np.asarray(frame, np.uint8)
            other.reset()
            confidences.append((confidence(one.step(frame)), confidence(other.step(frame))))
    with_memory, without = np.array(confidences).T
    assert without[0] < 0.3, "no person is in view at first"
    visible = np.flatnonzero(without > 0.6)
    assert len(visible) > 30
    assert with_memory[visible[10:]].mean() > 0.8 * without[visible[10:]].mean()
