"""Counts of a network on some sequences, and the figures derived from them.

All counts are kept, so evaluations can be merged, and figures can be computed at any threshold of the sweep.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import Strict
from training.evaluation.bootstrap import percentiles, resamples
from training.evaluation.conditions import Start
from training.evaluation.keypoints import (
    BODY_JOINTS,
    MATCHINGS,
    Counts,
    KeypointCounts,
    Matching,
    Score,
    best_score,
    ratio,
    stack,
    sweep_scores,
    zeros,
)
from training.evaluation.people_scores import PeopleEvaluation
from training.evaluation.pixels import channel_groups, pixel_ratios, pixel_score
from training.evaluation.steadiness import Steadiness
from training.evaluation.tracking import TrackingEvaluation

Part = TypeVar("Part")


class EvaluatedSequence(Strict):
    """An evaluated sequence."""

    name: str
    frames: int
    """Number of counted frames."""
    seeded: bool
    """Whether the sequence started from the labels of its first frame, which is not counted then."""


class KeypointEvaluation(Strict):
    """Keypoint counts, summed in three ways."""

    by_joint: KeypointCounts
    """[NK, ...], in the order of the skeleton's joints."""
    by_sequence: KeypointCounts
    """[S, ...], summed over the joints of the overall figure."""
    by_frame: KeypointCounts
    """[longest sequence, ...] by frame number from 0, summed over the joints of the overall figure."""


