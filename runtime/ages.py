"""How old results are: a histogram of fixed size, however long a run takes."""

import numpy as np

_LEAST, _RATIO, _BINS = 1e-4, 1.01, 1600
"""From 0.1 ms on, each bin 1 % wider than the one before; the last holds all from 13 minutes on."""


class Ages:
    """Counts ages in seconds; percentiles of all of them within 1 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self.count = 0

    def add(self, seconds: float) -> None:
        """One more."""
        place = np.log(max(seconds, _LEAST) / _LEAST) / np.log(_RATIO)
        self._counts[min(int(place), _BINS - 1)] += 1
        self.count += 1

    def percentile(self, percent: float) -> float:
        """Seconds that so many per cent of the ages do not exceed; at least one age must have been added."""
        place = int(np.searchsorted(self._counts.cumsum(), percent / 100 * self.count))
        return float(_LEAST * _RATIO ** (place + 1))
