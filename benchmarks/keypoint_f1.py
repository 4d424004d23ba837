"""Keypoint precision, recall and F1: predictions matched one to one with the labels within a radius (Table 3's idea).

The paper matches every label with its closest prediction; one to one is stricter, since a prediction serves one label.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

RADIUS = 10.0
"""Pixels of the network input."""

BODY_JOINTS = (
    "nose",
    *(
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
"""The 13 joints that all the data sets label."""


@dataclass(frozen=True)
class Score:
    """Counts over all images and joints, at the threshold that gives the best F1."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Sample:
    """One joint in one image: where it is, and where it was predicted."""

    labels: NDArray
    """[N, 2] x, y in network pixels."""
    predictions: NDArray
    """[M, 3] x, y in network pixels, score."""


def best_f1(samples: list[Sample], thresholds: NDArray | None = None) -> Score:
    """The threshold with the highest F1 over all samples (of 0.05, 0.06 .. 0.95 unless others are given)."""
    candidates = np.arange(0.05, 0.955, 0.01) if thresholds is None else thresholds
    labels = sum(len(sample.labels) for sample in samples)
    best = Score(float(candidates[0]), 0.0, 0.0, 0.0)
    for threshold in candidates:
        kept = [(sample.labels, sample.predictions[sample.predictions[:, 2] >= threshold]) for sample in samples]
        predicted = sum(len(predictions) for _, predictions in kept)
        hits = sum(_hits(truth, predictions) for truth, predictions in kept)
        f1 = 2 * hits / max(labels + predicted, 1)
        if f1 > best.f1:
            best = Score(float(threshold), hits / max(predicted, 1), hits / max(labels, 1), f1)
    return best


def _hits(labels: NDArray, predictions: NDArray) -> int:
    """Most pairs within the radius that can be made one to one.

    >>> _hits(np.array([[0, 0], [8, 0]]), np.array([[9, 0, 1.0], [17, 0, 1.0], [99, 0, 1.0]]))
    2
    """
    if not len(labels) or not len(predictions):
        return 0
    distance = np.linalg.norm(labels[:, None] - predictions[None, :, :2], axis=-1)
    rows, columns = linear_sum_assignment(distance > RADIUS)
    return int((distance[rows, columns] <= RADIUS).sum())
