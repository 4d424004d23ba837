"""Cameras and streams: always the newest frame, and back again after a cut.

A thread reads all the time and keeps the newest frame only. Whoever processes slower than frames come skips some, which
are counted, and is never late by more than its own time for a frame.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame, usable_rate
from runtime.picture_watch import PictureWatch
from runtime.stream_capture import StreamCapture
from stm_skeletons.errors import SourceError, one_line

_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to connect again; the last is kept to."""
_LOOK_UP = 0.05
"""Seconds after which who waits for a frame looks whether it shall stop."""
Capture = cv2.VideoCapture | StreamCapture


@dataclass(frozen=True)
class LiveOptions:
    """How cameras and streams are read."""

    every_frame: bool = False
    """Take frames in turn, however late that is, instead of the newest."""
    give_up_after: float = 60.0
    """Seconds without a frame after which the source counts as broken."""
    stall: float = 5.0
    """Seconds without a frame that are a gap, after which a network stream is connected anew."""
    say: Callable[[str], None] = lambda _line: None
    """Told in a line what happens to the camera."""


@dataclass(frozen=True)
class _Arrival:
    """A frame and when it was there."""

    number: int
    image: NDArray[np.uint8]
    time: float
    anew: bool


class LiveSource:
    """A camera or stream."""

    live = True
    total: int | None = None

    def __init__(self, capture: Capture, again: Callable[[], Capture], name: str, options: LiveOptions) -> None:
        """
        Args:
            capture: the opened camera, which is released with this source.
            again: opens it once more after a cut.
            name: what it is called in messages; without a password.
            options: how it is read.
        """
        self._again, self._name, self._options = again, name, options
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_size: tuple[int, int] | None = size if min(size) > 0 else None
        self.frames_per_second = usable_rate(capture.get(cv2.CAP_PROP_FPS))
        self._watch = PictureWatch(options.stall, lambda line: options.say(f"{name}: {line}"))
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._news = threading.Condition()
        self._newest: _Arrival | None = None
        self._taken = self._read = 0
        self._attempt = 0
        """To connect again since the last frame."""
        self._last = time.monotonic()
        self._error: SourceError | None = None
        self._thread = threading.Thread(target=self._run, args=(capture,), name=f"reads {name}", daemon=True)
        self._thread.start()

    def stop_when(self, asked: threading.Event) -> None:
        """Iteration ends soon after this event is set, even while no frame comes."""
        self._asked = asked

    def __iter__(self) -> Iterator[Frame]:
        first: float | None = None
        with self._news:  # what came before anybody looked is not skipped
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
                anew=arrival.anew,
            )

    def close(self) -> None:
        """Stop reading. A decoder that hangs is not waited for longer than a second."""
        self._closed.set()
        with self._news:
            self._news.notify_all()
        self._thread.join(timeout=1.0)

    @property
    def hangs(self) -> bool:
        """Whether its thread still reads; of a source that was closed: whether its decoder hangs."""
        return self._thread.is_alive()

    def _next(self) -> _Arrival | None:
        """The newest frame that has not been taken yet; None when asked to stop."""
        with self._news:
            while self._newest is None:
                if self._asked.is_set() or self._closed.is_set():
                    return None
                silent = time.monotonic() - self._last
                if self._error is None and silent > self._options.give_up_after:
                    self._error = self._gave_up(silent)  # the thread may hang in the decoder
                if self._error is not None:
                    self._closed.set()
                    raise self._error
                self._news.wait(_LOOK_UP)
            arrival, self._newest = self._newest, None
            self._news.notify_all()
            return arrival

    def _gave_up(self, silent: float) -> SourceError:
        return SourceError(
            f"{self._name} stopped giving frames after {self._read} and was away for {silent:.0f} s; check the camera "
            "and its cable, or wait longer with --give-up-after"
        )

    def _run(self, capture: Capture) -> None:
        """What the thread does, until it is closed or the camera stays away."""
        try:
            anew = False
            while not self._closed.is_set():
                image = _read(capture)
                if image is None:
                    capture.release()
                    found = self._reconnect()
                    if found is None:
                        return
                    capture, anew = found, True
                    continue
                self._arrived(image, anew)
                anew = False
        except Exception as error:  # whatever a decoder makes of broken data; who iterates is told
            with self._news:
                self._error = SourceError(f"{self._name} cannot be read: {type(error).__name__}: {one_line(error)}")
                self._news.notify_all()
        finally:
            capture.release()

    def _arrived(self, image: NDArray[np.uint8], anew: bool) -> None:
        now = time.monotonic()
        if self._attempt:
            self._options.say(f"{self._name}: back after {now - self._last:.1f} s, at attempt {self._attempt}")
            self._watch.start_anew()
        self._attempt = 0
        anew |= now - self._last > self._options.stall
        anew |= self._watch.look(image, now)
        self._deliver(image, now, anew and self._read > 0)

    def _deliver(self, image: NDArray[np.uint8], now: float, anew: bool) -> None:
        with self._news:
            if self._options.every_frame:
                while self._newest is not None and not self._closed.is_set():
                    self._news.wait(_LOOK_UP)
            anew |= self._newest is not None and self._newest.anew  # that frame is never seen, but what it began is
            self._newest = _Arrival(self._read, image, now, anew)
            self._read += 1
            self._last = now
            self._news.notify_all()

    def _reconnect(self) -> Capture | None:
        """Open the camera again, with growing waits in between; None when it is closed or stays away.

        The waits go on growing where it can be opened and gives no frame.
        """
        if self._attempt == 0:
            self._options.say(f"{self._name}: no more frames after {self._read}; connecting again")
        while True:
            wait = _WAITS[min(self._attempt, len(_WAITS) - 1)]
            left = self._last + self._options.give_up_after - time.monotonic()
            if self._closed.wait(max(0.0, min(wait, left))):
                return None
            if left <= wait:
                break
            self._attempt += 1
            capture = self._again()
            if capture.isOpened():
                return capture
            capture.release()
        with self._news:
            self._error = self._gave_up(time.monotonic() - self._last)
            self._news.notify_all()
        return None


def _read(capture: Capture) -> NDArray[np.uint8] | None:
    """The next picture; None when there is none, for whatever reason."""
    try:
        read, image = capture.read()
    except cv2.error:  # a frame that cannot be converted
        return None
    return np.asarray(image, np.uint8) if read and image is not None and image.ndim == 3 else None
