"""PoseTrack's AP and MOTA of people in videos, and how often their numbers change.

After poseval, with these differences: the last frame of a video and labelled frames of nobody count too; a frame in
which nobody is labelled, or found, counts as it is; AP goes by scores in steps of a thousandth.
"""

from collections.abc import Sequence as Several
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.errors import DataError
from stm_skeletons.people import People
from stm_skeletons.strict import Strict
from training.data.sequence import Sequence, SequenceFrame
from training.evaluation.bootstrap import percentiles, resamples
from training.evaluation.head_sizes import head_sizes, match_poses
from training.evaluation.keypoints import Counts, ratio
from training.evaluation.oks import LOWEST
from training.evaluation.tracks import Tracks

STEPS = 1000
"""Of scores from 0 to 1."""
JOINT_COUNTS = ("objects", "misses", "false_positives", "switches")
PERSON_COUNTS = ("labelled", "found", "without_id", "switches", "estimated_heads")


class TrackingEvaluation(Strict):
    """What was counted on S sequences with tracks, NK joints. JSON in, JSON out."""

    person_threshold: float
    """Score from which on people are reported: those count in MOTA, with the joints that were found. In AP everybody
    counts from oks.LOWEST on, with all joints, also those that are only placed."""
    labels: Counts
    """[NK]: labelled joints that AP counts."""
    right: Counts
    """[NK, STEPS]: joints that are right by their score, the lowest first."""
    wrong: Counts
    """[NK, STEPS]"""
    joints: Counts
    """[S, NK, JOINT_COUNTS], for MOTA: labelled joints, and those without a match; found joints without one; switches.
    """
    people: Counts
    """[S, PERSON_COUNTS]: labelled people in frames; of those the ones that somebody reported has joints of; of those,
    the ones without a number; changes of a person's number; and heads whose size is estimated, of the labelled."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "TrackingEvaluation":
        joints, sequences = len(self.labels), len(self.people)
        if not self.right.shape == self.wrong.shape == (joints, STEPS):
            raise ValueError("joints were not counted at the steps of scores")
        if self.joints.shape != (sequences, joints, len(JOINT_COUNTS)) or self.people.shape[1:] != (
            len(PERSON_COUNTS),
        ):
            raise ValueError("tracking counts do not fit the joints and sequences")
        return self

    def joint_ap(self) -> NDArray[np.float64]:
        """[NK]: area under each joint's curve of precision (the best at that recall or a higher one); NaN without
        labels."""
        right, wrong = (np.cumsum(which[:, ::-1], axis=1) for which in (self.right, self.wrong))
        best = np.maximum.accumulate(np.nan_to_num(ratio(right, right + wrong))[:, ::-1], axis=1)[:, ::-1]
        return ratio((np.diff(right, axis=1, prepend=0) * best).sum(axis=1), self.labels)

    def ap(self) -> float:
        """Mean over the joints that are labelled; NaN without any."""
        return _mean(self.joint_ap())

    def joint_mota(self) -> NDArray[np.float64]:
        """[NK]: 1 less (misses + false positives + switches) / labelled joints; NaN without labels."""
        return _mota(self.joints.sum(axis=0))

    def mota(self) -> float:
        """Mean over the joints that are labelled; NaN without any."""
        return _mean(self.joint_mota())

    @cached_property
    def mota_interval(self) -> tuple[float, float] | None:
        """95 % of it over another choice of as many such sequences (bootstrap, always the same); None with fewer than
        two."""
        drawn = _mota(np.tensordot(resamples(len(self.joints)), self.joints, 1))
        return percentiles(np.array([_mean(one) for one in drawn]), len(self.joints))

    def joint_counts(self) -> dict[str, int]:
        """MOTA's counts over all joints."""
        return dict(zip(JOINT_COUNTS, self.joints.sum(axis=(0, 1)).tolist(), strict=True))

    def person_counts(self) -> dict[str, int]:
        """Counts of whole people."""
        return dict(zip(PERSON_COUNTS, self.people.sum(axis=0).tolist(), strict=True))

    def merged(self, other: "TrackingEvaluation") -> "TrackingEvaluation":
        """Both together. Raises DataError when they report people from different thresholds."""
        if self.person_threshold != other.person_threshold:
            raise DataError("cannot merge evaluations of different person_threshold; evaluate both in the same way")
        return TrackingEvaluation(
            person_threshold=self.person_threshold,
            labels=self.labels + other.labels,
            right=self.right + other.right,
            wrong=self.wrong + other.wrong,
            joints=np.concatenate([self.joints, other.joints]),
            people=np.concatenate([self.people, other.people]),
        )


