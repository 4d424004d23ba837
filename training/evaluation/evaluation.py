"""What was counted of a network on some sequences, and the figures that follow.

Everything is counted and kept, so that evaluations can be merged and figures at any threshold of the sweep taken later.
"""

from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import Strict
from training.evaluation.bootstrap import percentiles, resamples
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

Start = Literal["seed", "cold"]
Part = TypeVar("Part")


class EvaluatedSequence(Strict):
    """What was measured on."""

    name: str
    frames: int
    """Frames that were counted."""
    seeded: bool
    """Whether the first frame's people were given (it is not counted then)."""


class KeypointEvaluation(Strict):
    """Keypoint counts, added up in three ways."""

    by_joint: KeypointCounts
    """[NK, ...], in the order of the skeleton's joints."""
    by_sequence: KeypointCounts
    """[S, ...], over the joints of the overall figure."""
    by_frame: KeypointCounts
    """[longest sequence, ...], by number of the frame from 0, over the joints of the overall figure."""


class Evaluation(Strict):
    """What was counted on some sequences, and the figures that follow. JSON in, JSON out."""

    skeleton: Skeleton
    channels: tuple[str, ...]
    """Of the network."""
    start: Start
    size: tuple[int, int]
    """(width, height) of the network input in pixels."""
    sourced: tuple[str, ...]
    """Joints that the data label."""
    thresholds: tuple[float, ...]
    """T of them, rising: of KeypointCounts."""
    sequences: tuple[EvaluatedSequence, ...]
    pixels: Counts
    """[S, 3, C] for each sequence: cells that are 1 in both prediction and truth, in the prediction, in the truth."""
    keypoints: KeypointEvaluation | None
    """None for networks without keypoint maps."""
    pairs: Counts | None
    """[S, 2] for each sequence: right pairs of joints compared with wrong ones (see count_pairs), and those that score
    higher; None for networks without edge maps."""
    steadiness: Steadiness | None
    """None for networks without keypoint maps, and where the sequences are not every frame of a video."""
    people: PeopleEvaluation | None = None
    """None for networks that tell of no people."""
    tracking: TrackingEvaluation | None = None
    """None likewise, and where the data do not tell who is who from frame to frame."""

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
            raise ValueError("steadiness was not counted for the sequences and thresholds")
        if self.people and len(self.people.frames) != len(self.sequences):
            raise ValueError("people were not counted for the sequences")
        if self.tracking and len(self.tracking.labels) != len(self.skeleton.joints):
            raise ValueError("tracking was not counted for the joints")
        return self

    @property
    def unit(self) -> str:
        """What distances are measured in."""
        return f"network pixels at {self.size[0]}x{self.size[1]}"

    @property
    def frames(self) -> int:
        """Frames that were counted."""
        return sum(sequence.frames for sequence in self.sequences)

    @property
    def overall_joints(self) -> tuple[str, ...]:
        """Joints of the overall figure: those of BODY_JOINTS (of a skeleton that has none, all) that the data label."""
        joints = [self.skeleton.joints[i] for i in overall_joints(self.skeleton)]
        return tuple(joint for joint in joints if joint in self.sourced)

    def scores(self, matching: Matching) -> list[Score]:
        """Overall keypoint scores, one for each threshold. Raises DataError without keypoint maps."""
        return sweep_scores(self._keypoints.by_sequence.total(), self.thresholds, matching)

    def best(self, matching: Matching) -> Score:
        """The overall keypoint score with the highest F1 on these very data. Raises DataError without keypoint maps."""
        return best_score(self.scores(matching))

    def at(self, threshold: float, matching: Matching) -> Score:
        """The overall keypoint score at a threshold chosen elsewhere. Raises DataError when it was not counted."""
        return self.scores(matching)[self.threshold_index(threshold)]

    def joint_scores(self, threshold: float, matching: Matching) -> dict[str, Score]:
        """Keypoint scores of every joint that the data label. Raises DataError as ``at``."""
        i, by_joint = self.threshold_index(threshold), self._keypoints.by_joint
        return {
            joint: sweep_scores(by_joint[self.skeleton.joints.index(joint)], self.thresholds, matching)[i]
            for joint in self.sourced
        }

    def joint_labels(self) -> dict[str, int]:
        """Labels of every joint that the data label. Raises DataError without keypoint maps."""
        labels = dict(zip(self.skeleton.joints, self._keypoints.by_joint.labels.tolist(), strict=True))
        return {joint: labels[joint] for joint in self.sourced}

    def hidden_recall(self, threshold: float, matching: Matching) -> float:
        """Share of the labels covered by an occluder that were found; NaN without any. Raises DataError as ``at``."""
        counts = self._keypoints.by_sequence.total()
        hits = counts.hidden_hits[self.threshold_index(threshold), MATCHINGS.index(matching)]
        return float(hits / counts.hidden) if counts.hidden else float("nan")

    def hits_over_time(self, threshold: float, matching: Matching) -> list[tuple[int, int, int]]:
        """(number of the frame, labels, hits) wherever there are labels (Figure 7). Raises DataError as ``at``."""
        counts = self._keypoints.by_frame
        hits = counts.hits[:, self.threshold_index(threshold), MATCHINGS.index(matching)]
        pairs = zip(counts.labels.tolist(), hits.tolist(), strict=True)
        return [(number, labels, hit) for number, (labels, hit) in enumerate(pairs) if labels]

    def interval(self, threshold: float, matching: Matching) -> tuple[float, float] | None:
        """95 % of the overall keypoint F1 over another choice of as many such sequences (bootstrap, always the same).

        None with fewer than two sequences. Raises DataError as ``at``.
        """
        _, _, f1 = self.resampled(resamples(len(self.sequences)), matching)
        return percentiles(f1[:, self.threshold_index(threshold)], len(self.sequences))

    def resampled(self, draws: NDArray[np.int64], matching: Matching) -> tuple[NDArray, NDArray, NDArray]:
        """Overall precision, recall and F1 of keypoints, [draws, T] each, where sequences are taken as often as
        ``draws`` [draws, S] says. Raises DataError without keypoint maps."""
        return self._keypoints.by_sequence.resampled(draws).ratios(matching)

    def chosen(self, matching: Matching, precision: float | None = None) -> Score:
        """``best``, or the overall keypoint score at the lowest threshold with this precision; the most precise one
        where none has it. Raises DataError without keypoint maps."""
        if precision is None:
            return self.best(matching)
        scores = self.scores(matching)
        enough = [score for score in scores if score.precision >= precision]
        return enough[0] if enough else max(scores, key=lambda score: np.nan_to_num(score.precision))

    def right_pairs(self) -> tuple[int, float, tuple[float, float] | None]:
        """Pairs of joints that were compared, the share of them whose right one scores higher (NaN without any), and
        its 95 % as ``interval``. Raises DataError without edge maps."""
        if self.pairs is None:
            raise DataError("a network without edge maps compares no pairs; ask for its other figures")
        pairs, right = self.pairs.sum(axis=0).tolist()
        resampled = resamples(len(self.sequences)) @ self.pairs
        shares = ratio(resampled[:, 1], resampled[:, 0])
        return pairs, float(ratio(right, pairs)), percentiles(shares, len(self.sequences))

    def threshold_index(self, threshold: float) -> int:
        """Place of a threshold in ``thresholds``. Raises DataError when it was not counted."""
        found = np.flatnonzero(np.isclose(self.thresholds, threshold, rtol=0, atol=1e-9))
        if not len(found):
            raise DataError(f"nothing was counted at threshold {threshold}; evaluate again with that threshold")
        return int(found[0])

    def pixel_scores(self) -> dict[str, Score]:
        """Pixel scores of "overall", "mask", "keypoints" and "edges" as far as the network has them, or "skeleton"."""
        total = self.pixels.sum(axis=0)
        return {group: pixel_score(total[:, indices].sum(axis=1)) for group, indices in self._groups.items()}

    def channel_scores(self) -> dict[str, Score]:
        """Pixel score of every channel."""
        return {
            name: pixel_score(counts) for name, counts in zip(self.channels, self.pixels.sum(axis=0).T, strict=True)
        }

    def pixel_interval(self, group: str) -> tuple[float, float] | None:
        """95 % of the pixel F1 of a group of ``pixel_scores``; as ``interval``."""
        counts = self.pixels[:, :, self._groups[group]].sum(axis=2)
        return percentiles(pixel_ratios(resamples(len(self.sequences)) @ counts)[2], len(self.sequences))

    def merged(self, other: "Evaluation") -> "Evaluation":
        """Both together. Raises DataError when they were not measured in the same way."""
        for name in ("skeleton", "channels", "start", "size", "thresholds"):
            if getattr(self, name) != getattr(other, name):
                raise DataError(f"cannot merge evaluations of different {name}; evaluate both in the same way")
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
            raise DataError("a network without keypoint maps has pixel figures only; ask for those")
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
    """Counts and how long their first axis must be, where that is known."""
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
