"""Keypoint precision, recall and F1 within 10 network pixels (paper, Table 3), by the paper's and a stricter matching.

``closest`` is the paper's matching: each label is matched with its closest prediction of that joint, and is a true
positive if that lies within the radius. A prediction may match several labels, so precision counts predictions and
recall counts labels. Precision is the share of predictions that are the closest to a label within the radius. Recall is
the share of labels whose closest prediction is within the radius. F1 is the harmonic mean of the two.

``one_to_one`` is stricter: a prediction matches at most one label. Of the matchings with the most pairs within the
radius, the one with the smallest sum of distances is used.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import PlainSerializer, PlainValidator, model_validator
from scipy.optimize import linear_sum_assignment

from stm_skeletons.strict import Strict

RADIUS = 10.0
"""Pixels of the network input."""

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(5, 96))
"""Thresholds of the sweep, 0.05 to 0.95: lowest scores of peaks that count as predictions."""

Matching = Literal["closest", "one_to_one"]
MATCHINGS: tuple[Matching, ...] = get_args(Matching)

BODY_JOINTS = (
    "nose",
    *(
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
"""The 13 joints that COCO and PoseTrack both label."""


def _counts(value: ArrayLike) -> NDArray[np.int64]:
    array = np.array(value)
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0):
        raise ValueError("counts must be non-negative whole numbers")
    array = array.astype(np.int64)
    array.setflags(write=False)
    return array


Counts = Annotated[NDArray[np.int64], PlainValidator(_counts), PlainSerializer(lambda array: array.tolist())]
"""Non-negative whole numbers: an array in Python, nested lists in JSON."""


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1 at a threshold; NaN for 0 / 0."""

    threshold: float
    precision: float
    recall: float
    f1: float


class KeypointCounts(Strict):
    """Counts that can be summed over frames, joints and sequences. ``...`` are such axes.

    T is the number of thresholds. The last axis of length 2 is the matching, in the order of MATCHINGS.
    """

    labels: Counts
    """[...]: joints that are labelled and inside the frame."""
    predictions: Counts
    """[..., T]"""
    hits: Counts
    """[..., T, 2]: labels with a matching prediction."""
    right: Counts
    """[..., T, 2]: predictions with a matching label."""
    hidden: Counts
    """[...]: labels under an added occluder."""
    hidden_hits: Counts
    """[..., T, 2]: labels under an added occluder with a matching prediction."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "KeypointCounts":
        shape = self.predictions.shape
        if self.labels.shape != shape[:-1] or self.hidden.shape != shape[:-1]:
            raise ValueError("shapes of labels and predictions differ")
        if any(array.shape != (*shape, len(MATCHINGS)) for array in (self.hits, self.right, self.hidden_hits)):
            raise ValueError("shapes of hits and predictions differ")
        return self

    def _arrays(self) -> dict[str, NDArray[np.int64]]:
        return dict(self)

    def __add__(self, other: "KeypointCounts") -> "KeypointCounts":
        theirs = other._arrays()
        return KeypointCounts(**{name: array + theirs[name] for name, array in self._arrays().items()})

    def __getitem__(self, index: int | slice | NDArray | list[int]) -> "KeypointCounts":
        """Select entries of the first axis."""
        return KeypointCounts(**{name: array[index] for name, array in self._arrays().items()})

    def total(self) -> "KeypointCounts":
        """The sum over the first axis."""
        return KeypointCounts(**{name: array.sum(axis=0) for name, array in self._arrays().items()})

    def resampled(self, times: NDArray[np.int64]) -> "KeypointCounts":
        """[R, ...]: sums over the first axis, with every entry repeated ``times`` [R, entries] times."""
        return KeypointCounts(**{name: np.tensordot(times, array, 1) for name, array in self._arrays().items()})

    def ratios(self, matching: Matching) -> tuple[NDArray, NDArray, NDArray]:
        """Precision, recall and F1, each [..., T]; NaN for 0 / 0."""
        which = MATCHINGS.index(matching)
        precision = ratio(self.right[..., which], self.predictions)
        recall = ratio(self.hits[..., which], self.labels[..., None])
        return precision, recall, harmonic_mean(precision, recall)


def stack(counts: Iterable[KeypointCounts]) -> KeypointCounts:
    """Counts stacked along a new first axis."""
    arrays = [count._arrays() for count in counts]
    return KeypointCounts(**{name: np.stack([each[name] for each in arrays]) for name in arrays[0]})


def zeros(thresholds: int, *shape: int) -> KeypointCounts:
    """Counts of zero."""
    few, many = np.zeros(shape, int), np.zeros((*shape, thresholds, len(MATCHINGS)), int)
    return KeypointCounts(labels=few, predictions=many[..., 0], hits=many, right=many, hidden=few, hidden_hits=many)


def ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """part / whole; NaN if whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def harmonic_mean(precision: NDArray, recall: NDArray) -> NDArray[np.float64]:
    """F1. It is 0 without predictions or without labels, and NaN without both."""
    neither = np.isnan(precision) & np.isnan(recall)
    both = np.nan_to_num(precision) + np.nan_to_num(recall)
    product = 2 * np.nan_to_num(precision) * np.nan_to_num(recall)
    return np.where(neither, np.nan, product / np.where(both > 0, both, 1))