class Evaluation(Strict):
    """Counts on S sequences, and the figures derived from them. Can be written as JSON and read again."""

    skeleton: Skeleton
    channels: tuple[str, ...]
    """Names of the network's maps."""
    start: Start
    size: tuple[int, int]
    """(width, height) of the network input in pixels."""
    sourced: tuple[str, ...]
    """Joints that the data label."""
    thresholds: tuple[float, ...]
    """The T thresholds of the keypoint counts, rising."""
    sequences: tuple[EvaluatedSequence, ...]
    pixels: Counts
    """[S, 3, C]: cells that are 1 in both prediction and truth, in the prediction, and in the truth."""
    keypoints: KeypointEvaluation | None
    """None for networks without keypoint maps."""
    pairs: Counts | None
    """[S, 2]: comparisons of correct and wrong pairs of joints (see count_pairs), and those in which the correct pair
    scores higher; None for networks without edge maps."""
    steadiness: Steadiness | None
    """None for networks without keypoint maps, and if the sequences do not have every frame of a video."""
    people: PeopleEvaluation | None = None
    """None for networks that do not group people."""
    tracking: TrackingEvaluation | None = None
    """None for networks that do not group people, and for data without tracks."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Evaluation":
        if self.pixels.shape != (len(self.sequences), 3, len(self.channels)):
            raise ValueError("pixel counts do not fit the sequences and channels")
        for counts, length in _lengths(self.keypoints, len(self.skeleton.joints), len(self.sequences)):
            if counts.predictions.ndim != 2 or counts.predictions.shape[1] != len(self.thresholds):
                raise ValueError("keypoint counts do not fit the thresholds")
            if length is not None and len(counts.labels) != length:
                raise ValueError("keypoint counts do not fit the joints and sequences")
        if self.pairs is not None and self.pairs.shape != (len(self.sequences), 2):
            raise ValueError("pairs do not fit the sequences")
        if self.steadiness and self.steadiness.parts.shape != (len(self.sequences), len(self.thresholds)):
            raise ValueError("steadiness does not fit the sequences and thresholds")
        if self.people and len(self.people.frames) != len(self.sequences):
            raise ValueError("people do not fit the sequences")
        if self.tracking and len(self.tracking.labels) != len(self.skeleton.joints):
            raise ValueError("tracking does not fit the joints")
        return self

    @property
    def unit(self) -> str:
        """Unit of distances."""
        return f"network pixels at {self.size[0]}x{self.size[1]}"

    @property
    def frames(self) -> int:
        """Number of counted frames."""
        return sum(sequence.frames for sequence in self.sequences)

    @property
    def overall_joints(self) -> tuple[str, ...]:
        """Joints of the overall figure: those of BODY_JOINTS (all if the skeleton has none) that the data label."""
        joints = [self.skeleton.joints[i] for i in overall_joints(self.skeleton)]
        return tuple(joint for joint in joints if joint in self.sourced)

    def scores(self, matching: Matching) -> list[Score]:
        """Overall keypoint scores at all thresholds. Raises DataError without keypoint maps."""
        return sweep_scores(self._keypoints.by_sequence.total(), self.thresholds, matching)

    def best(self, matching: Matching) -> Score:
        """The overall keypoint score with the highest F1 on these data. Raises DataError without keypoint maps."""
        return best_score(self.scores(matching))

    def at(self, threshold: float, matching: Matching) -> Score:
        """The overall keypoint score at a threshold. Raises DataError if the threshold was not counted."""
        return self.scores(matching)[self.threshold_index(threshold)]

    def joint_scores(self, threshold: float, matching: Matching) -> dict[str, Score]:
        """Keypoint scores of every labelled joint. Raises DataError as ``at``."""
        i, by_joint = self.threshold_index(threshold), self._keypoints.by_joint
        return {
            joint: sweep_scores(by_joint[self.skeleton.joints.index(joint)], self.thresholds, matching)[i]
            for joint in self.sourced
        }

    def joint_labels(self) -> dict[str, int]:
        """Number of labels of every labelled joint. Raises DataError without keypoint maps."""
        labels = dict(zip(self.skeleton.joints, self._keypoints.by_joint.labels.tolist(), strict=True))
        return {joint: labels[joint] for joint in self.sourced}

    def hidden_recall(self, threshold: float, matching: Matching) -> float:
        """Recall of points under the occluder; NaN without any. Raises DataError as ``at``."""
        counts = self._keypoints.by_sequence.total()
        hits = counts.hidden_hits[self.threshold_index(threshold), MATCHINGS.index(matching)]
        return float(hits / counts.hidden) if counts.hidden else float("nan")

    def hits_over_time(self, threshold: float, matching: Matching) -> list[tuple[int, int, int]]:
        """(frame number, labels, hits) for frames with labels (Figure 7). Raises DataError as ``at``."""
        counts = self._keypoints.by_frame
        hits = counts.hits[:, self.threshold_index(threshold), MATCHINGS.index(matching)]
        pairs = zip(counts.labels.tolist(), hits.tolist(), strict=True)
        return [(number, labels, hit) for number, (labels, hit) in enumerate(pairs) if labels]

    def interval(self, threshold: float, matching: Matching) -> tuple[float, float] | None:
        """95% bootstrap interval of the overall keypoint F1 over sequences; None with fewer than two.

        Raises DataError as ``at``.
        """
        _, _, f1 = self.resampled(resamples(len(self.sequences)), matching)
        return percentiles(f1[:, self.threshold_index(threshold)], len(self.sequences))

    def resampled(self, draws: NDArray[np.int64], matching: Matching) -> tuple[NDArray, NDArray, NDArray]:
        """Overall keypoint precision, recall and F1 of resampled sequences.

        Args:
            draws: [draws, S] how often each sequence is drawn.
            matching: the matching.

        Returns:
            Three arrays [draws, T].

        Raises:
            DataError: the network has no keypoint maps.
        """
        return self._keypoints.by_sequence.resampled(draws).ratios(matching)

    def chosen(self, matching: Matching, precision: float | None = None) -> Score:
        """The best overall keypoint score, or the one at the lowest threshold with this precision.

        If no threshold has this precision, the most precise score. Raises DataError without keypoint maps.
        """
        if precision is None:
            return self.best(matching)
        scores = self.scores(matching)
        enough = [score for score in scores if score.precision >= precision]
        return enough[0] if enough else max(scores, key=lambda score: np.nan_to_num(score.precision))

    def right_pairs(self) -> tuple[int, float, tuple[float, float] | None]:
        """Number of compared pairs of joints, share in which the correct pair scores higher, and its 95% interval.

        The share is NaN without pairs. Raises DataError without edge maps.
        """
        if self.pairs is None:
            raise DataError("a network without edge maps has no pairs of joints")
        pairs, right = self.pairs.sum(axis=0).tolist()
        resampled = resamples(len(self.sequences)) @ self.pairs
        shares = ratio(resampled[:, 1], resampled[:, 0])
        return pairs, float(ratio(right, pairs)), percentiles(shares, len(self.sequences))

    def threshold_index(self, threshold: float) -> int:
        """Index of a threshold in ``thresholds``. Raises DataError if it was not counted."""
        indices = np.flatnonzero(np.isclose(self.thresholds, threshold, rtol=0, atol=1e-9))
        if not len(indices):
            raise DataError(f"threshold {threshold} was not counted; evaluate again with that threshold")
        return int(indices[0])

    def pixel_scores(self) -> dict[str, Score]:
        """Pixel scores of the network's groups: "overall", "mask", "keypoints" and "edges", or "skeleton"."""
        total = self.pixels.sum(axis=0)
        return {group: pixel_score(total[:, indices].sum(axis=1)) for group, indices in self._groups.items()}

    def channel_scores(self) -> dict[str, Score]:
        """Pixel score of every channel."""
        return {
            name: pixel_score(counts) for name, counts in zip(self.channels, self.pixels.sum(axis=0).T, strict=True)
        }

    def pixel_interval(self, group: str) -> tuple[float, float] | None:
        """95% bootstrap interval of the pixel F1 of a group of ``pixel_scores``, as ``interval``."""
        counts = self.pixels[:, :, self._groups[group]].sum(axis=2)
        return percentiles(pixel_ratios(resamples(len(self.sequences)) @ counts)[2], len(self.sequences))

    def merged(self, other: "Evaluation") -> "Evaluation":
        """Both evaluations merged. Raises DataError if their conditions differ."""
        for name in ("skeleton", "channels", "start", "size", "thresholds"):
            if getattr(self, name) != getattr(other, name):
                raise DataError(f"cannot merge evaluations with different {name}; evaluate both in the same way")
        joints = {*self.sourced, *other.sourced}
        return self.model_copy(
            update={
                "sourced": tuple(joint for joint in self.skeleton.joints if joint in joints),
                "sequences": self.sequences + other.sequences,
                "pixels": np.concatenate([self.pixels, other.pixels]),
                "keypoints": _both(self.keypoints, other.keypoints, _merged),
                "pairs": _both(self.pairs, other.pairs, lambda ours, theirs: np.concatenate([ours, theirs])),
                "steadiness": _both(self.steadiness, other.steadiness, Steadiness.merged),
                "people": _both(self.people, other.people, PeopleEvaluation.merged),
                "tracking": _both(self.tracking, other.tracking, TrackingEvaluation.merged),
            }
        )

    @property
    def _keypoints(self) -> KeypointEvaluation:
        if self.keypoints is None:
            raise DataError("a network without keypoint maps has pixel figures only")
        return self.keypoints

    @property
    def _groups(self) -> dict[str, list[int]]:
        return channel_groups(self.skeleton, self.channels)


