"""The people of a frame: their joints, scores and ids."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class People:
    """M people of one frame, best first; NK joints each, in the skeleton's order.

    The pixels are those of the producer: the network's inside a session, the source frame's in ``Parts``.
    """

    scores: NDArray[np.float32]
    """[M] in [0, 1]: confidence that this is one person."""
    keypoints: NDArray[np.float32]
    """[M, NK, 3]: x, y and score of each joint; all zero for an unknown joint."""
    peaks: NDArray[np.int64]
    """[M, NK]: index of the joint's peak that belongs to this person; -1 for none. No peak belongs to two people."""
    ids: NDArray[np.int64]
    """[M]: identity of the person from frame to frame, from 1; 0 until a second frame confirms the person."""

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def found(self) -> NDArray[np.bool_]:
        """[M, NK]: joints that were detected (not predicted or unknown)."""
        return self.peaks >= 0

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """[M, NK]: joints that were not detected but predicted from the person's centre."""
        return ~self.found & (self.keypoints[..., 2] > 0)

    def boxes(self) -> NDArray[np.float32]:
        """[M, 4]: left, top, width and height of the box around found joints (if none were found: known joints)."""
        known = np.where(self.found.any(1, keepdims=True), self.found, self.keypoints[..., 2] > 0)[..., None]
        low = np.where(known, self.keypoints[..., :2], np.inf).min(axis=1, initial=np.inf)
        high = np.where(known, self.keypoints[..., :2], -np.inf).max(axis=1, initial=-np.inf)
        return np.column_stack([low, high - low]).astype(np.float32).reshape(-1, 4)

    def chosen(self, which: NDArray) -> "People":
        """Return a selection: indices or a mask [M]."""
        return People(self.scores[which], self.keypoints[which], self.peaks[which], self.ids[which])

    def placed(self, xy: NDArray) -> "People":
        """Return the same people with their joints at [M, NK, 2]; unknown joints stay all zero."""
        keypoints = self.keypoints.copy()
        keypoints[..., :2] = np.where(keypoints[..., 2:] > 0, xy, 0)
        return replace(self, keypoints=keypoints)


def no_people(joints: int) -> People:
    """Return an empty ``People`` for a skeleton with ``joints`` joints."""
    return People(
        np.zeros(0, np.float32),
        np.zeros((0, joints, 3), np.float32),
        np.zeros((0, joints), np.int64),
        np.zeros(0, np.int64),
    )


def concatenate(some: People, others: People) -> People:
    """Concatenate two sets of people."""
    return People(*(np.concatenate([ours, vars(others)[name]]) for name, ours in vars(some).items()))
