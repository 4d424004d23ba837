"""Ratios of interleaved times, with confidence intervals.

A machine's speed drifts with its temperature and its other load. Ratios within a frame are not affected; absolute times
are.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.strict import Strict

BLOCK = 10
"""Consecutive frames that the bootstrap draws together, because disturbances last for several frames."""
DRAWS = 2000
MIN_FRAMES = 3 * BLOCK
"""Frames needed for an interval."""


class Ratio(Strict):
    """Ratio of two variants' times, frame by frame."""

    median: float
    low: float | None = Field(description="95% confidence interval of the median; null with fewer than 30 frames.")
    high: float | None

    def __str__(self) -> str:
        return f"{self.median:.2f}" if self.low is None else f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(times: NDArray, reference: NDArray) -> Ratio:
    """Ratio of the times [N] to those of a reference for the same frames, N >= 1.

    The interval of the median comes from a moving block bootstrap (Künsch 1989).
    """
    ratios = np.asarray(times, float) / np.asarray(reference, float)
    low = high = None
    if len(ratios) >= MIN_FRAMES:
        random = np.random.default_rng(0)
        blocks = np.lib.stride_tricks.sliding_window_view(ratios, BLOCK)
        drawn = random.integers(len(blocks), size=(DRAWS, len(ratios) // BLOCK))
        medians = np.median(blocks[drawn].reshape(DRAWS, -1), axis=1)
        low, high = (round(float(bound), 4) for bound in np.percentile(medians, [2.5, 97.5]))
    return Ratio(median=round(float(np.median(ratios)), 4), low=low, high=high)
