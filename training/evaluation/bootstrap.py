"""Bootstrap intervals over sequences. The draws are always the same, so evaluations on the same data are paired."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000


def resamples(count: int) -> NDArray[np.int64]:
    """[RESAMPLES, count]: how often each of ``count`` sequences is drawn in each resample."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / max(count, 1)), size=RESAMPLES)


def percentiles(values: NDArray, sequences: int) -> tuple[float, float] | None:
    """The central 95% of the values, ignoring NaN; None with fewer than two sequences or with only NaN."""
    values = values[~np.isnan(values)]
    if sequences < 2 or not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
