"""Cameras and streams: always the newest frame, with automatic reconnects.

A thread reads continuously and keeps only the newest frame. If processing is slower than the camera, frames are skipped
and counted, and the latency stays below the processing time of one frame.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame, usable_rate
from runtime.image_monitor import ImageMonitor
from runtime.stream_capture import StreamCapture
from stm_skeletons.errors import SourceError, one_line

_RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between reconnect attempts; the last value repeats."""
_POLL_SECONDS = 0.05
"""Interval in seconds at which a wait for frames checks whether to stop."""
Capture = cv2.VideoCapture | StreamCapture


@dataclass(frozen=True)
class LiveOptions:
    """Options for reading cameras and streams."""

    every_frame: bool = False
    """Process every frame in order, however late, instead of the newest."""
    give_up_after: float = 60.0
    """Seconds without a frame after which the source fails."""
    stall: float = 5.0
    """Seconds without a frame after which a network stream is reconnected."""
    say: Callable[[str], None] = lambda _line: None
    """Called with one line for each change of the camera's condition."""


@dataclass(frozen=True)
class _Arrival:
    """A frame and its arrival time."""

    number: int
    image: NDArray[np.uint8]
    time: float
    resets_memory: bool


class LiveSource:
    """A camera or stream."""

    live = True
    total: int | None = None

    def __init__(self, capture: Capture, reopen: Callable[[], Capture], name: str, options: LiveOptions) -> None:
        """
        Args:
            capture: the opened camera; released with this source.
            reopen: reopens the camera.
            name: name in messages, without a password.
            options: how to read it.
        """
        self._reopen, self._name, self._options = reopen, name, options
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_size: tuple[int, int] | None = size if min(size) > 0 else None
        self.frames_per_second = usable_rate(capture.get(cv2.CAP_PROP_FPS))
        self._monitor = ImageMonitor(options.stall, lambda line: options.say(f"{name}: {line}"))
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._wakeup = threading.Condition()
        self._newest: _Arrival | None = None
        self._taken = self._read = 0
        self._attempt = 0
        """Reconnect attempts since the last frame."""
        self._last = time.monotonic()
        self._error: SourceError | None = None
        self._thread = threading.Thread(target=self._run, args=(capture,), name=f"reads {name}", daemon=True)
        self._thread.start()

    def stop_when(self, asked: threading.Event) -> None:
        """End iteration soon after this event is set, even if no frame arrives."""
        self._asked = asked

    def __iter__(self) -> Iterator[Frame]:
        first: float | None = None
        with self._wakeup:  # frames from before the first iteration do not count as skipped
            self._newest, self._taken, self._read = None, 0, 0
        while (arrival := self._next()) is not None:
            first = arrival.time if first is None else first
            skipped, self._taken = arrival.number - self._taken, arrival.number + 1
            yield Frame(
                arrival.number,
                arrival.time - first,
                arrival.image,
                arrived=arrival.time,
                skipped=skipped,
                resets_memory=arrival.resets_memory,
            )

    def close(self) -> None:
        """Stop reading. Waits at most one second for a hanging decoder."""
        self._closed.set()
        with self._wakeup:
            self._wakeup.notify_all()
        self._thread.join(timeout=1.0)

    @property
    def hangs(self) -> bool:
        """Whether the thread is still running; after ``close`` this means that its decoder hangs."""
        return self._thread.is_alive()

    def _next(self) -> _Arrival | None:
        """Return the newest frame not yet taken; None if asked to stop."""
        with self._wakeup:
            while self._newest is None:
                if self._asked.is_set() or self._closed.is_set():
                    return None
                silent = time.monotonic() - self._last
                if self._error is None and silent > self._options.give_up_after:
                    self._error = self._timeout_error(silent)  # the thread may hang inside the decoder
                if self._error is not None:
                    self._closed.set()
                    raise self._error
                self._wakeup.wait(_POLL_SECONDS)
            arrival, self._newest = self._newest, None
            self._wakeup.notify_all()
            return arrival

    def _timeout_error(self, silent: float) -> SourceError:
        return SourceError(
            f"{self._name} stopped after {self._read} frames and sent none for {silent:.0f} s; check the camera and "
            "its cable, or wait longer with --give-up-after"
        )

    def _run(self, capture: Capture) -> None:
        """Read frames until the source is closed or the camera stays away."""
        try:
            resets_memory = False
            while not self._closed.is_set():
                image = _read(capture)
                if image is None:
                    capture.release()
                    found = self._reconnect()
                    if found is None:
                        return
                    capture, resets_memory = found, True
                    continue
                self._arrived(image, resets_memory)
                resets_memory = False
        except Exception as error:  # whatever a decoder raises on broken data; reported to the iterating thread
            with self._wakeup:
                self._error = SourceError(f"cannot read {self._name}: {type(error).__name__}: {one_line(error)}")
                self._wakeup.notify_all()
        finally:
            capture.release()

    def _arrived(self, image: NDArray[np.uint8], resets_memory: bool) -> None:
        now = time.monotonic()
        if self._attempt:
            self._options.say(f"{self._name}: back after {now - self._last:.1f} s, at attempt {self._attempt}")
            self._monitor.restart_rate()
        self._attempt = 0
        resets_memory |= now - self._last > self._options.stall
        resets_memory |= self._monitor.check(image, now)
        self._deliver(image, now, resets_memory and self._read > 0)

    def _deliver(self, image: NDArray[np.uint8], now: float, resets_memory: bool) -> None:
        with self._wakeup:
            if self._options.every_frame:
                while self._newest is not None and not self._closed.is_set():
                    self._wakeup.wait(_POLL_SECONDS)
            resets_memory |= (
                self._newest is not None and self._newest.resets_memory
            )  # a dropped frame passes its reset on
            self._newest = _Arrival(self._read, image, now, resets_memory)
            self._read += 1
            self._last = now
            self._wakeup.notify_all()

    def _reconnect(self) -> Capture | None:
        """Reopen the camera, with growing waits in between; None if it is closed or stays away.

        Waits keep growing if the camera opens but sends no frame.
        """
        if self._attempt == 0:
            self._options.say(f"{self._name}: no more frames after {self._read}, reconnecting")
        while True:
            wait = _RETRY_SECONDS[min(self._attempt, len(_RETRY_SECONDS) - 1)]
            left = self._last + self._options.give_up_after - time.monotonic()
            if self._closed.wait(max(0.0, min(wait, left))):
                return None
            if left <= wait:
                break
            self._attempt += 1
            capture = self._reopen()
            if capture.isOpened():
                return capture
            capture.release()
        with self._wakeup:
            self._error = self._timeout_error(time.monotonic() - self._last)
            self._wakeup.notify_all()
        return None


def _read(capture: Capture) -> NDArray[np.uint8] | None:
    """Return the next image; None if there is none, for any reason."""
    try:
        read, image = capture.read()
    except cv2.error:  # a frame that cannot be converted
        return None
    return np.asarray(image, np.uint8) if read and image is not None and image.ndim == 3 else None
