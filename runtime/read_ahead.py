"""A file's frames, the next of which is read by a thread of its own while this one is worked on."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame

_LOOK_UP = 0.05
"""Seconds after which the thread, its frame not taken, looks whether it shall stop."""
_PATIENCE = 1.0
"""Seconds that a reader who hangs is waited for at the end."""


class ReadAhead:
    """Gives the frames of a source in order, as iterating it would, errors in their turn included. One is read ahead.

    Use it as a context manager: at its end the source may be closed.
    """

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._read: queue.Queue[Frame | BaseException] = queue.Queue(1)
        self._next: Frame | BaseException | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(frames,), name="reads ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(_PATIENCE)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        coming = self._look()
        if isinstance(coming, BaseException):
            raise coming
        self._next = None
        return coming

    def fetch_image(self) -> NDArray[np.uint8] | None:
        """The image that comes next; None where there is none or reading it fails, which is told in its turn."""
        coming = self._look()
        return coming.image if isinstance(coming, Frame) else None

    def _look(self) -> Frame | BaseException:
        if self._next is None:
            self._next = self._read.get()
        return self._next

    def _run(self, frames: Iterator[Frame]) -> None:
        try:
            for frame in frames:
                if not self._give(frame):
                    return
            self._give(StopIteration())
        except BaseException as error:  # told in its turn
            self._give(error)

    def _give(self, what: Frame | BaseException) -> bool:
        """Whether it is still wanted."""
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._read.put(what, timeout=_LOOK_UP)
                return True
        return False
