"""Interleaved timing: all arms run a frame before the next one, in rotating order: A B C, B C A, C A B."""

import threading
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare.arms import Arm
from benchmarks.run.footage import Footage

WARM_UP = 10
"""Warm-up frames of every arm. Code that is compiled on first use is compiled then."""


def time_interleaved(
    arms: list[Arm],
    footage: Footage,
    frames: int,
    stop: threading.Event,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time every arm on the same frames.

    Args:
        arms: at least one.
        footage: source of the frames; decoding is not timed.
        frames: timed frames.
        stop: ends the timing early when set.

    Returns:
        Milliseconds [WARM_UP, arms] of the warm-up frames and [N, arms] of the timed frames. N is ``frames`` unless
        stopped early.
    """
    times = np.zeros((WARM_UP + frames, len(arms)))
    done = 0
    for number in range(len(times)):
        frame, _ = footage.read()
        for turn in range(len(arms)):
            index = (number + turn) % len(arms)
            prepared = arms[index].prepare(frame)
            started = perf_counter()
            arms[index].step(prepared)
            times[number, index] = (perf_counter() - started) * 1e3
        done += 1
        if stop.is_set():
            break
    return times[:WARM_UP], times[WARM_UP:done]
