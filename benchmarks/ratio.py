"""Two ways of doing the same, timed in turn A B A B in one process, and the ratio of their times pair by pair.

A machine's speed drifts and its neighbours come and go: a ratio within a pair holds, an absolute time does not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

WARM_UP = 10


@dataclass(frozen=True)
class Ratio:
    """Times of A and B in milliseconds (medians), and A / B over the pairs: median and 5th to 95th percentile."""

    a_ms: float
    b_ms: float
    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f} over {self.pairs} pairs; "
            f"medians {self.a_ms:.1f} and {self.b_ms:.1f} ms)"
        )


def time_in_turn(a: Callable[[Any], object], b: Callable[[Any], object], inputs: list) -> Ratio:
    """Call both with every input, a first and second in turn; the first WARM_UP pairs are not counted."""
    pairs = []
    for number, item in enumerate(inputs):
        order = ((0, a), (1, b)) if number % 2 else ((1, b), (0, a))
        times = [0.0, 0.0]
        for place, call in order:
            started = time.perf_counter()
            call(item)
            times[place] = time.perf_counter() - started
        if number >= WARM_UP:
            pairs.append(times)
    measured = np.array(pairs)
    ratios = measured[:, 0] / measured[:, 1]
    low, median, high = np.percentile(ratios, [5, 50, 95])
    a_ms, b_ms = np.median(measured, axis=0) * 1e3
    return Ratio(float(a_ms), float(b_ms), float(median), float(low), float(high), len(pairs))
