"""A source's frames, the next of which can be fetched before its turn: while a device works on this one."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame
from stm_skeletons.errors import SourceError


class Prefetch:
    """Gives the frames of a source in order, as iterating it would, errors in their turn included."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._next: Frame | None = None
        self._error: SourceError | None = None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._error is not None:
            raise self._error
        frame, self._next = self._next, None
        return next(self._frames) if frame is None else frame

    def fetch_image(self) -> NDArray[np.uint8] | None:
        """The image that comes next; None where there is none or reading it fails, which is told in its turn."""
        if self._next is None and self._error is None:
            try:
                self._next = next(self._frames, None)
            except SourceError as error:
                self._error = error
        return None if self._next is None else self._next.image
