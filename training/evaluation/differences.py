"""Differences between a network and its controls on the same sequences, with paired bootstrap intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import percentiles, resamples
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import Matching

EARLY, LATE = (1, 4), (9, 12)
"""Ranges of frames of a sequence, from 0 (end excluded): the first frames with memory, and later frames, whose memory
consists of the network's own predictions."""


@dataclass(frozen=True)
class Difference:
    """Figures of a network minus those of a control, each at its own threshold."""

    f1: float
    f1_interval: tuple[float, float] | None
    """95% bootstrap interval over sequences, with the same draws for both."""
    hidden_recall: float
    """Recall of points under the occluder; NaN without any."""
    precision: float
    """Precision at the recall that the control has at its threshold; NaN if the network does not reach that recall."""
    precision_interval: tuple[float, float] | None


def difference(
    network: Evaluation, threshold: float, control: Evaluation, control_threshold: float, matching: Matching
) -> Difference:
    """Compare two evaluations of the same sequences. Raises DataError if a threshold was not counted."""
    i, j = network.threshold_index(threshold), control.threshold_index(control_threshold)
    sequences = len(network.sequences)
    draws = np.concatenate([np.ones((1, sequences), int), resamples(sequences)])  # the sequences, then the resamples
    (precision, recall, f1), (control_precision, control_recall, control_f1) = (
        evaluation.resampled(draws, matching) for evaluation in (network, control)
    )
    f1_difference = f1[:, i] - control_f1[:, j]
    at_recall = np.array([_precision_at(*row) for row in zip(precision, recall, control_recall[:, j], strict=True)])
    precision_difference = at_recall - control_precision[:, j]
    return Difference(
        float(f1_difference[0]),
        percentiles(f1_difference[1:], sequences),
        network.hidden_recall(threshold, matching) - control.hidden_recall(control_threshold, matching),
        float(precision_difference[0]),
        percentiles(precision_difference[1:], sequences),
    )


def recall_in(evaluation: Evaluation, frames: tuple[int, int], threshold: float, matching: Matching) -> float:
    """Recall in a range of frames (end excluded); NaN without labels there."""
    counted = [
        (labels, hits)
        for number, labels, hits in evaluation.hits_over_time(threshold, matching)
        if frames[0] <= number < frames[1]
    ]
    labels, hits = np.sum(counted, axis=0) if counted else (0, 0)
    return float(hits / labels) if labels else float("nan")


def _precision_at(precision: NDArray, recall: NDArray, target: float) -> float:
    """Precision at a recall, interpolated between thresholds; NaN if no threshold reaches the recall."""
    known = ~np.isnan(precision)
    precision, recall = precision[known], recall[known]
    if not len(recall) or target > recall.max():
        return float("nan")
    # Recall falls as the threshold rises. Of thresholds with equal recall, the highest, most precise one counts.
    recall, first = np.unique(recall[::-1], return_index=True)
    return float(np.interp(target, recall, precision[::-1][first]))
