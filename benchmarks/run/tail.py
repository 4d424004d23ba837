"""Change of the slowest frames' latency (p99) over a run, on a machine whose own speed varies."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.run.latency import samples_needed
from stm_skeletons.strict import Strict

TENTHS = 10
MIN_FRAMES = TENTHS * samples_needed(99)
"""Frames needed for p99 of a tenth of them."""
BOUND = 5.0
"""Largest change of p99 from the 2nd to the last tenth of the frames, in percent."""
_BLOCKS, _DRAWS = 20, 1000
"""The bootstrap draws blocks of a twentieth of a tenth, because disturbances last for seconds."""


class Estimate(Strict):
    """A value with its 95% confidence interval."""

    value: float
    low: float
    high: float


class Tail(Strict):
    """p99 of the 2nd and of the last tenth of a run."""

    second_ms: float
    last_ms: float
    percent: Estimate = Field(description="Change of p99 in percent.")


class TailChange(Strict):
    """Change of p99, of the frames and of the yardstick after each frame."""

    frames: Tail
    yardstick: Tail | None = Field(description="null in a short run, which measures no yardstick.")
    relative_percent: Estimate | None = Field(
        description="Change of the frames' p99 relative to the yardstick's, in percent."
    )

    @property
    def is_within(self) -> bool:
        """Whether the change is within the bound with 95% confidence, as measured or relative to the yardstick."""
        known = (change for change in (self.frames.percent, self.relative_percent) if change is not None)
        return any(change.low >= -BOUND and change.high <= BOUND for change in known)

    @property
    def is_beyond(self) -> bool:
        """Whether the change exceeds the bound with 95% confidence, relative to the yardstick if there is one."""
        change = self.relative_percent or self.frames.percent
        return not self.is_within and (change.low > BOUND or change.high < -BOUND)

    def __str__(self) -> str:
        text = f"p99 changed by {_short(self.frames.percent)} from the 2nd to the last tenth"
        if self.relative_percent is None:
            return text
        return f"{text}, by {_short(self.relative_percent)} relative to the yardstick"


def tail_change(latencies: NDArray, yardstick: NDArray | None) -> TailChange | None:
    """Change of p99 over a run; None with fewer than MIN_FRAMES.

    The intervals are from a bootstrap over blocks of frames. A frame and its yardstick are drawn together.

    Args:
        latencies: [N] in milliseconds, in the order of measurement.
        yardstick: [N] milliseconds of the yardstick after each frame; None if it was not measured.
    """
    if len(latencies) < MIN_FRAMES:
        return None
    both = latencies[None] if yardstick is None else np.stack([latencies, yardstick])
    tenths = np.array_split(both, TENTHS, axis=1)
    (second, last), random = (tenths[1], tenths[-1]), np.random.default_rng(0)
    before, after = _p99(second), _p99(last)
    drawn = np.array([_p99(_resampled(last, random)) / _p99(_resampled(second, random)) for _ in range(_DRAWS)])
    tails = [
        Tail(second_ms=round(float(old), 3), last_ms=round(float(new), 3), percent=_percent(new / old, ratios))
        for old, new, ratios in zip(before, after, drawn.T, strict=True)
    ]
    if yardstick is None:
        return TailChange(frames=tails[0], yardstick=None, relative_percent=None)
    relative = _percent(after[0] / before[0] / (after[1] / before[1]), drawn[:, 0] / drawn[:, 1])
    return TailChange(frames=tails[0], yardstick=tails[1], relative_percent=relative)


def _short(percent: Estimate) -> str:
    return f"{percent.value:+.1f}% ({percent.low:+.1f} to {percent.high:+.1f})"


def _p99(times: NDArray) -> NDArray:
    """p99 of each row of times [rows, N], a measured value as in ``percentile_of``."""
    return np.percentile(times, 99, axis=1, method="inverted_cdf")


def _resampled(times: NDArray, random: np.random.Generator) -> NDArray:
    blocks = np.array_split(times, _BLOCKS, axis=1)
    return np.concatenate([blocks[number] for number in random.integers(_BLOCKS, size=_BLOCKS)], axis=1)


def _percent(ratio: float, drawn: NDArray) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    value, low, high = (round(100 * (float(one) - 1), 2) for one in (ratio, low, high))
    return Estimate(value=value, low=low, high=high)