def sweep_scores(counts: KeypointCounts, thresholds: ArrayLike, matching: Matching) -> list[Score]:
    """Scores at all thresholds, of counts without further axes."""
    columns = zip(np.asarray(thresholds, float), *counts.ratios(matching), strict=True)
    return [Score(*(float(number) for number in column)) for column in columns]


def best_score(scores: list[Score]) -> Score:
    """The score with the highest F1; the one with the lowest threshold if several are equal or all are NaN."""
    return max(scores, key=lambda score: -1 if np.isnan(score.f1) else score.f1)


def count_keypoints(
    labels: NDArray,
    predictions: NDArray,
    thresholds: ArrayLike,
    hidden: NDArray[np.bool_] | None = None,
    known: NDArray[np.bool_] | None = None,
) -> KeypointCounts:
    """Count a joint in a frame.

    Args:
        labels: [N, 2] x, y in network pixels.
        predictions: [M, 3] x, y in network pixels, score.
        thresholds: [T], above 0.
        hidden: [N] labels under an added occluder; None for none.
        known: [M] predictions in cells whose truth is known; None for all. Other predictions count only within the
            radius of a label; otherwise they are ignored.
    """
    distance = np.linalg.norm(labels[:, None].astype(float) - predictions[None, :, :2], axis=-1)
    if known is not None:
        kept = known | (distance <= RADIUS).any(axis=0)
        predictions, distance = predictions[kept], distance[:, kept]
    counted = predictions[:, 2] >= np.asarray(thresholds)[:, None]
    matched = [match(distance, counted) for match in (_match_closest, _match_one_to_one)]
    hits = np.stack([label_hit for label_hit, _ in matched], axis=-1)
    covered = np.zeros(len(labels), bool) if hidden is None else hidden
    return KeypointCounts(
        labels=np.array(len(labels)),
        predictions=counted.sum(axis=1),
        hits=hits.sum(axis=1),
        right=np.stack([chosen.sum(axis=1) for _, chosen in matched], axis=-1),
        hidden=covered.sum(),
        hidden_hits=hits[:, covered].sum(axis=1),
    )


def _match_closest(distance: NDArray, counted: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The paper's matching, for distances [N, M] and the predictions [T, M] that count at each threshold.

    Returns the labels [T, N] and the predictions [T, M] that are matched.
    """
    chosen = np.zeros(counted.shape, bool)
    if not distance.size:
        return np.zeros((len(counted), len(distance)), bool), chosen
    far = np.where(counted[:, None], distance, np.inf)
    closest = far.argmin(axis=-1)
    hit = far.min(axis=-1) <= RADIUS
    threshold, label = np.nonzero(hit)
    chosen[threshold, closest[threshold, label]] = True
    return hit, chosen


def _match_one_to_one(distance: NDArray, counted: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The stricter matching; arguments and result as in ``_match_closest``."""
    near = distance <= RADIUS
    if (near.sum(axis=0) <= 1).all() and (near.sum(axis=1) <= 1).all():  # the matching is unique
        pairs = near & counted[:, None]
        return np.any(pairs, axis=2), np.any(pairs, axis=1)
    hit, chosen = np.zeros((len(counted), len(distance)), bool), np.zeros(counted.shape, bool)
    # A far pair costs more than all near pairs together, so the number of near pairs is maximised first.
    cost = np.where(near, distance, RADIUS * (1 + min(distance.shape)))
    for i, columns in enumerate(map(np.flatnonzero, counted)):
        if i and (counted[i] == counted[i - 1]).all():
            hit[i], chosen[i] = hit[i - 1], chosen[i - 1]
            continue
        row, column = linear_sum_assignment(cost[:, columns])
        column = columns[column]
        good = near[row, column]
        hit[i, row[good]] = chosen[i, column[good]] = True
    return hit, chosen
