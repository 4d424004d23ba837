"""Whether numbers stay with whom they were given to: one joint through a video, as MOTA counts it (CLEAR MOT)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


class Tracks:
    """Counts misses, false positives and switches frame by frame, as py-motmetrics does, which PoseTrack uses.

    Who was matched with a number stays with it wherever that is possible; the rest is matched so that as many as can be
    are, then with the smallest sum of distances. A switch is a match with another number than the last one, however
    long ago that was. A detection without a number (0: not confirmed yet) can be matched like any other, so that it is
    no miss, but is never a switch and is not remembered.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def update(
        self, tracks: NDArray[np.int64], numbers: NDArray[np.int64], distances: NDArray[np.float64]
    ) -> tuple[int, int, int]:
        """Misses, false positives and switches of the next frame.

        Args:
            tracks: [G] who is labelled; -1 where the data do not tell, then nothing is remembered.
            numbers: [D] that were given; 0 for none.
            distances: [G, D], infinite where they cannot be the same.
        """
        rest, matched, switches = distances.copy(), 0, 0
        for row, track in enumerate(tracks.tolist()):
            before = self._numbers.get(track)
            for column in np.flatnonzero((numbers == before) & np.isfinite(rest[row]))[:1]:
                rest[row], rest[:, column] = np.inf, np.inf
                matched += 1
        possible = np.isfinite(rest)
        # A pair too many costs more than all that are possible, so as many as can be are made.
        impossible = 1 + rest[possible].sum()
        for row, column in zip(*linear_sum_assignment(np.where(possible, rest, impossible)), strict=True):
            if possible[row, column]:
                matched += 1
                switches += self.follow(int(tracks[row]), int(numbers[column]))
        return len(tracks) - matched, len(numbers) - matched, switches

    def follow(self, track: int, number: int) -> bool:
        """Take note that a track was matched with a number; whether that is a switch."""
        if track < 0 or number == 0:
            return False
        before = self._numbers.get(track, number)
        self._numbers[track] = number
        return before != number
