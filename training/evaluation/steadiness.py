"""Steadiness on video: parts that flicker for a single frame, and the delay until people who walk in are found.

Both are counted at every threshold of the sweep, over the labelled joints of the overall figure. A part is a peak of a
joint's map with at least the threshold's score.
"""

from collections.abc import Sequence as Several
from dataclasses import dataclass
from statistics import median_high

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from stm_skeletons.strict import Strict
from training.data.sequence import Sequence, SequenceFrame
from training.evaluation.keypoints import RADIUS, Counts, ratio

WALKS_IN_AFTER = 5
"""People who are first labelled after this frame of a sequence, counted from 0, walk in."""
FOUND_JOINTS = 3
"""A person is found with this many of the labelled joints, or with half of them if fewer than twice as many are
labelled."""


class WalkIn(Strict):
    """A person who comes into view during a sequence."""

    sequence: int
    """Number of the sequence in the evaluation."""
    track: int
    """Track in the data set."""
    first: int
    """First frame in which a joint is labelled."""
    delays: tuple[int | None, ...]
    """[T]: frames from ``first`` until the person is found, at each threshold; None for never."""


class Steadiness(Strict):
    """Counts on S sequences at T thresholds."""

    parts: Counts
    """[S, T]: parts in frames that have a frame before and after."""
    appearing: Counts
    """[S, T]: those of ``parts`` without a part of the same joint within RADIUS in the frames before and after."""
    vanishing: Counts
    """[S, T]: parts in a frame with one of the same joint within RADIUS two frames later, but none in between."""
    walk_ins: tuple[WalkIn, ...]

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Steadiness":
        shape = self.parts.shape
        if len(shape) != 2 or self.appearing.shape != shape or self.vanishing.shape != shape:
            raise ValueError("shapes of parts, appearing and vanishing differ")
        if any(len(each.delays) != shape[1] or not 0 <= each.sequence < shape[0] for each in self.walk_ins):
            raise ValueError("walk-ins do not fit the sequences and thresholds")
        return self

    def flicker(self) -> NDArray[np.float64]:
        """[T]: (appearing + vanishing) / parts; NaN without parts."""
        return ratio((self.appearing + self.vanishing).sum(axis=0), self.parts.sum(axis=0))

    def merged(self, other: "Steadiness") -> "Steadiness":
        """Both merged, with the other's sequences after these."""
        later = tuple(each.model_copy(update={"sequence": each.sequence + len(self.parts)}) for each in other.walk_ins)
        return Steadiness(
            parts=np.concatenate([self.parts, other.parts]),
            appearing=np.concatenate([self.appearing, other.appearing]),
            vanishing=np.concatenate([self.vanishing, other.vanishing]),
            walk_ins=self.walk_ins + later,
        )


def flicker_at_recall(recalls: Several[float], flicker: NDArray[np.float64], recall: float) -> float:
    """Flicker at a recall, by linear interpolation over the sweep; NaN if the sweep does not include the recall.

    Args:
        recalls, flicker: [T] at rising thresholds, so recalls do not rise.
        recall: the recall.
    """
    # Of thresholds with equal recall, the highest one counts, because it has the fewest parts.
    known = {found: value for found, value in zip(recalls, flicker.tolist(), strict=True) if not np.isnan(value)}
    points = sorted(known.items())
    if not points or not points[0][0] <= recall <= points[-1][0]:
        return float("nan")
    return float(np.interp(recall, [found for found, _ in points], [value for _, value in points]))


@dataclass(frozen=True)
class Delays:
    """Delays until walk-ins are found, compared with those of another network on the same sequences."""

    walk_ins: int
    found: int
    """Walk-ins found by either network."""
    never: int
    """Those of ``found`` that our network never finds."""
    never_other: int
    """Those of ``found`` that the other network never finds."""
    median: float
    """Median over ``found`` of our delay minus the other's, in frames; of two middle values the larger one. A walk-in
    that ours never finds counts as infinite, one that only ours finds as minus infinite. NaN without any."""
    no_later: float
    """Share of ``found`` that ours finds no later than the other; NaN without any."""


def compare_walk_ins(ours: Steadiness, threshold: int, other: Steadiness, other_threshold: int) -> Delays:
    """Compare the delays of two networks on the same sequences, each at the threshold with the given index."""
    differences, never, never_other = [], 0, 0
    for own_walk_in, other_walk_in in zip(ours.walk_ins, other.walk_ins, strict=True):
        delay, other_delay = own_walk_in.delays[threshold], other_walk_in.delays[other_threshold]
        if delay is None and other_delay is None:
            continue
        never += delay is None
        never_other += other_delay is None
        differences.append(_or_infinite(delay) - _or_infinite(other_delay))
    return Delays(
        walk_ins=len(ours.walk_ins),
        found=len(differences),
        never=never,
        never_other=never_other,
        median=median_high(differences) if differences else float("nan"),
        no_later=float(ratio(sum(difference <= 0 for difference in differences), len(differences))),
    )


def median_delay(steadiness: Steadiness, threshold: int) -> float:
    """Median delay of walk-ins in frames, at the threshold with this index; infinite if most are never found, NaN
    without any."""
    delays = [_or_infinite(each.delays[threshold]) for each in steadiness.walk_ins]
    return median_high(delays) if delays else float("nan")


