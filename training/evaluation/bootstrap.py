"""Intervals from drawing sequences again: always the same draws, so two evaluations on the same data are paired."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000


def resamples(count: int) -> NDArray[np.int64]:
    """[RESAMPLES, count]: how often each of so many sequences is drawn, as many as there are."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / max(count, 1)), size=RESAMPLES)


def percentiles(values: NDArray, sequences: int) -> tuple[float, float] | None:
    """The middle 95 % of values that are numbers; None with fewer than two sequences, or without any number."""
    values = values[~np.isnan(values)]
    if sequences < 2 or not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
