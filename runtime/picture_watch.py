"""What is odd about a camera's pictures: black, frozen, of another size or rate than before."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BLACK = 24
"""Brightest value of a picture that is called black; noise and a burnt-in clock in dark grey stay below."""
_STEP = 16
"""Every n-th pixel of each row and column is looked at."""
_RATES_DIFFER = 1.5


class PictureWatch:
    """Looks at every picture that arrives and says once when something becomes odd, and when it is over."""

    def __init__(self, patience: float, say: Callable[[str], None]) -> None:
        """
        Args:
            patience: seconds that a picture may be black or frozen before it is said, and over which a rate is counted.
            say: told, in the middle of a sentence.
        """
        self._patience, self._say = patience, say
        self._size: tuple[int, int] | None = None
        self._sample = np.zeros((0, 0, 3), np.uint8)
        self._since: dict[str, float] = {}
        self._said: set[str] = set()
        self._window, self._count, self._rate, self._doubted = 0.0, 0, 0.0, False

    def look(self, image: NDArray[np.uint8], now: float) -> bool:
        """Look at the next picture, BGR [h, w, 3]; whether its size is another one than that of those before."""
        size, before = (image.shape[1], image.shape[0]), self._size
        changed = before is not None and before != size
        if before is not None and changed:
            self._say(f"pictures are now {size[0]}x{size[1]}, before {before[0]}x{before[1]}")
        sample = image[::_STEP, ::_STEP].copy()
        black = int(sample.max(initial=0)) <= _BLACK
        frozen = not changed and not black and np.array_equal(sample, self._sample)
        self._size, self._sample = size, sample
        self._tell("black", black, now)
        self._tell("frozen", frozen, now)
        self._count_rate(now)
        return changed

    def start_anew(self) -> None:
        """After a gap the rate is counted from the next picture on."""
        self._window, self._count = 0.0, 0

    def _tell(self, what: str, so: bool, now: float) -> None:
        if not so:
            self._since.pop(what, None)
            if what in self._said:
                self._said.discard(what)
                self._say(f"the picture is no longer {what}")
            return
        since = self._since.setdefault(what, now)
        if now - since >= self._patience and what not in self._said:
            self._said.add(what)
            self._say(f"the picture has been {what} for {now - since:.0f} s")

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
        if other and not self._doubted:  # the change may lie in the middle of what was counted
            self._doubted = True
            return
        if other:
            self._say(f"it now sends {rate:.1f} frames a second, before {self._rate:.1f}")
        self._rate, self._doubted = rate, False
