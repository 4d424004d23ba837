"""Statistics of latencies: mean, percentiles with enough samples, jitter, missed deadlines. Outliers are kept."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.strict import Strict

CONFIDENCE = 0.99
"""Required probability that at least two samples lie beyond a reported percentile."""
PERCENTILES = (50, 90, 95, 99)
JITTER = "jitter: mean absolute difference of successive latencies"


class Summary(Strict):
    """Statistics of latencies in milliseconds. A percentile is null if there are too few samples for it."""

    count: int = Field(ge=1, description="Number of measured frames, all included.")
    mean: float
    p50: float | None = Field(description="A measured value, as all percentiles. Needs 11 samples.")
    p90: float | None = Field(description="Needs 64 samples.")
    p95: float | None = Field(description="Needs 130 samples.")
    p99: float | None = Field(description="Needs 662 samples.")
    max: float
    jitter: float | None = Field(description="Mean absolute difference of successive latencies.")
    deadline: float | None = Field(description="Milliseconds that a frame may take; null without a deadline.")
    misses: int | None = Field(description="Frames that took longer than the deadline.")

    @property
    def miss_share(self) -> float | None:
        """Share of the frames that missed the deadline."""
        return None if self.misses is None else self.misses / self.count


@cache
def samples_needed(percentile: float) -> int:
    """Number of samples of which at least two lie beyond a percentile with probability CONFIDENCE.

    The number of n samples beyond the p-quantile is binomial, so this is the smallest n with
    1 - p^n - n (1 - p) p^(n - 1) >= CONFIDENCE. With fewer samples, p99 is often just the largest sample.

    Args:
        percentile: above 0 and below 100.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"percentile is {percentile}, must be between 0 and 100")
    low, high = 2, 4
    while not _enough(percentile, high):
        low, high = high, 2 * high
    while low < high:  # the probability grows with n
        middle = (low + high) // 2
        low, high = (low, middle) if _enough(percentile, middle) else (middle + 1, high)
    return low


def _enough(percentile: float, count: int) -> bool:
    p = percentile / 100
    return 1 - p**count - count * (1 - p) * p ** (count - 1) >= CONFIDENCE


def percentile_of(times: NDArray, percentile: float) -> float | None:
    """The nearest-rank percentile of times [N], which is a measured value; None if N is too small for it."""
    if len(times) < samples_needed(percentile):
        return None
    return round(float(np.percentile(times, percentile, method="inverted_cdf")), 3)


def summarise(times_ms: Sequence[float] | NDArray, deadline_ms: float | None = None) -> Summary:
    """Statistics of latencies [N] in milliseconds, in the order of measurement.

    Jitter is the mean absolute difference of successive latencies (the mean size of RFC 5481's inter-packet delay
    variation). Unlike a standard deviation, it ignores slow drift.

    Args:
        times_ms: at least one time.
        deadline_ms: time that a frame may take: 1000 over the camera's frame rate.

    Raises:
        BenchmarkError: there is no time, or one is NaN or infinite.
    """
    times = np.asarray(times_ms, np.float64)
    if times.ndim != 1 or not times.size or not np.isfinite(times).all():
        raise BenchmarkError("there are no latencies, or some are NaN or infinite; measure at least one frame")
    p50, p90, p95, p99 = (percentile_of(times, percentile) for percentile in PERCENTILES)
    return Summary(
        count=len(times),
        mean=round(float(times.mean()), 3),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=round(float(times.max()), 3),
        jitter=round(float(np.abs(np.diff(times)).mean()), 3) if len(times) > 1 else None,
        deadline=None if deadline_ms is None else round(deadline_ms, 3),
        misses=None if deadline_ms is None else int((times > deadline_ms).sum()),
    )
