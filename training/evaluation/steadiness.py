"""How steady parts are on video: what flickers for a single frame, and how soon people who walk in are found.

Both are counted at every threshold of a sweep, over the joints of the overall figure that the data label. A part is a
peak of a joint's map at or above the threshold.
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
"""Who is first labelled after this frame of a sequence, counted from 0, walks in."""
FOUND_JOINTS = 3
"""Somebody is found when so many of the labelled joints are, or half of them where fewer than twice as many are."""


class WalkIn(Strict):
    """Somebody who comes into view during a sequence."""

    sequence: int
    """Number of the sequence in the evaluation."""
    track: int
    """Of the data set."""
    first: int
    """Number of the first frame in which a joint is labelled."""
    delays: tuple[int | None, ...]
    """[T]: frames from there to the first in which the person is found, None for never, at each threshold."""


class Steadiness(Strict):
    """What was counted, of S sequences at T thresholds."""

    parts: Counts
    """[S, T]: parts in frames that have one before and one after."""
    appearing: Counts
    """[S, T]: of those, the ones with no part of that joint within RADIUS in the frame before nor in the one after."""
    vanishing: Counts
    """[S, T]: parts in the frame before with one of that joint within RADIUS in the frame after, none in the middle."""
    walk_ins: tuple[WalkIn, ...]

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Steadiness":
        shape = self.parts.shape
        if len(shape) != 2 or self.appearing.shape != shape or self.vanishing.shape != shape:
            raise ValueError("what appears and vanishes was not counted for the same sequences and thresholds")
        if any(len(one.delays) != shape[1] or not 0 <= one.sequence < shape[0] for one in self.walk_ins):
            raise ValueError("people who walk in do not fit the sequences and thresholds")
        return self

    def flicker(self) -> NDArray[np.float64]:
        """[T]: (appearing + vanishing) / parts; NaN where there are no parts."""
        return ratio((self.appearing + self.vanishing).sum(axis=0), self.parts.sum(axis=0))

    def merged(self, other: "Steadiness") -> "Steadiness":
        """Both together, the other's sequences after these."""
        later = tuple(one.model_copy(update={"sequence": one.sequence + len(self.parts)}) for one in other.walk_ins)
        return Steadiness(
            parts=np.concatenate([self.parts, other.parts]),
            appearing=np.concatenate([self.appearing, other.appearing]),
            vanishing=np.concatenate([self.vanishing, other.vanishing]),
            walk_ins=self.walk_ins + later,
        )


def flicker_at_recall(recalls: Several[float], flicker: NDArray[np.float64], recall: float) -> float:
    """Flicker at a recall, by linear interpolation over a sweep; NaN where the sweep does not reach it.

    Args:
        recalls, flicker: [T] at rising thresholds, so recalls do not rise.
        recall: wanted.
    """
    # Of thresholds with the same recall the highest counts: the fewest parts for what is found.
    known = {found: value for found, value in zip(recalls, flicker.tolist(), strict=True) if not np.isnan(value)}
    points = sorted(known.items())
    if not points or not points[0][0] <= recall <= points[-1][0]:
        return float("nan")
    return float(np.interp(recall, [found for found, _ in points], [value for _, value in points]))


@dataclass(frozen=True)
class Delays:
    """How soon people who walk in are found, against something else on the same sequences; "either" is one of both."""

    walk_ins: int
    found: int
    """By either."""
    never: int
    """Of ``found``, those that ours never finds."""
    never_other: int
    """Of ``found``, those that the other never finds."""
    median: float
    """Of our delay less the other's in frames, over ``found``: of an even number the later of the two in the middle;
    infinite where ours never finds, minus infinite where only ours does, NaN without any."""
    no_later: float
    """Share of ``found`` that ours finds no later; NaN without any."""


def compare_walk_ins(ours: Steadiness, threshold: int, other: Steadiness, other_threshold: int) -> Delays:
    """Delays of people who walk in, each at the threshold of that index. Both must be of the same sequences."""
    differences, never, never_other = [], 0, 0
    for one, same in zip(ours.walk_ins, other.walk_ins, strict=True):
        delay, before = one.delays[threshold], same.delays[other_threshold]
        if delay is None and before is None:
            continue
        never += delay is None
        never_other += before is None
        differences.append(_or_infinite(delay) - _or_infinite(before))
    return Delays(
        walk_ins=len(ours.walk_ins),
        found=len(differences),
        never=never,
        never_other=never_other,
        median=median_high(differences) if differences else float("nan"),
        no_later=float(ratio(sum(difference <= 0 for difference in differences), len(differences))),
    )


