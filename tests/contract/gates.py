"""Gate results for tests."""

from typing import Any

from stm_skeletons.gate_file import Gate, Window


def made_gate(**changes: Any) -> Gate:
    """Return a passing gate with some fields changed."""
    fields = {
        "precision": "fp16",
        "executed_on": "a test",
        "video": "street.mp4",
        "frames": 300,
        "calibration": None,
        "keypoint_threshold": 0.3,
        "radius": 10,
        "keypoints": 100,
        "found": 100,
        "matched": 100,
        "f1": 1.0,
        "f1_near": 1.0,
        "f1_loss_bound": 0.005,
        "largest_map_difference": 0.01,
        "map_difference_bound": 0.05,
        "not_finite": 0,
        "windows": (Window(first_frame=0, frames=300, f1=1),),
        "map_differences": (0.01,) * 300,
    }
    return Gate.model_validate(fields | changes)
