"""Latencies in figures: mean, percentiles that have enough samples, jitter, missed deadlines. Nothing is clipped."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.strict import Strict

CONFIDENCE = 0.99
"""That at least two samples lie beyond a percentile which is reported."""
PERCENTILES = (50, 90, 95, 99)
JITTER = "jitter: mean absolute difference of successive latencies"


class Summary(Strict):
    """Latencies of one thing, in milliseconds. A percentile is None where the samples are too few for it."""

    count: int = Field(ge=1, description="Frames measured; all of them count.")
    mean: float
    p50: float | None = Field(description="Needs 11 samples, as the other percentiles a value that was measured.")
    p90: float | None = Field(description="Needs 64 samples.")
    p95: float | None = Field(description="Needs 130 samples.")
    p99: float | None = Field(description="Needs 662 samples.")
    max: float
    jitter: float | None = Field(description="Mean absolute difference of successive latencies.")
    deadline: float | None = Field(description="Milliseconds that a frame may take; null where there is no deadline.")
    misses: int | None = Field(description="Frames that took longer than the deadline.")

    @property
    def miss_share(self) -> float | None:
        """Share of the frames that missed the deadline."""
        return None if self.misses is None else self.misses / self.count


@cache
def samples_needed(percentile: float) -> int:
    """Samples from which on at least two lie beyond a percentile with CONFIDENCE.

    Of n samples k lie beyond the p-quantile with a binomial probability, so this is the smallest n with
    1 - p^n - n (1 - p) p^(n - 1) >= CONFIDENCE. With fewer, what is printed as p99 is often just the largest sample.

    Args:
        percentile: above 0 and below 100.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"no percentile between 0 and 100: {percentile}")
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
    """The nearest-rank percentile of times [N], a value that was measured; None where N is too small for it."""
    if len(times) < samples_needed(percentile):
        return None
    return round(float(np.percentile(times, percentile, method="inverted_cdf")), 3)


def summarise(times_ms: Sequence[float] | NDArray, deadline_ms: float | None = None) -> Summary:
    """Figures of latencies [N] in milliseconds, in the order in which they were measured.

    Jitter is the mean absolute difference of successive latencies (the spread of what RFC 5481 calls inter-packet
    delay variation): unlike a standard deviation it does not count a slow drift.

    Args:
        times_ms: at least one.
        deadline_ms: what a frame may take; 1000 over the camera's rate.

    Raises:
        BenchmarkError: no times, or some that are no numbers.
    """
    times = np.asarray(times_ms, np.float64)
    if times.ndim != 1 or not times.size or not np.isfinite(times).all():
        raise BenchmarkError("no latencies to summarise, or some are no numbers; measure at least one frame")
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
