"""Ages of results: a histogram of fixed size, however long a run takes."""

import numpy as np

_LEAST, _RATIO, _BINS = 1e-4, 1.01, 1600
"""Bins start at 0.1 ms; each is 1% wider than the one before. The last holds everything above 13 minutes."""


class Ages:
    """Histogram of ages in seconds; percentiles are accurate to 1%."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self.count = 0

    def add(self, seconds: float) -> None:
        """Add an age."""
        place = np.log(max(seconds, _LEAST) / _LEAST) / np.log(_RATIO)
        self._counts[min(int(place), _BINS - 1)] += 1
        self.count += 1

    def percentile(self, percent: float) -> float:
        """Return the age in seconds that ``percent`` % of the ages do not exceed; needs at least one age."""
        place = int(np.searchsorted(self._counts.cumsum(), percent / 100 * self.count))
        return float(_LEAST * _RATIO ** (place + 1))
