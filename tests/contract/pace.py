"""How slow this machine is now, so that a bound in seconds holds on a busy or throttled one too."""

import time

import numpy as np

_IDLE_SECONDS = 3e-4
"""What the work below takes on the machine that the bounds were written for, with nothing beside it."""


def slowdown() -> float:
    """Times that a fixed piece of work takes longer than on the idle machine, at least 1. Fastest of many."""
    values = np.random.default_rng(0).uniform(0, 1, (16, 24, 24)).astype(np.float32)
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        for _ in range(10):
            for window in values:
                np.maximum(window, window * window - window[:, :1], out=window)
        seconds.append(time.perf_counter() - started)
    return max(1.0, min(seconds) / _IDLE_SECONDS)
