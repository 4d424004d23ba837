"""Whether memory and latency stay what they are over a long run: slopes with their intervals, and a verdict."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.run.tail import BOUND, ENOUGH_FRAMES, TENTHS, Estimate, TailChange, tail_change
from stm_skeletons.strict import Strict

MEMORY_BOUND = 1.0
"""MB an hour."""
_FEWEST_POINTS = 5
"""With fewer, not even the flattest and the steepest line through two of the points are a 95 % interval."""
_NORMAL_95 = 1.959964
_MINUTE, _HOUR = 60.0, 3600.0
Verdict = Literal["flat", "not flat", "cannot tell"]


class Soak(Strict):
    """What a long run showed. The first tenth of the time counts for nothing in the slopes."""

    verdict: Verdict
    why: str
    minutes: float
    memory_mb_an_hour: Estimate | None = Field(description="Of the lowest resident memory of each minute.")
    latency_percent_an_hour: Estimate | None = Field(
        description="Of the median latency of each minute, of their median."
    )
    p99: TailChange | None = Field(description="null with too few frames for it.")


def theil_sen(x: NDArray, y: NDArray) -> Estimate | None:
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
    return Estimate(value=float(np.median(slopes)), low=float(slopes[low]), high=float(slopes[high]))


def judge(
    frame_seconds: NDArray,
    latencies: NDArray,
    memory_seconds: NDArray,
    resident_mb: NDArray,
    yardstick: NDArray | None = None,
) -> Soak:
    """Judge a run.

    Flat, with 95 %: memory rises by less than MEMORY_BOUND, and p99 of the last tenth of the frames differs from that
    of the second by at most BOUND, as it is or divided by what the yardstick's p99 has changed by: a machine that
    others use becomes slower and faster by itself. Not flat, with 95 %: memory rises by more, or p99 differs by more.

    Args:
        frame_seconds: [N] when each frame began, rising, in seconds since the measuring began.
        latencies: [N] in milliseconds.
        memory_seconds: [M] seconds of the memory samples.
        resident_mb: [M]; NaN where unknown.
        yardstick: [N] milliseconds of a fixed piece of work after each frame; None where there was none.
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
        faults.append(f"memory rises by {memory.value * _HOUR:.1f} MB an hour")
    elif memory.high * _HOUR >= MEMORY_BOUND:
        between = f"{memory.low * _HOUR:.1f} and {memory.high * _HOUR:.1f} MB an hour"
        unknown.append(f"memory's slope is only known to lie between {between}")
    if p99 is None:
        unknown.append(f"{frames} undisturbed frames, p99 of a tenth needs {ENOUGH_FRAMES} in all")
    elif p99.is_beyond:
        faults.append(str(p99))
    elif not p99.is_within:
        unknown.append(f"{p99}: the bound is {BOUND:g} %, the machine too restless")
    if faults:
        return "not flat", "; ".join(faults)
    if unknown:
        return "cannot tell", "; ".join(unknown)
    return "flat", f"memory rises by less than {MEMORY_BOUND:g} MB an hour, {p99}"


def _slope(seconds: NDArray, values: NDArray, end: float, of_a_minute) -> Estimate | None:
    """Slope a second of a figure of each whole minute after the first tenth of the run."""
    known = np.isfinite(values) & (seconds >= end / TENTHS)
    minutes = ((seconds[known] - end / TENTHS) // _MINUTE).astype(int)
    whole = int((end - end / TENTHS) // _MINUTE)
    there = np.array([minute for minute in np.unique(minutes) if minute < whole], int)
    figures = np.array([of_a_minute(values[known][minutes == minute]) for minute in there], float)
    return theil_sen((there + 0.5) * _MINUTE, figures)


def _scaled(slope: Estimate, factor: float) -> Estimate:
    return Estimate(**{name: round(value * factor, 3) for name, value in slope.model_dump().items()})
