"""Counts for MOTA (CLEAR MOT) of one joint through a video: misses, false positives and id switches."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


class Tracks:
    """Counts misses, false positives and switches frame by frame, as py-motmetrics does, which PoseTrack uses.

    A track stays matched with its last id if possible. The rest is matched with as many pairs as possible, then with
    the smallest sum of distances. A switch is a match with an id that differs from the last one, however long ago that
    was. A detection without an id (0: not confirmed yet) can be matched, so it is no miss, but is never a switch and is
    not stored.
    """

    def __init__(self) -> None:
        self._ids: dict[int, int] = {}

    def update(
        self, tracks: NDArray[np.int64], ids: NDArray[np.int64], distances: NDArray[np.float64]
    ) -> tuple[int, int, int]:
        """Misses, false positives and switches of the next frame.

        Args:
            tracks: [G] labelled tracks; -1 if unknown.
            ids: [D] reported ids; 0 for none.
            distances: [G, D], infinite for pairs that cannot match.
        """
        rest, matched, switches = distances.copy(), 0, 0
        for row, track in enumerate(tracks.tolist()):
            before = self._ids.get(track)
            for column in np.flatnonzero((ids == before) & np.isfinite(rest[row]))[:1]:
                rest[row], rest[:, column] = np.inf, np.inf
                matched += 1
        possible = np.isfinite(rest)
        # An impossible pair costs more than all possible pairs together, so the number of pairs is maximised first.
        impossible = 1 + rest[possible].sum()
        for row, column in zip(*linear_sum_assignment(np.where(possible, rest, impossible)), strict=True):
            if possible[row, column]:
                matched += 1
                switches += self.is_switch(int(tracks[row]), int(ids[column]))
        return len(tracks) - matched, len(ids) - matched, switches

    def is_switch(self, track: int, number: int) -> bool:
        """Store that a track was matched with an id; returns whether its id has changed."""
        if track < 0 or number == 0:
            return False
        before = self._ids.get(track, number)
        self._ids[track] = number
        return before != number
