"""Judges whether memory and latency stay constant over a long run: slopes with intervals, and a verdict."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.run.tail import BOUND, MIN_FRAMES, TENTHS, Estimate, TailChange, tail_change
from stm_skeletons.strict import Strict

MEMORY_BOUND = 1.0
"""MB per hour."""
_MIN_POINTS = 5
"""With fewer points, not even the range of all pairwise slopes is a 95% interval."""
_NORMAL_95 = 1.959964
_MINUTE, _HOUR = 60.0, 3600.0
Verdict = Literal["flat", "not flat", "cannot tell"]


class Soak(Strict):
    """Verdict on a long run. The slopes ignore the first tenth of the time."""

    verdict: Verdict
    why: str
    minutes: float
    memory_mb_an_hour: Estimate | None = Field(description="Slope of the lowest resident memory of each minute.")
    latency_percent_an_hour: Estimate | None = Field(
        description="Slope of the median latency of each minute, relative to the overall median."
    )
    p99: TailChange | None = Field(description="Change of p99; null with too few frames.")


def theil_sen(x: NDArray, y: NDArray) -> Estimate | None:
    """Median slope of the lines through all pairs of points, which is robust to outliers; None with too few points.

    Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968), with the normal approximation
    of the interval. It assumes independent points, so the interval is too narrow if the machine's speed drifts.

    Args:
        x, y: [N]; no two of x equal.
    """
    count = len(x)
    if count < _MIN_POINTS:
        return None
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    reach = _NORMAL_95 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int(np.floor((len(slopes) - reach) / 2)) - 1)
    high = min(len(slopes) - 1, int(np.ceil((len(slopes) + reach) / 2)))
    return Estimate(value=float(np.median(slopes)), low=float(slopes[low]), high=float(slopes[high]))


def judge(
    frame_seconds: NDArray,
    latencies: NDArray,
    memory_seconds: NDArray,
    resident_mb: NDArray,
    yardstick: NDArray | None = None,
) -> Soak:
    """Judge a run, with 95% confidence.

    A run is flat if memory rises by less than MEMORY_BOUND, and p99 of the last tenth of the frames differs from that
    of the 2nd tenth by at most BOUND, either as measured or relative to the change of the yardstick's p99 (the speed of
    a shared machine varies by itself). A run is not flat if memory rises by more or p99 differs by more.

    Args:
        frame_seconds: [N] start of each frame, rising, in seconds since the measurement began.
        latencies: [N] in milliseconds.
        memory_seconds: [M] times of the memory samples in seconds.
        resident_mb: [M]; NaN if unknown.
        yardstick: [N] milliseconds of the yardstick after each frame; None if it was not measured.
    """
    end = max(frame_seconds.max(initial=0), memory_seconds.max(initial=0))
    memory = _slope(memory_seconds, resident_mb, end, np.min)
    latency = _slope(frame_seconds, latencies, end, np.median)
    p99 = tail_change(latencies, yardstick)
    verdict, why = _verdict(memory, p99, len(latencies))
    median = float(np.median(latencies)) if len(latencies) else 1.0
    return Soak(
        verdict=verdict,
        why=why,
        minutes=round(float(end) / _MINUTE, 2),
        memory_mb_an_hour=None if memory is None else _scaled(memory, _HOUR),
        latency_percent_an_hour=None if latency is None else _scaled(latency, _HOUR / median * 100),
        p99=p99,
    )


def _verdict(memory: Estimate | None, p99: TailChange | None, frames: int) -> tuple[Verdict, str]:
    faults, unknown = [], []
    if memory is None:
        unknown.append("too few minutes for the slope of the memory")
    elif memory.low * _HOUR >= MEMORY_BOUND:
        faults.append(f"memory rises by {memory.value * _HOUR:.1f} MB per hour")
    elif memory.high * _HOUR >= MEMORY_BOUND:
        interval = f"{memory.low * _HOUR:.1f} to {memory.high * _HOUR:.1f} MB per hour"
        unknown.append(f"memory's slope is uncertain: {interval}")
    if p99 is None:
        unknown.append(f"{frames} timed frames are too few: p99 of a tenth of them needs {MIN_FRAMES}")
    elif p99.is_beyond:
        faults.append(str(p99))
    elif not p99.is_within:
        unknown.append(f"{p99}: the machine is too noisy to decide on the bound of {BOUND:g}%")
    if faults:
        return "not flat", "; ".join(faults)
    if unknown:
        return "cannot tell", "; ".join(unknown)
    return "flat", f"memory rises by less than {MEMORY_BOUND:g} MB per hour; {p99}"


def _slope(seconds: NDArray, values: NDArray, end: float, of_a_minute) -> Estimate | None:
    """Slope per second of a statistic of each whole minute after the first tenth of the run."""
    known = np.isfinite(values) & (seconds >= end / TENTHS)
    minutes = ((seconds[known] - end / TENTHS) // _MINUTE).astype(int)
    count = int((end - end / TENTHS) // _MINUTE)
    whole = np.array([minute for minute in np.unique(minutes) if minute < count], int)
    figures = np.array([of_a_minute(values[known][minutes == minute]) for minute in whole], float)
    return theil_sen((whole + 0.5) * _MINUTE, figures)


def _scaled(slope: Estimate, factor: float) -> Estimate:
    return Estimate(**{name: round(value * factor, 3) for name, value in slope.model_dump().items()})
