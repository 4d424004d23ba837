"""PoseTrack's AP and MOTA of people in videos, and how often people's ids change.

After poseval, with these differences: the last frame of a video and frames without labelled or found people count, and
AP uses scores in steps of 0.001.
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
"""Number of steps of the scores from 0 to 1."""
JOINT_COUNTS = ("objects", "misses", "false_positives", "switches")
PERSON_COUNTS = ("labelled", "found", "without_id", "switches", "estimated_heads")


class TrackingEvaluation(Strict):
    """Counts on S sequences with tracks, for NK joints. Can be written as JSON and read again."""

    person_threshold: float
    """Lowest score of reported people. MOTA counts the found joints of reported people. AP counts all joints, including
    those placed without a peak, of all people with a score of at least oks.LOWEST."""
    labels: Counts
    """[NK]: labelled joints that AP counts."""
    right: Counts
    """[NK, STEPS]: correct joints by score, lowest first."""
    wrong: Counts
    """[NK, STEPS]: wrong joints by score."""
    joints: Counts
    """[S, NK, JOINT_COUNTS], for MOTA: labelled joints; unmatched labelled joints; unmatched found joints; switches."""
    people: Counts
    """[S, PERSON_COUNTS], summed over frames: labelled people; those matched with a reported person; those of them
    without an id; changes of a person's id; and labelled people whose head size is estimated."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "TrackingEvaluation":
        joints, sequences = len(self.labels), len(self.people)
        if not self.right.shape == self.wrong.shape == (joints, STEPS):
            raise ValueError("counts by score do not fit the joints and steps")
        if self.joints.shape != (sequences, joints, len(JOINT_COUNTS)) or self.people.shape[1:] != (
            len(PERSON_COUNTS),
        ):
            raise ValueError("tracking counts do not fit the joints and sequences")
        return self

    def joint_ap(self) -> NDArray[np.float64]:
        """[NK]: area under each joint's curve of precision over recall, where precision is the best at this recall or a
        higher one; NaN without labels."""
        right, wrong = (np.cumsum(which[:, ::-1], axis=1) for which in (self.right, self.wrong))
        best = np.maximum.accumulate(np.nan_to_num(ratio(right, right + wrong))[:, ::-1], axis=1)[:, ::-1]
        return ratio((np.diff(right, axis=1, prepend=0) * best).sum(axis=1), self.labels)

    def ap(self) -> float:
        """AP, averaged over the labelled joints; NaN without any."""
        return _mean(self.joint_ap())

    def joint_mota(self) -> NDArray[np.float64]:
        """[NK]: 1 - (misses + false positives + switches) / labelled joints; NaN without labels."""
        return _mota(self.joints.sum(axis=0))

    def mota(self) -> float:
        """MOTA, averaged over the labelled joints; NaN without any."""
        return _mean(self.joint_mota())

    @cached_property
    def mota_interval(self) -> tuple[float, float] | None:
        """95% bootstrap interval of MOTA over sequences; None with fewer than two."""
        drawn = _mota(np.tensordot(resamples(len(self.joints)), self.joints, 1))
        return percentiles(np.array([_mean(each) for each in drawn]), len(self.joints))

    def joint_counts(self) -> dict[str, int]:
        """MOTA's counts, summed over all joints."""
        return dict(zip(JOINT_COUNTS, self.joints.sum(axis=(0, 1)).tolist(), strict=True))

    def person_counts(self) -> dict[str, int]:
        """Counts of people, summed over all sequences."""
        return dict(zip(PERSON_COUNTS, self.people.sum(axis=0).tolist(), strict=True))

    def merged(self, other: "TrackingEvaluation") -> "TrackingEvaluation":
        """Both evaluations merged. Raises DataError if their person thresholds differ."""
        if self.person_threshold != other.person_threshold:
            raise DataError("cannot merge evaluations with different person_threshold; evaluate both in the same way")
        return TrackingEvaluation(
            person_threshold=self.person_threshold,
            labels=self.labels + other.labels,
            right=self.right + other.right,
            wrong=self.wrong + other.wrong,
            joints=np.concatenate([self.joints, other.joints]),
            people=np.concatenate([self.people, other.people]),
        )


def has_tracks(sequence: Sequence) -> bool:
    """Whether the data have tracks for a sequence."""
    return any(frame.tracks is not None and (frame.tracks >= 0).any() for frame in sequence.frames)


class TrackingTally:
    """Accumulates counts over frames and sequences."""

    def __init__(self, joints: int, person_threshold: float = PERSON_THRESHOLD) -> None:
        """``joints``: NK; ``person_threshold``: lowest score of reported people."""
        self._threshold = person_threshold
        self._labels = np.zeros(joints, int)
        self._by_score = np.zeros((2, joints, STEPS), int)  # wrong, right
        self._joints: list[NDArray[np.int64]] = []
        self._people: list[NDArray[np.int64]] = []

    def begin(self, sourced: NDArray[np.bool_]) -> None:
        """Begin a sequence whose data label these joints [NK]."""
        self._sourced = sourced
        self._joint_tracks, self._person_tracks = [Tracks() for _ in sourced], Tracks()
        self._joints.append(np.zeros((len(sourced), len(JOINT_COUNTS)), int))
        self._people.append(np.zeros(len(PERSON_COUNTS), int))

    def count(self, frame: SequenceFrame, people: People) -> None:
        """Count a frame with its detected people, in network pixels."""
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
            counts = self._joint_tracks[joint].update(tracks[labelled], people.ids[found], distances)
            self._joints[-1][joint] += [labelled.sum(), *counts]
        is_labelled, matched = matches.labelled.any(axis=1), np.flatnonzero(matches.of_label >= 0)
        ids = people.ids[matches.of_label[matched]]
        switches = self._switches(tracks[matched].tolist(), ids.tolist())
        estimated = head_sizes(frame)[1] & is_labelled
        self._people[-1] += [is_labelled.sum(), len(matched), (ids == 0).sum(), switches, estimated.sum()]

    def _switches(self, tracks: Several[int], ids: Several[int]) -> int:
        return sum(self._person_tracks.is_switch(track, number) for track, number in zip(tracks, ids, strict=True))

    def result(self) -> TrackingEvaluation | None:
        """The counts of all sequences; None without any."""
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
    """MOTA [..., NK] from counts [..., NK, JOINT_COUNTS]."""
    return 1 - ratio(counts[..., 1:].sum(axis=-1), counts[..., 0])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