def overall_joints(skeleton: Skeleton) -> list[int]:
    """Indices of the joints of the overall figure."""
    body = [i for i, joint in enumerate(skeleton.joints) if joint in BODY_JOINTS]
    return body or list(range(len(skeleton.joints)))


def _lengths(
    keypoints: KeypointEvaluation | None, joints: int, sequences: int
) -> list[tuple[KeypointCounts, int | None]]:
    """Counts and the required length of their first axis, None for any."""
    if keypoints is None:
        return []
    return [(keypoints.by_joint, joints), (keypoints.by_sequence, sequences), (keypoints.by_frame, None)]


def _both(ours: Part | None, theirs: Part | None, join: Callable[[Part, Part], Part]) -> Part | None:
    return None if ours is None or theirs is None else join(ours, theirs)


def _merged(ours: KeypointEvaluation, theirs: KeypointEvaluation) -> KeypointEvaluation:
    frames = max(len(ours.by_frame.labels), len(theirs.by_frame.labels))
    return KeypointEvaluation(
        by_joint=ours.by_joint + theirs.by_joint,
        by_sequence=_joined(ours.by_sequence, theirs.by_sequence),
        by_frame=_padded(ours.by_frame, frames) + _padded(theirs.by_frame, frames),
    )


def _joined(first: KeypointCounts, second: KeypointCounts) -> KeypointCounts:
    return stack([*(first[i] for i in range(len(first.labels))), *(second[i] for i in range(len(second.labels)))])


def _padded(counts: KeypointCounts, length: int) -> KeypointCounts:
    missing = length - len(counts.labels)
    return _joined(counts, zeros(counts.predictions.shape[-1], missing)) if missing else counts
