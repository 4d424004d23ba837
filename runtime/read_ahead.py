"""Reads a file's next frame in a thread while the current one is processed."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame

_POLL_SECONDS = 0.05
"""Interval in seconds at which the thread checks whether to stop while its frame is not taken."""
_PATIENCE = 1.0
"""Seconds to wait at the end for a hanging reader."""


class ReadAhead:
    """Iterates over a source's frames in order, one frame ahead; errors are raised where iteration would raise them.

    Use as a context manager; afterwards the source may be closed.
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
        """Return the next image; None if there is none or reading it fails (the error is raised by iteration)."""
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
        except BaseException as error:  # raised by iteration
            self._give(error)

    def _give(self, what: Frame | BaseException) -> bool:
        """Queue an item; return False if it is no longer wanted."""
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._read.put(what, timeout=_POLL_SECONDS)
                return True
        return False
