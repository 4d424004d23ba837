"""The people of a frame: whose joints are where, how sure that is, and which number each of them has."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class People:
    """M people of one frame, the surest first; NK joints each, in the skeleton's order.

    Coordinates are whatever pixels the maker says: the network's inside a session, the source frame's in ``Parts``.
    """

    scores: NDArray[np.float32]
    """[M] in [0, 1]: how sure it is that this is a person, and one person."""
    keypoints: NDArray[np.float32]
    """[M, NK, 3]: x, y and score of each joint; all zero for a joint of which nothing is known."""
    peaks: NDArray[np.int64]
    """[M, NK]: which of the joint's peaks was found to be this person's; -1 for none. No peak is in two people."""
    ids: NDArray[np.int64]
    """[M]: the number by which a person is followed from frame to frame, from 1; 0 until a second frame confirms it."""

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def found(self) -> NDArray[np.bool_]:
        """[M, NK]: joints that were seen, as against placed or unknown."""
        return self.peaks >= 0

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """[M, NK]: joints that were not found but placed, where the person's centre says they should be."""
        return ~self.found & (self.keypoints[..., 2] > 0)

    def boxes(self) -> NDArray[np.float32]:
        """[M, 4]: left, top, width and height of the hull of the joints that were found (who has none: of all)."""
        known = np.where(self.found.any(1, keepdims=True), self.found, self.keypoints[..., 2] > 0)[..., None]
        low = np.where(known, self.keypoints[..., :2], np.inf).min(axis=1, initial=np.inf)
        high = np.where(known, self.keypoints[..., :2], -np.inf).max(axis=1, initial=-np.inf)
        return np.column_stack([low, high - low]).astype(np.float32).reshape(-1, 4)

    def chosen(self, which: NDArray) -> "People":
        """Some of them: indices or a mask [M]."""
        return People(self.scores[which], self.keypoints[which], self.peaks[which], self.ids[which])

    def placed(self, xy: NDArray) -> "People":
        """The same people with their joints at [M, NK, 2]; joints of which nothing is known stay all zero."""
        keypoints = self.keypoints.copy()
        keypoints[..., :2] = np.where(keypoints[..., 2:] > 0, xy, 0)
        return replace(self, keypoints=keypoints)


def nobody(joints: int) -> People:
    """A frame without people, of a skeleton with so many joints."""
    return People(
        np.zeros(0, np.float32),
        np.zeros((0, joints, 3), np.float32),
        np.zeros((0, joints), np.int64),
        np.zeros(0, np.int64),
    )


def joined(some: People, others: People) -> People:
    """These people and those."""
    return People(*(np.concatenate([ours, vars(others)[name]]) for name, ours in vars(some).items()))
