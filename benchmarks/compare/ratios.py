"""Ratios of times that were measured in turn, with confidence intervals.

A machine's speed drifts and its neighbours come and go: a ratio within one frame holds, an absolute time does not.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.strict import Strict

BLOCK = 10
"""Frames that the bootstrap draws together: neighbours in time are disturbed alike."""
DRAWS = 2000
FEWEST = 3 * BLOCK
"""Frames below which there is no interval."""


class Ratio(Strict):
    """Time of one over time of another, frame by frame."""

    median: float
    low: float | None = Field(description="95 % confidence interval of the median; null with under 30 frames.")
    high: float | None

    def __str__(self) -> str:
        return f"{self.median:.2f}" if self.low is None else f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(times: NDArray, reference: NDArray) -> Ratio:
    """Ratio of the times [N] of one to those of another for the same frames, N >= 1.

    The interval is of the median over blocks of frames drawn with replacement (moving block bootstrap, Künsch 1989).
    """
    ratios = np.asarray(times, float) / np.asarray(reference, float)
    low = high = None
    if len(ratios) >= FEWEST:
        random = np.random.default_rng(0)
        blocks = np.lib.stride_tricks.sliding_window_view(ratios, BLOCK)
        drawn = random.integers(len(blocks), size=(DRAWS, len(ratios) // BLOCK))
        medians = np.median(blocks[drawn].reshape(DRAWS, -1), axis=1)
        low, high = (round(float(bound), 4) for bound in np.percentile(medians, [2.5, 97.5]))
    return Ratio(median=round(float(np.median(ratios)), 4), low=low, high=high)
