"""A frame of a sequence with ground truth: assigns its detected peaks and centres to people."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.scenes.errors import LOWEST_CENTRE, LOWEST_PEAK, own_reach
from benchmarks.scenes.tracks import EDGES, JOINTS
from stm_skeletons.detections import Detections

MIN_LABELLED = 10
"""Smallest number of labelled joints of a donor, of 13."""
OWN_CENTRE = 0.4
"""A centre is a person's if its expected joints are at most this far from the true ones on average, in sizes."""
_OF_BOX = 0.8
"""A person's size is at least this share of the diagonal of the person's box."""


def whole_people(poses: NDArray) -> NDArray[np.bool_]:
    """[P]: which of poses [P, 17, 3] have enough labelled joints for a donor."""
    return (poses[:, list(JOINTS), 2] > 0).sum(axis=1) >= MIN_LABELLED


def boxes(poses: NDArray) -> tuple[NDArray, NDArray]:
    """Corners [P, 2], [P, 2] of the boxes around the 13 joints of poses [P, 17, 3]; 0 without labelled joints."""
    pose = poses[:, list(JOINTS)]
    known = pose[..., 2:] > 0
    low = np.where(known, pose[..., :2], np.inf).min(axis=1)
    high = np.where(known, pose[..., :2], -np.inf).max(axis=1)
    some = known.any(axis=1)
    return np.where(some, low, 0), np.where(some, high, 0)


class View:
    """A frame with the owner of each peak and centre."""

    def __init__(self, poses: NDArray, seen: NDArray, inside: NDArray, corners: NDArray, found: Detections) -> None:
        self.xy, self.inside, self.seen = poses[..., :2], inside, seen
        self.labelled = poses[..., 2] > 0
        whole = np.zeros((len(poses), 17, 3))
        whole[:, list(JOINTS)] = poses
        self.low, self.high = boxes(whole)
        # For people with few labelled joints, the labelled box gives a better size; it is larger than the joints' box.
        extent = np.linalg.norm(corners[:, 2] - corners[:, 0], axis=-1)
        self.sizes = np.maximum(np.linalg.norm(self.high - self.low, axis=1), np.maximum(_OF_BOX * extent, 1))
        self.peaks, self.previous = found.peaks[list(JOINTS)], found.previous[0][list(JOINTS)]
        self.edge_scores = found.edge_scores[list(EDGES)]
        kept = found.centres[:, 2] >= LOWEST_CENTRE
        self.centres, self.expected = found.centres[kept], found.centre_joints[kept][:, list(JOINTS)]
        self.own_peak = np.full(self.inside.shape, -1)
        for joint in range(len(JOINTS)):
            self._match_peaks(joint)
        self.centre_error = self._centre_errors()
        self.own_centre = self._match_centres()

    def _match_peaks(self, joint: int) -> None:
        people = np.flatnonzero(self.inside[:, joint])
        peaks = self.peaks[joint]
        distance = np.linalg.norm(self.xy[people, joint][:, None] - peaks[None, :, :2], axis=-1)
        reach = own_reach(self.sizes[people])[:, None]
        near = np.logical_and(distance <= reach, peaks[:, 2] >= LOWEST_PEAK)
        for row, column in zip(*linear_sum_assignment(np.where(near, distance / reach - 5, 0)), strict=True):
            if near[row, column]:
                self.own_peak[people[row], joint] = column

    def _centre_errors(self) -> NDArray[np.float64]:
        """[P, C]: mean distance in sizes between each centre's expected joints and each person's joints."""
        distance = np.linalg.norm(self.expected[None] - self.xy[:, None], axis=-1)
        count = np.maximum(self.labelled.sum(axis=1), 1)
        mean = (distance * self.labelled[:, None]).sum(axis=-1) / count[:, None] / self.sizes[:, None]
        return np.where(np.asarray(self.labelled.any(axis=1))[:, None], mean, np.inf)

    def _match_centres(self) -> NDArray[np.int64]:
        own = np.full(len(self.xy), -1)
        near = np.less(self.centre_error, OWN_CENTRE)
        for row, column in zip(*linear_sum_assignment(np.where(near, self.centre_error - 5, 0)), strict=True):
            if near[row, column]:
                own[row] = column
        return own

    def middle(self, person: int) -> NDArray:
        """[2]: mean of the labelled joints."""
        return self.xy[person, self.labelled[person]].mean(axis=0)
