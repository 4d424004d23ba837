"""Detects problems of a camera's images: black, frozen, or with a changed size or rate."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BLACK = 24
"""Highest value of a black image; noise and a dark grey clock overlay stay below."""
_STEP = 16
"""Every n-th pixel of each row and column is sampled."""
_RATES_DIFFER = 1.5


class ImageMonitor:
    """Checks every image; reports each problem once when it appears and once when it is over."""

    def __init__(self, patience: float, say: Callable[[str], None]) -> None:
        """
        Args:
            patience: seconds of a black or frozen image before it is reported; the rate is measured over this time too.
            say: called with a message without a subject prefix.
        """
        self._patience, self._say = patience, say
        self._size: tuple[int, int] | None = None
        self._sample = np.zeros((0, 0, 3), np.uint8)
        self._since: dict[str, float] = {}
        self._said: set[str] = set()
        self._window, self._count, self._rate, self._doubted = 0.0, 0, 0.0, False

    def check(self, image: NDArray[np.uint8], now: float) -> bool:
        """Check the next image, BGR [h, w, 3]; return whether its size has changed."""
        size, before = (image.shape[1], image.shape[0]), self._size
        changed = before is not None and before != size
        if before is not None and changed:
            self._say(f"image size changed from {before[0]}x{before[1]} to {size[0]}x{size[1]}")
        sample = image[::_STEP, ::_STEP].copy()
        black = int(sample.max(initial=0)) <= _BLACK
        frozen = not changed and not black and np.array_equal(sample, self._sample)
        self._size, self._sample = size, sample
        self._tell("black", black, now)
        self._tell("frozen", frozen, now)
        self._count_rate(now)
        return changed

    def restart_rate(self) -> None:
        """Restart the rate measurement, after a gap."""
        self._window, self._count = 0.0, 0

    def _tell(self, what: str, so: bool, now: float) -> None:
        if not so:
            self._since.pop(what, None)
            if what in self._said:
                self._said.discard(what)
                self._say(f"image is no longer {what}")
            return
        since = self._since.setdefault(what, now)
        if now - since >= self._patience and what not in self._said:
            self._said.add(what)
            self._say(f"image has been {what} for {now - since:.0f} s")

    def _count_rate(self, now: float) -> None:
        if self._count == 0:
            self._window = now
        self._count += 1
        passed = now - self._window
        if passed < self._patience or self._count < 3:
            return
        rate = (self._count - 1) / passed
        self._count = 0
        other = self._rate > 0 and not 1 / _RATES_DIFFER < rate / self._rate < _RATES_DIFFER
        if other and not self._doubted:  # the change may have happened within the interval
            self._doubted = True
            return
        if other:
            self._say(f"frame rate changed from {self._rate:.1f} to {rate:.1f} per second")
        self._rate, self._doubted = rate, False
