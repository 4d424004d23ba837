"""How many peaks went to their own person, and how often people changed their number.

Joints are counted, not peaks: where the network has two peaks beside one joint, only one can be the person's, and
either is right. A peak that hides another person's at the same place is right for both.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.scenes.errors import SURE_PEAK
from benchmarks.scenes.network import NOBODY, Frame
from stm_skeletons.people import People

FEWEST_PEAKS = 3
"""Found peaks of a person from which on a frame of his or hers counts for numbers: of fewer nobody could be made."""


@dataclass
class Tally:
    """Counts over the frames of one scene."""

    found: int = 0
    """Visible joints that have a peak scored SURE_PEAK or more."""
    own: int = 0
    """Of these, those whose peak is in the person who is matched to their owner."""
    anothers: int = 0
    """Those in a person who is matched to somebody else."""
    split: int = 0
    """Those in a person who is matched to nobody: the owner is reported twice, or as a ghost."""
    left: int = 0
    """Those in nobody."""
    own_of_all: int = 0
    """As ``own``, when people who score too little to be reported count too."""
    taken_false: int = 0
    """False peaks, scored SURE_PEAK or more, that are in somebody,"""
    false: int = 0
    """of so many."""
    frames: int = 0
    people: int = 0
    """Reported, over all frames."""
    person_frames: int = 0
    """With FEWEST_PEAKS or more."""
    followed: int = 0
    """Of these, those with a number."""
    switches: int = 0
    """Times that a person's number is another than last time."""
    _numbers: dict[int, int] = field(default_factory=dict)
    """The last number of each person."""

    def add(self, frame: Frame, people: People, reported: NDArray[np.bool_]) -> None:
        """Count one frame.

        Args:
            frame: what is true.
            people: what was made of it.
            reported: [M]: those who score enough to be reported; only they count.
        """
        joints = found_joints(frame)
        self.own_of_all += int((joints & _Shares(frame, people).own).sum())
        some = _Shares(frame, people.chosen(reported))
        self.frames += 1
        self.people += int(reported.sum())
        self._count_joints(frame, some, joints)
        self._count_numbers(people.ids[reported], some.shared, joints.sum(axis=1))

    def _count_joints(self, frame: Frame, shares: "_Shares", joints: NDArray[np.bool_]) -> None:
        wrong = joints & ~shares.own
        self.found += int(joints.sum())
        self.own += int((joints & shares.own).sum())
        for person, joint in zip(*np.nonzero(wrong), strict=True):
            # Whoever has the surest of the joint's peaks.
            peak = int((frame.owners[joint] == person).any(axis=-1).argmax())
            holder = shares.holder[joint, peak]
            if holder == NOBODY:
                self.left += 1
            elif shares.true_of[holder] == NOBODY:
                self.split += 1
            else:
                self.anothers += 1
        false = (frame.owners[..., 0] == NOBODY) & (frame.found.peaks[..., 2] >= SURE_PEAK)
        self.false += int(false.sum())
        self.taken_false += int((false & (shares.holder >= 0)).sum())

    def _count_numbers(self, ids: NDArray, shared: NDArray, joints: NDArray[np.int64]) -> None:
        """As CLEAR MOT: who keeps the number has it, if most of what goes by that number is his or hers; the others are
        matched as well as can be."""
        counted = np.flatnonzero(joints >= FEWEST_PEAKS)
        self.person_frames += len(counted)
        good = np.where((ids[:, None] > 0) & (2 * shared >= shared.sum(axis=1, keepdims=True)), shared, 0)
        by_id = {int(number): row for row, number in enumerate(ids) if number > 0}
        pairs = {}
        for person, number in self._numbers.items():
            row = by_id.get(number)
            if row is not None and person < good.shape[1] and good[row, person]:
                pairs[person] = number
                good[row], good[:, person] = 0, 0
        pairs |= {person: int(ids[row]) for row, person in _matched(good).items()}
        self.followed += sum(int(person) in pairs for person in counted)
        self.switches += sum(self._numbers.get(person, number) != number for person, number in pairs.items())
        self._numbers |= pairs


class _Shares:
    """Who has whose peaks in a frame."""

    def __init__(self, frame: Frame, people: People) -> None:
        owners = frame.owners
        self.holder = np.full(owners.shape[:2], NOBODY)
        """[17, K]: who among ``people`` has each peak."""
        person, joint = np.nonzero(people.found)
        self.holder[joint, people.peaks[person, joint]] = person
        self.shared = np.zeros((len(people), len(frame.centred)), int)
        """[M, true people]: peaks in common."""
        for owner in (owners[..., 0], owners[..., 1]):
            real = (self.holder >= 0) & (owner >= 0)
            np.add.at(self.shared, (self.holder[real], owner[real]), 1)
        self.true_of = np.full(len(people), NOBODY)
        """[M]: the true person that each is matched to."""
        self.own = np.zeros((len(frame.centred), owners.shape[0]), bool)
        """[true people, 17]: joints that have one of their own peaks."""
        for row, person in _matched(self.shared).items():
            self.true_of[row] = person
            has = np.flatnonzero(people.found[row])
            self.own[person, has] = (owners[has, people.peaks[row, has]] == person).any(axis=-1)


def found_joints(frame: Frame, lowest: float = SURE_PEAK) -> NDArray[np.bool_]:
    """[M, 17]: visible joints of the true people that have a peak with at least that score."""
    sure = frame.visible & (frame.found.peaks[..., 2] >= lowest)
    found = np.zeros((len(frame.centred), len(sure)), bool)
    joint, peak = np.nonzero(sure)
    found[frame.owners[joint, peak, 0], joint] = True
    return found


def _matched(shared: NDArray[np.int64]) -> dict[int, int]:
    """The matching of rows to columns with most in common."""
    rows, columns = linear_sum_assignment(-shared)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if shared[row, column]}
