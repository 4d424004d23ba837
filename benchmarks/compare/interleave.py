"""Times of several arms, one frame each in turn, the first one another each time: A B C, B C A, C A B."""

import threading
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare.arms import Arm
from benchmarks.run.footage import Footage

WARM_UP = 10
"""Frames that every arm sees first and that do not count: what compiles, does so then."""


def time_in_turn(
    arms: list[Arm],
    footage: Footage,
    frames: int,
    stop: threading.Event,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Let every arm do the same frames.

    Args:
        arms: at least one.
        footage: where frames come from; decoding is not timed.
        frames: that count.
        stop: ends it early.

    Returns:
        Milliseconds [WARM_UP, arms] of the first frames and [N, arms] of those that count; N is ``frames`` unless it
        was stopped.
    """
    times = np.zeros((WARM_UP + frames, len(arms)))
    done = 0
    for number in range(len(times)):
        frame, _ = footage.read()
        for turn in range(len(arms)):
            place = (number + turn) % len(arms)
            work = arms[place].prepare(frame)
            started = perf_counter()
            arms[place].step(work)
            times[number, place] = (perf_counter() - started) * 1e3
        done += 1
        if stop.is_set():
            break
    return times[:WARM_UP], times[WARM_UP:done]