def _or_infinite(delay: int | None) -> float:
    return float("inf") if delay is None else delay


class SteadinessTally:
    """Accumulates counts over frames and sequences."""

    def __init__(self, thresholds: tuple[float, ...], joints: list[int]) -> None:
        """``joints``: indices of the joints that count."""
        self._thresholds = np.array(thresholds)
        self._all_joints = joints
        self._counts: list[NDArray[np.int64]] = []  # [3, T] for each sequence: parts, appearing, vanishing
        self._walk_ins: list[WalkIn] = []

    def begin(self, sequence: Sequence) -> None:
        """Begin a sequence."""
        self._joints = [joint for joint in self._all_joints if sequence.sourced[joint]]
        self._counts.append(np.zeros((3, len(self._thresholds)), np.int64))
        self._peaks: list[NDArray[np.float32]] = []
        # Includes a first frame that is not counted: people who are there then do not walk in.
        self._firsts = _first_frames(sequence, self._joints)
        self._delays = {
            track: np.full(len(self._thresholds), -1) for track, first in self._firsts.items() if first > WALKS_IN_AFTER
        }

    def count(self, number: int, frame: SequenceFrame, peaks: NDArray[np.float32]) -> None:
        """Count the next frame.

        Args:
            number: frame number from 0.
            frame: with labels and tracks.
            peaks: [NK, K, 3] x, y in network pixels, score.
        """
        peaks = peaks[self._joints]
        self._peaks = [*self._peaks[-2:], peaks]
        if len(self._peaks) == 3:
            before, middle, after = self._peaks
            self._counts[-1] += count_flicker(before, middle, after, self._thresholds)
        for person, track in enumerate([] if frame.tracks is None else frame.tracks.tolist()):
            if track in self._delays:
                found = found_at(frame, person, self._joints, peaks, self._thresholds)
                delays = self._delays[track]
                delays[found & (delays < 0)] = number - self._firsts[track]

    def end(self) -> None:
        """End the sequence."""
        for track, delays in self._delays.items():
            self._walk_ins.append(
                WalkIn(
                    sequence=len(self._counts) - 1,
                    track=track,
                    first=self._firsts[track],
                    delays=tuple(None if delay < 0 else delay for delay in delays.tolist()),
                )
            )

    def result(self) -> Steadiness:
        """The counts of all sequences."""
        parts, appearing, vanishing = np.stack(self._counts, axis=1)
        return Steadiness(parts=parts, appearing=appearing, vanishing=vanishing, walk_ins=tuple(self._walk_ins))


def count_flicker(before: NDArray, middle: NDArray, after: NDArray, thresholds: NDArray) -> NDArray[np.int64]:
    """Counts [3, T] for the middle of three frames: its parts, those that appear in it only, and those that vanish in
    it only (see Steadiness). The frames are given as peaks [joints, K, 3]."""

    def near(here: NDArray, there: NDArray) -> NDArray:
        return best_near(here[..., :2], there)[None] >= levels

    levels = thresholds[:, None, None]
    in_middle, in_before = middle[None, ..., 2] >= levels, before[None, ..., 2] >= levels
    appearing = in_middle & ~near(middle, before) & ~near(middle, after)
    vanishing = in_before & near(before, after) & ~near(before, middle)
    return np.stack([which.sum(axis=(1, 2)) for which in (in_middle, appearing, vanishing)])


def best_near(points: NDArray, peaks: NDArray) -> NDArray[np.float64]:
    """[joints, N]: best score of the same joint's peaks [joints, K, 3] within RADIUS of each point [joints, N, 2]; 0
    without any."""
    distance = np.linalg.norm(points[:, :, None].astype(float) - peaks[:, None, :, :2], axis=-1)
    return np.where(distance <= RADIUS, peaks[:, None, :, 2], 0).max(axis=-1, initial=0)


def found_at(
    frame: SequenceFrame, person: int, joints: list[int], peaks: NDArray, thresholds: NDArray
) -> NDArray[np.bool_]:
    """[T]: whether enough of a person's labelled joints have a part within RADIUS; False without labelled joints.

    Args:
        frame: with the labels.
        person: index of the person.
        joints: indices of the joints that count.
        peaks: [joints, K, 3] peaks of these joints.
        thresholds: [T].
    """
    labelled = frame.inside[person, joints]
    scores = best_near(frame.poses[person, joints, None, :2][labelled], peaks[labelled])[:, 0]
    needed = min(FOUND_JOINTS, len(scores) / 2)
    return (scores[:, None] >= thresholds).sum(axis=0) >= (needed or np.inf)


def _first_frames(sequence: Sequence, joints: list[int]) -> dict[int, int]:
    """First frame in which a joint of each track is labelled and inside, in order of appearance."""
    firsts: dict[int, int] = {}
    for number, frame in enumerate(sequence.frames):
        if frame.tracks is not None:
            for track in frame.tracks[frame.inside[:, joints].any(axis=1)].tolist():
                firsts.setdefault(track, number)
    return {track: first for track, first in firsts.items() if track >= 0}