def median_delay(steadiness: Steadiness, threshold: int) -> float:
    """Frames until people who walk in are found, at the threshold of that index; infinite where most never are, NaN
    without any."""
    delays = [_or_infinite(one.delays[threshold]) for one in steadiness.walk_ins]
    return median_high(delays) if delays else float("nan")


def _or_infinite(delay: int | None) -> float:
    return float("inf") if delay is None else delay


class SteadinessTally:
    """Counts frame by frame and sequence by sequence."""

    def __init__(self, thresholds: tuple[float, ...], joints: list[int]) -> None:
        """``joints``: indices of those that count."""
        self._thresholds = np.array(thresholds)
        self._all_joints = joints
        self._counts: list[NDArray[np.int64]] = []  # [3, T] of each sequence: parts, appearing, vanishing
        self._walk_ins: list[WalkIn] = []

    def begin(self, sequence: Sequence) -> None:
        """Go on to the next sequence."""
        self._joints = [joint for joint in self._all_joints if sequence.sourced[joint]]
        self._counts.append(np.zeros((3, len(self._thresholds)), np.int64))
        self._peaks: list[NDArray[np.float32]] = []
        # Of all frames, also of a first one that is not counted: who is there then does not walk in.
        self._firsts = _first_frames(sequence, self._joints)
        self._delays = {
            track: np.full(len(self._thresholds), -1) for track, first in self._firsts.items() if first > WALKS_IN_AFTER
        }

    def count(self, number: int, frame: SequenceFrame, peaks: NDArray[np.float32]) -> None:
        """Count a frame, the one after the last that was counted.

        Args:
            number: of the frame from 0.
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
                seen = found_at(frame, person, self._joints, peaks, self._thresholds)
                delays = self._delays[track]
                delays[seen & (delays < 0)] = number - self._firsts[track]

    def end(self) -> None:
        """The sequence is over."""
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
        """All that was counted."""
        parts, appearing, vanishing = np.stack(self._counts, axis=1)
        return Steadiness(parts=parts, appearing=appearing, vanishing=vanishing, walk_ins=tuple(self._walk_ins))


def count_flicker(before: NDArray, middle: NDArray, after: NDArray, thresholds: NDArray) -> NDArray[np.int64]:
    """[3, T]: parts in the middle of three consecutive frames, those that appear for it alone, and those that vanish
    for it alone (see Steadiness), for peaks [joints, K, 3] of each frame."""

    def near(here: NDArray, there: NDArray) -> NDArray:
        return best_near(here[..., :2], there)[None] >= levels

    levels = thresholds[:, None, None]
    in_middle, in_before = middle[None, ..., 2] >= levels, before[None, ..., 2] >= levels
    appearing = in_middle & ~near(middle, before) & ~near(middle, after)
    vanishing = in_before & near(before, after) & ~near(before, middle)
    return np.stack([which.sum(axis=(1, 2)) for which in (in_middle, appearing, vanishing)])


def best_near(points: NDArray, peaks: NDArray) -> NDArray[np.float64]:
    """[joints, N]: score of the best of the peaks [joints, K, 3] of the same joint within RADIUS of each of the points
    [joints, N, 2]; 0 where there is none."""
    distance = np.linalg.norm(points[:, :, None].astype(float) - peaks[:, None, :, :2], axis=-1)
    return np.where(distance <= RADIUS, peaks[:, None, :, 2], 0).max(axis=-1, initial=0)


def found_at(
    frame: SequenceFrame, person: int, joints: list[int], peaks: NDArray, thresholds: NDArray
) -> NDArray[np.bool_]:
    """[T]: whether enough of a person's labelled joints have a part within RADIUS; False for one without any.

    Args:
        joints: indices of those that count.
        peaks: [joints, K, 3] of these.
    """
    labelled = frame.inside[person, joints]
    scores = best_near(frame.poses[person, joints, None, :2][labelled], peaks[labelled])[:, 0]
    needed = min(FOUND_JOINTS, len(scores) / 2)
    return (scores[:, None] >= thresholds).sum(axis=0) >= (needed or np.inf)


def _first_frames(sequence: Sequence, joints: list[int]) -> dict[int, int]:
    """Number of the first frame in which a joint of each track is labelled and inside, in order of appearance."""
    firsts: dict[int, int] = {}
    for number, frame in enumerate(sequence.frames):
        if frame.tracks is not None:
            for track in frame.tracks[frame.inside[:, joints].any(axis=1)].tolist():
                firsts.setdefault(track, number)
    return {track: first for track, first in firsts.items() if track >= 0}
