"""A network against its controls on the same sequences: differences with paired bootstrap intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import percentiles, resamples
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import Matching

EARLY, LATE = (1, 4), (9, 12)
"""Frames of a sequence, from 0, the last one left out: when memory has just begun, and when it has lived on itself."""


@dataclass(frozen=True)
class Against:
    """One evaluation less another, each at its own threshold."""

    f1: float
    f1_interval: tuple[float, float] | None
    """95 % over another choice of as many such sequences, drawn for both alike."""
    hidden_recall: float
    """Of points under an occluder; NaN without any."""
    precision: float
    """At the recall that the other has at its threshold, and less its precision there; NaN where it is not reached."""
    precision_interval: tuple[float, float] | None


def against(ours: Evaluation, threshold: float, theirs: Evaluation, other: float, matching: Matching) -> Against:
    """Compare two evaluations of the same sequences. Raises DataError where a threshold was not counted."""
    i, j = ours.threshold_index(threshold), theirs.threshold_index(other)
    sequences = len(ours.sequences)
    draws = np.concatenate([np.ones((1, sequences), int), resamples(sequences)])  # as they are, then drawn again
    (precision, recall, f1), (their_precision, their_recall, their_f1) = (
        evaluation.resampled(draws, matching) for evaluation in (ours, theirs)
    )
    more = f1[:, i] - their_f1[:, j]
    at_recall = np.array([_precision_at(*row) for row in zip(precision, recall, their_recall[:, j], strict=True)])
    preciser = at_recall - their_precision[:, j]
    return Against(
        float(more[0]),
        percentiles(more[1:], sequences),
        ours.hidden_recall(threshold, matching) - theirs.hidden_recall(other, matching),
        float(preciser[0]),
        percentiles(preciser[1:], sequences),
    )


def recall_in(evaluation: Evaluation, frames: tuple[int, int], threshold: float, matching: Matching) -> float:
    """Recall in the frames from the first number on and before the second; NaN without labels there."""
    counted = [
        (labels, hits)
        for number, labels, hits in evaluation.hits_over_time(threshold, matching)
        if frames[0] <= number < frames[1]
    ]
    labels, hits = np.sum(counted, axis=0) if counted else (0, 0)
    return float(hits / labels) if labels else float("nan")


def _precision_at(precision: NDArray, recall: NDArray, wanted: float) -> float:
    """Between the thresholds; NaN where none has so much recall."""
    known = ~np.isnan(precision)
    precision, recall = precision[known], recall[known]
    if not len(recall) or wanted > recall.max():
        return float("nan")
    # Recall falls as the threshold rises; of those that find as much, the highest and most precise counts.
    recall, first = np.unique(recall[::-1], return_index=True)
    return float(np.interp(wanted, recall, precision[::-1][first]))
