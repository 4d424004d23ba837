"""Whether memory and latency stay what they are over a long run: slopes with their intervals, and a verdict."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.latency import percentile_of, samples_needed

MEMORY_BOUND = 1.0
"""MB an hour."""
P99_BOUND = 0.05
"""Share by which p99 of the last tenth of the frames may differ from that of the second."""
TENTHS = 10
ENOUGH_FRAMES = TENTHS * samples_needed(99)
"""Fewer give no p99 of a tenth."""
_FEWEST_POINTS = 5
"""With fewer, not even the flattest and the steepest line through two of the points are a 95 % interval."""
_NORMAL_95 = 1.959964
_MINUTE, _HOUR = 60.0, 3600.0


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Slope(_Strict):
    """A line's slope, with the interval in which it lies with 95 %."""

    value: float
    low: float
    high: float


class Soak(_Strict):
    """What a long run showed. The first tenth of the time counts for nothing in the slopes."""

    verdict: Literal["flat", "not flat", "too short to tell"]
    why: str
    minutes: float
    memory_mb_an_hour: Slope | None = Field(description="Of the lowest resident memory of each minute.")
    latency_percent_an_hour: Slope | None = Field(description="Of the median latency of each minute, of their median.")
    p99_second_tenth: float | None = Field(description="Milliseconds, of the second tenth of the frames.")
    p99_last_tenth: float | None


def theil_sen(x: NDArray, y: NDArray) -> Slope | None:
    """Median slope of the lines through any two points, which outliers hardly move; None with too few points.

    Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968), with his interval in its
    normal approximation. It takes points for independent: of a machine whose speed wanders, the interval is too narrow.

    Args:
        x, y: [N]; no two of x equal.
    """
    count = len(x)
    if count < _FEWEST_POINTS:
        return None
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    reach = _NORMAL_95 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int(np.floor((len(slopes) - reach) / 2)) - 1)
    high = min(len(slopes) - 1, int(np.ceil((len(slopes) + reach) / 2)))
    return Slope(value=float(np.median(slopes)), low=float(slopes[low]), high=float(slopes[high]))


def judge(frame_seconds: NDArray, latencies: NDArray, memory_seconds: NDArray, resident_mb: NDArray) -> Soak:
    """Judge a run.

    Flat: memory rises by less than MEMORY_BOUND with 95 %, and p99 of the last tenth of the frames is within P99_BOUND
    of that of the second. Not flat: memory rises by more with 95 %, or p99 differs by more.

    Args:
        frame_seconds: [N] when each frame began, rising, in seconds since the measuring began.
        latencies: [N] in milliseconds.
        memory_seconds: [M] seconds of the memory samples.
        resident_mb: [M]; NaN where unknown.
    """
    end = max(frame_seconds.max(initial=0), memory_seconds.max(initial=0))
    memory = _slope(memory_seconds, resident_mb, end, np.min)
    latency = _slope(frame_seconds, latencies, end, np.median)
    tenths = np.array_split(latencies, TENTHS)
    second, last = percentile_of(tenths[1], 99), percentile_of(tenths[-1], 99)
    verdict, why = _verdict(memory, second, last, len(latencies))
    median = float(np.median(latencies)) if len(latencies) else 1.0
    return Soak(
        verdict=verdict,
        why=why,
        minutes=round(float(end) / _MINUTE, 2),
        memory_mb_an_hour=None if memory is None else _scaled(memory, _HOUR),
        latency_percent_an_hour=None if latency is None else _scaled(latency, _HOUR / median * 100),
        p99_second_tenth=second,
        p99_last_tenth=last,
    )


def _verdict(
    memory: Slope | None, second: float | None, last: float | None, frames: int
) -> tuple[Literal["flat", "not flat", "too short to tell"], str]:
    faults, unknown = [], []
    if memory is None:
        unknown.append("too few minutes for the slope of the memory")
    elif memory.low * _HOUR >= MEMORY_BOUND:
        faults.append(f"memory rises by {memory.value * _HOUR:.1f} MB an hour")
    elif memory.high * _HOUR >= MEMORY_BOUND:
        between = f"{memory.low * _HOUR:.1f} and {memory.high * _HOUR:.1f} MB an hour"
        unknown.append(f"memory's slope is only known to lie between {between}")
    if second is None or last is None:
        unknown.append(f"{frames} undisturbed frames, p99 of a tenth needs {ENOUGH_FRAMES} in all")
    elif abs(last / second - 1) > P99_BOUND:
        faults.append(f"p99 of the last tenth is {100 * (last / second - 1):+.1f} % of that of the second")
    if faults:
        return "not flat", "; ".join(faults)
    if unknown:
        return "too short to tell", "; ".join(unknown)
    return "flat", f"memory rises by less than {MEMORY_BOUND:g} MB an hour, p99 stays within {100 * P99_BOUND:g} %"


def _slope(seconds: NDArray, values: NDArray, end: float, of_a_minute) -> Slope | None:
    """Slope a second of a figure of each whole minute after the first tenth of the run."""
    known = np.isfinite(values) & (seconds >= end / TENTHS)
    minutes = ((seconds[known] - end / TENTHS) // _MINUTE).astype(int)
    whole = int((end - end / TENTHS) // _MINUTE)
    there = np.array([minute for minute in np.unique(minutes) if minute < whole], int)
    figures = np.array([of_a_minute(values[known][minutes == minute]) for minute in there], float)
    return theil_sen((there + 0.5) * _MINUTE, figures)


def _scaled(slope: Slope, factor: float) -> Slope:
    return Slope(**{name: round(value * factor, 3) for name, value in slope.model_dump().items()})
