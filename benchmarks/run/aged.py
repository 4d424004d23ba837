"""A session at the end of a long run beside one just begun: whatever the machine does meanwhile happens to both."""

import threading
from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.footage import Footage
from benchmarks.latency import samples_needed
from benchmarks.run.measure import warm_up
from benchmarks.run.tail import Estimate, bootstrap, percent
from benchmarks.strict import Strict
from runtime.session import Session
from stm_skeletons.errors import StmError

FRAMES = 5000
"""Of each session, in turn; fewer in a run whose tenth has fewer."""


class Aged(Strict):
    """Decoded to parts, the old session over the new one on the same frames, in milliseconds and percent."""

    frames: int
    old_p99: float
    new_p99: float
    p99_percent: Estimate = Field(description="By which the old session's p99 is above the new one's.")
    p50_percent: Estimate = Field(description="The same of the medians.")

    def __str__(self) -> str:
        found = self.p99_percent
        return f"{found.value:+.1f} % ({found.low:+.1f} to {found.high:+.1f}) in turn with a session just begun"


def age(
    old: Session, open_new: Callable[[], Session], footage: Footage, frames: int, stop: threading.Event
) -> NDArray[np.float64] | None:
    """Step an old session and a new one in turn; which is first changes from frame to frame.

    Args:
        old: at the end of its run.
        open_new: opens one like it, which is warmed up first.
        footage: both get its next frames.
        frames: how many.
        stop: ends it early.

    Returns:
        [2, frames] milliseconds from decoded to parts, old and new; None when stopped, or when there is no room for a
        second session: a long run's report is not to be lost for that.
    """
    try:
        with open_new() as new:
            warm_up(new, footage, stop)
            times = np.full((2, frames), np.nan)
            for number in range(frames):
                if stop.is_set():
                    return None
                image, _ = footage.read()
                for one in ((0, 1), (1, 0))[number % 2]:
                    started = perf_counter()
                    (old, new)[one].step(image)
                    times[one, number] = (perf_counter() - started) * 1e3
            return times
    except StmError:
        return None


def compare_ages(times: NDArray[np.float64]) -> Aged | None:
    """What ``age`` found, with intervals by a bootstrap over blocks of frames; None with too few for a p99."""
    frames = times.shape[1]
    if frames < samples_needed(99):
        return None

    def ratios(drawn: NDArray) -> NDArray:
        old, new = (np.percentile(drawn, [99, 50], axis=1, method="inverted_cdf")).T
        return old / new

    drawn = bootstrap(times, ratios)
    old_p99, new_p99 = np.percentile(times, 99, axis=1, method="inverted_cdf")
    p99, p50 = (percent(value, of) for value, of in zip(ratios(times), drawn.T, strict=True))
    return Aged(
        frames=frames,
        old_p99=round(float(old_p99), 3),
        new_p99=round(float(new_p99), 3),
        p99_percent=p99,
        p50_percent=p50,
    )
