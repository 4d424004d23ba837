"""Whether the slowest frames stay as fast as they were, on a machine that becomes slower and faster by itself."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.run.latency import samples_needed
from stm_skeletons.strict import Strict

TENTHS = 10
ENOUGH_FRAMES = TENTHS * samples_needed(99)
"""Fewer give no p99 of a tenth."""
BOUND = 5.0
"""Percent by which p99 of the last tenth of the frames may differ from that of the second."""
_BLOCKS, _DRAWS = 20, 1000
"""The bootstrap draws twentieths of a tenth: frames that follow each other are disturbed alike, for seconds."""


class Estimate(Strict):
    """A figure, with the interval in which it lies with 95 %."""

    value: float
    low: float
    high: float


class Tail(Strict):
    """p99 of the last tenth of a run against that of the second."""

    second_ms: float
    last_ms: float
    percent: Estimate = Field(description="By which p99 has changed.")


class TailChange(Strict):
    """Of the frames, and of a fixed piece of work behind each of them."""

    frames: Tail
    yardstick: Tail | None = Field(description="null where there was none: in runs of under 10,000 frames.")
    beside_percent: Estimate | None = Field(
        description="By which the frames' p99 has changed, divided by what the yardstick's has changed by."
    )

    @property
    def is_within(self) -> bool:
        """Whether the frames' p99 differs by no more than the bound with 95 %, as it is or beside the yardstick."""
        known = (one for one in (self.frames.percent, self.beside_percent) if one is not None)
        return any(one.low >= -BOUND and one.high <= BOUND for one in known)

    @property
    def is_beyond(self) -> bool:
        """Whether it differs by more with 95 %, beside the yardstick where there is one."""
        surest = self.beside_percent or self.frames.percent
        return not self.is_within and (surest.low > BOUND or surest.high < -BOUND)

    def __str__(self) -> str:
        text = f"p99 of the last tenth is {_short(self.frames.percent)} against the second's"
        if self.beside_percent is None:
            return text
        return f"{text}, {_short(self.beside_percent)} beside a fixed piece of work"


def tail_change(latencies: NDArray, yardstick: NDArray | None) -> TailChange | None:
    """How p99 changed; None with fewer than ENOUGH_FRAMES.

    The intervals are of a bootstrap over blocks of frames; a frame and its yardstick are drawn together.

    Args:
        latencies: [N] in milliseconds, in the order in which they were measured.
        yardstick: [N] milliseconds of a fixed piece of work after each frame; None where there was none.
    """
    if len(latencies) < ENOUGH_FRAMES:
        return None
    both = latencies[None] if yardstick is None else np.stack([latencies, yardstick])
    tenths = np.array_split(both, TENTHS, axis=1)
    (second, last), random = (tenths[1], tenths[-1]), np.random.default_rng(0)
    before, after = _p99(second), _p99(last)
    drawn = np.array([_p99(_redrawn(last, random)) / _p99(_redrawn(second, random)) for _ in range(_DRAWS)])
    tails = [
        Tail(second_ms=round(float(old), 3), last_ms=round(float(new), 3), percent=_percent(new / old, ratios))
        for old, new, ratios in zip(before, after, drawn.T, strict=True)
    ]
    if yardstick is None:
        return TailChange(frames=tails[0], yardstick=None, beside_percent=None)
    beside = _percent(after[0] / before[0] / (after[1] / before[1]), drawn[:, 0] / drawn[:, 1])
    return TailChange(frames=tails[0], yardstick=tails[1], beside_percent=beside)


def _short(percent: Estimate) -> str:
    return f"{percent.value:+.1f} % ({percent.low:+.1f} to {percent.high:+.1f})"


def _p99(times: NDArray) -> NDArray:
    """Of each row of times [rows, N]; as ``percentile_of``, a value that was measured."""
    return np.percentile(times, 99, axis=1, method="inverted_cdf")


def _redrawn(times: NDArray, random: np.random.Generator) -> NDArray:
    blocks = np.array_split(times, _BLOCKS, axis=1)
    return np.concatenate([blocks[place] for place in random.integers(_BLOCKS, size=_BLOCKS)], axis=1)


def _percent(ratio: float, drawn: NDArray) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    value, low, high = (round(100 * (float(one) - 1), 2) for one in (ratio, low, high))
    return Estimate(value=value, low=low, high=high)