def has_tracks(sequence: Sequence) -> bool:
    """Whether the data tell who is who in the frames of a sequence."""
    return any(frame.tracks is not None and (frame.tracks >= 0).any() for frame in sequence.frames)


class TrackingTally:
    """Counts frame by frame and sequence by sequence."""

    def __init__(self, joints: int, person_threshold: float = PERSON_THRESHOLD) -> None:
        """``joints``: NK; ``person_threshold``: score from which on people are reported."""
        self._threshold = person_threshold
        self._labels = np.zeros(joints, int)
        self._by_score = np.zeros((2, joints, STEPS), int)  # wrong, right
        self._joints: list[NDArray[np.int64]] = []
        self._people: list[NDArray[np.int64]] = []

    def begin(self, sourced: NDArray[np.bool_]) -> None:
        """Go on to the next sequence, whose data label these joints [NK]."""
        self._sourced = sourced
        self._of_joint, self._of_person = [Tracks() for _ in sourced], Tracks()
        self._joints.append(np.zeros((len(sourced), len(JOINT_COUNTS)), int))
        self._people.append(np.zeros(len(PERSON_COUNTS), int))

    def count(self, frame: SequenceFrame, people: People) -> None:
        """Count a frame with the people that were found in it, in network pixels."""
        self._count_scores(frame, people.chosen(people.scores >= np.float32(LOWEST)))
        self._count_tracks(frame, people.chosen(people.scores >= np.float32(self._threshold)))

    def _count_scores(self, frame: SequenceFrame, people: People) -> None:
        scores = people.keypoints[..., 2]
        matches = match_poses(people, scores > 0, frame, self._sourced)
        self._labels += matches.labelled.sum(axis=0)
        person, joint = np.nonzero(matches.found)
        step = np.clip(np.floor(scores[person, joint].astype(float) * STEPS), 0, STEPS - 1).astype(int)
        np.add.at(self._by_score, (matches.right[person, joint].astype(int), joint, step), 1)

    def _count_tracks(self, frame: SequenceFrame, people: People) -> None:
        matches = match_poses(people, people.found, frame, self._sourced)
        tracks = np.full(len(frame.poses), -1) if frame.tracks is None else frame.tracks
        for joint in np.flatnonzero(self._sourced).tolist():
            labelled, found = matches.labelled[:, joint], matches.found[:, joint]
            distances = matches.distances[:, :, joint].T[labelled][:, found]
            counted = self._of_joint[joint].update(tracks[labelled], people.ids[found], distances)
            self._joints[-1][joint] += [labelled.sum(), *counted]
        seen, matched = matches.labelled.any(axis=1), np.flatnonzero(matches.of_label >= 0)
        ids = people.ids[matches.of_label[matched]]
        switches = self._switches(tracks[matched].tolist(), ids.tolist())
        estimated = head_sizes(frame)[1] & seen
        self._people[-1] += [seen.sum(), len(matched), (ids == 0).sum(), switches, estimated.sum()]

    def _switches(self, tracks: Several[int], ids: Several[int]) -> int:
        return sum(self._of_person.follow(track, number) for track, number in zip(tracks, ids, strict=True))

    def result(self) -> TrackingEvaluation | None:
        """All that was counted; None without any sequence."""
        if not self._people:
            return None
        return TrackingEvaluation(
            person_threshold=self._threshold,
            labels=self._labels,
            right=self._by_score[1],
            wrong=self._by_score[0],
            joints=np.stack(self._joints),
            people=np.stack(self._people),
        )


def _mota(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[..., NK] out of counts [..., NK, JOINT_COUNTS]."""
    return 1 - ratio(counts[..., 1:].sum(axis=-1), counts[..., 0])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
