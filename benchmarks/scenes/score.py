"""Counts how many joints are assigned to their own person, and how often people's ids change.

Joints are counted instead of peaks: of two peaks next to one joint, a person can have only one, and either is right. A
peak that suppresses another person's peak at the same position is right for both.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.scenes.errors import SURE_PEAK
from benchmarks.scenes.network import NOBODY, Frame
from stm_skeletons.people import People

MIN_PEAKS = 3
"""A person-frame counts for ids if the person has at least this many found peaks; with fewer, no person is grouped."""


@dataclass
class Tally:
    """Counts over the frames of one scene."""

    found: int = 0
    """Visible joints that have a peak with a score of at least SURE_PEAK."""
    own: int = 0
    """Those of ``found`` that are assigned to the reported person matched to their owner."""
    other: int = 0
    """Those of ``found`` that are assigned to a person matched to another true person."""
    duplicate: int = 0
    """Those of ``found`` that are assigned to an unmatched person: the owner is reported twice."""
    unassigned: int = 0
    """Those of ``found`` that are assigned to nobody."""
    own_of_all: int = 0
    """As ``own``, including people whose score is too low to be reported."""
    false_used: int = 0
    """Those of ``false`` that are assigned to a person."""
    false: int = 0
    """False peaks with a score of at least SURE_PEAK."""
    frames: int = 0
    people: int = 0
    """Reported people, summed over the frames."""
    person_frames: int = 0
    """True people with at least MIN_PEAKS found joints, summed over the frames."""
    with_id: int = 0
    """Those of ``person_frames`` that have an id."""
    switches: int = 0
    """Number of times that a person's id differs from the last one."""
    _ids: dict[int, int] = field(default_factory=dict)
    """The last id of each true person."""

    def add(self, frame: Frame, people: People, reported: NDArray[np.bool_]) -> None:
        """Count a frame.

        Args:
            frame: with the ground truth.
            people: the method's result.
            reported: [M] which people have a sufficient score to be reported; only these count.
        """
        joints = found_joints(frame)
        self.own_of_all += int((joints & _Matching(frame, people).own).sum())
        matching = _Matching(frame, people.chosen(reported))
        self.frames += 1
        self.people += int(reported.sum())
        self._count_joints(frame, matching, joints)
        self._count_ids(people.ids[reported], matching.shared, joints.sum(axis=1))

    def _count_joints(self, frame: Frame, matching: "_Matching", joints: NDArray[np.bool_]) -> None:
        wrong = joints & ~matching.own
        self.found += int(joints.sum())
        self.own += int((joints & matching.own).sum())
        for person, joint in zip(*np.nonzero(wrong), strict=True):
            # The person that holds the best of the joint's peaks decides.
            peak = int((frame.owners[joint] == person).any(axis=-1).argmax())
            holder = matching.holder[joint, peak]
            if holder == NOBODY:
                self.unassigned += 1
            elif matching.true_person[holder] == NOBODY:
                self.duplicate += 1
            else:
                self.other += 1
        false = (frame.owners[..., 0] == NOBODY) & (frame.found.peaks[..., 2] >= SURE_PEAK)
        self.false += int(false.sum())
        self.false_used += int((false & (matching.holder >= 0)).sum())

    def _count_ids(self, ids: NDArray, shared: NDArray, joints: NDArray[np.int64]) -> None:
        """Count ids as CLEAR MOT does: a person keeps the last id if most peaks under it are the person's. The others
        are matched with the most peaks in common."""
        counted = np.flatnonzero(joints >= MIN_PEAKS)
        self.person_frames += len(counted)
        good = np.where((ids[:, None] > 0) & (2 * shared >= shared.sum(axis=1, keepdims=True)), shared, 0)
        by_id = {int(number): row for row, number in enumerate(ids) if number > 0}
        pairs = {}
        for person, number in self._ids.items():
            row = by_id.get(number)
            if row is not None and person < good.shape[1] and good[row, person]:
                pairs[person] = number
                good[row], good[:, person] = 0, 0
        pairs |= {person: int(ids[row]) for row, person in _matched(good).items()}
        self.with_id += sum(int(person) in pairs for person in counted)
        self.switches += sum(self._ids.get(person, number) != number for person, number in pairs.items())
        self._ids |= pairs


class _Matching:
    """Reported people matched with true people by the peaks they have in common."""

    def __init__(self, frame: Frame, people: People) -> None:
        owners = frame.owners
        self.holder = np.full(owners.shape[:2], NOBODY)
        """[17, K]: the index in ``people`` that each peak is assigned to."""
        person, joint = np.nonzero(people.found)
        self.holder[joint, people.peaks[person, joint]] = person
        self.shared = np.zeros((len(people), len(frame.centred)), int)
        """[M, true people]: peaks in common."""
        for owner in (owners[..., 0], owners[..., 1]):
            real = (self.holder >= 0) & (owner >= 0)
            np.add.at(self.shared, (self.holder[real], owner[real]), 1)
        self.true_person = np.full(len(people), NOBODY)
        """[M]: the true person that each is matched to."""
        self.own = np.zeros((len(frame.centred), owners.shape[0]), bool)
        """[true people, 17]: joints of the matched person that have a right peak."""
        for row, person in _matched(self.shared).items():
            self.true_person[row] = person
            has = np.flatnonzero(people.found[row])
            self.own[person, has] = (owners[has, people.peaks[row, has]] == person).any(axis=-1)


def found_joints(frame: Frame, lowest: float = SURE_PEAK) -> NDArray[np.bool_]:
    """[M, 17]: visible joints of the true people that have a peak with at least this score."""
    sure = frame.visible & (frame.found.peaks[..., 2] >= lowest)
    found = np.zeros((len(frame.centred), len(sure)), bool)
    joint, peak = np.nonzero(sure)
    found[frame.owners[joint, peak, 0], joint] = True
    return found


def _matched(shared: NDArray[np.int64]) -> dict[int, int]:
    """Column by row: the one-to-one matching with the largest sum of shared peaks."""
    rows, columns = linear_sum_assignment(-shared)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if shared[row, column]}
