"""A camera's thread: opens its source, keeps the newest frame, and reconnects forever."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from runtime.frames import Frame, Source, rotated
from runtime.image_monitor import ImageMonitor
from runtime.live import LiveOptions, LiveSource
from runtime.service.config import CameraConfig
from runtime.service.status import CameraStats, State
from runtime.sources import SourceOptions, open_source, without_password
from stm_skeletons.errors import StmError, one_line

_RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to reopen a source; the last value repeats."""
_GIVE_UP = 60.0
"""Seconds without a frame after which a camera is reopened from scratch, because its decoder may hang."""
_MAX_HANGING = 4
"""Most hanging decoders of a camera; it is not reopened until one of them has ended."""
_LATE = 1.0
"""Lag in seconds at which a file's clock is reset."""
_POLL_SECONDS = 0.05
"""Interval in seconds at which waits check whether to stop."""
_HAS_BEEN = re.compile(r"image has been (black|frozen)")
_NO_LONGER = re.compile(r"image is no longer (black|frozen)")


class CameraFeed:
    """Provides the newest frame of a camera, or the frames of a file.

    A file with pace "real" behaves like a camera: its frames arrive at their times and do not wait. With pace "all"
    each frame waits until the previous one has been taken.
    """

    def __init__(
        self, camera: CameraConfig, stats: CameraStats, wakeup: threading.Condition, say: Callable[[str], None]
    ) -> None:
        """
        Args:
            camera: what to read, and how.
            stats: receives the camera's condition and counters.
            wakeup: notified when a frame is available or the file has ended.
            say: called with a line for each unusual condition of the images.
        """
        self._camera, self._stats, self._wakeup, self._say = camera, stats, wakeup, say
        self._closed = threading.Event()
        self._newest: Frame | None = None
        self._taken = -1
        """Number of the last frame taken."""
        self._number = 0
        """Number of the next frame."""
        self._first: float | None = None
        """Arrival time of the first frame."""
        self._reset_pending = True
        self._hanging: list[LiveSource] = []
        """Closed sources whose threads are still running."""
        self._away = False
        self._odd: tuple[State, str | None] = ("live", None)
        self._monitor = ImageMonitor(camera.stall, self._on_file_message)
        self._anchor: float | None = None
        """Time of the file's start by ``time.monotonic()``."""
        self._offset = self._position = 0.0
        """Seconds of the file in earlier loops, and up to the latest frame in this loop."""
        self._due = 0.0
        """Time until which ``rate`` allows no further frame."""
        self.ended = False
        """Whether this is a file that has ended."""
        self._thread = threading.Thread(target=self._run, name=f"feeds {camera.name}", daemon=True)

    def start(self) -> None:
        """Start reading. Errors are recorded, and the source is reopened."""
        self._thread.start()

    @property
    def waiting(self) -> bool:
        """Whether a frame is available."""
        return self._newest is not None

    def take(self) -> Frame | None:
        """Return the newest frame not yet taken. ``arrived`` is set; number and time continue across reconnects."""
        with self._wakeup:
            frame, self._newest = self._newest, None
            if frame is None:
                return None
            skipped, self._taken = frame.number - self._taken - 1, frame.number
            self._wakeup.notify_all()
        self._stats.skipped(skipped)
        return replace(frame, skipped=skipped)

    def ask_to_stop(self) -> None:
        """Stop reading, without waiting for the thread."""
        self._closed.set()
        with self._wakeup:
            self._wakeup.notify_all()

    def close(self, within: float) -> bool:
        """Stop reading. Returns whether the thread ended in ``within`` seconds; a hanging decoder is left alone."""
        self.ask_to_stop()
        if self._thread.ident is not None:  # was started
            self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        attempt = 0
        while not self._closed.is_set():
            before = self._number
            is_file, why = self._follow()
            if self._closed.is_set():
                break
            gave_frames = self._number > before
            if is_file and gave_frames and not self._camera.loop:
                self._end(why)
                return
            self._reset_pending = True
            if why is None and gave_frames:  # a file that loops
                continue
            attempt = 0 if gave_frames else attempt
            self._away, self._anchor = True, None
            self._stats.set_state("away", why)
            self._closed.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            attempt += 1
        self._stats.set_state("stopped")

    def _end(self, why: str | None) -> None:
        """End the file; its last frame can still be taken."""
        self._stats.set_state("ended", why)
        with self._wakeup:
            self.ended = True
            self._wakeup.notify_all()

    def _follow(self) -> tuple[bool, str | None]:
        """Read the source to its end; return whether it is a file, and why it failed."""
        source: Source | None = None
        self._hanging = [each for each in self._hanging if each.hangs]
        if len(self._hanging) >= _MAX_HANGING:
            return False, f"{_MAX_HANGING} decoders hang; restart the service"
        try:
            options = SourceOptions(
                LiveOptions(give_up_after=_GIVE_UP, stall=self._camera.stall, say=self._on_message),
                skip=lambda error: self._say(self._without_secrets(error)),
            )
            source = opened = open_source(self._camera.source, options)
            opened.stop_when(self._closed)
            for frame in opened:
                if self._closed.is_set():
                    break
                self._arrived(frame, opened.live)
            return not opened.live, None
        except StmError as error:
            return source is not None and not source.live, self._without_secrets(error)
        except Exception as error:  # whatever a decoder raises on broken data; the next attempt may succeed
            why = f"cannot read the source: {type(error).__name__}: {error}"
            return source is not None and not source.live, self._without_secrets(why)
        finally:
            if source is not None:
                self._offset += self._position + 1 / source.frames_per_second
                self._position = 0.0
                source.close()
                if isinstance(source, LiveSource) and source.hangs:
                    self._hanging.append(source)

    def _arrived(self, frame: Frame, live: bool) -> None:
        """Handle a frame that was read."""
        if not live:
            self._position = frame.time
            if self._camera.pace == "real":
                self._wait_for(self._offset + frame.time)
        image = rotated(frame.image, self._camera.rotate)
        now = time.monotonic() if frame.arrived is None else frame.arrived
        if not live:  # live sources check their images themselves
            self._reset_pending |= self._monitor.check(image, now)
        if self._away and self._first is not None:
            self._stats.reconnected()
        self._away = False
        self._first = now if self._first is None else self._first
        self._reset_pending |= frame.resets_memory
        self._number += frame.skipped
        all_of_a_file = not live and self._camera.pace == "all"
        told_time = self._offset + frame.time if all_of_a_file else now - self._first
        self._stats.arrived(now, (image.shape[1], image.shape[0]), *self._odd)
        self._offer(Frame(self._number, told_time, image, frame.file, now), all_of_a_file)
        self._number += 1

    def _wait_for(self, position: float) -> None:
        """Wait until a file's frame at this position in seconds is due."""
        now = time.monotonic()
        if self._anchor is None or now - self._anchor - position > _LATE:
            self._anchor = now - position
        self._closed.wait(max(0.0, self._anchor + position - now))

    def _offer(self, frame: Frame, each: bool) -> None:
        """Make a frame available; ``each``: wait instead of replacing a frame that has not been taken."""
        interval = 0.0 if self._camera.rate is None else 1 / self._camera.rate
        if each:
            self._closed.wait(max(0.0, self._due - time.monotonic()))
        elif frame.arrived is not None and frame.arrived < self._due:
            return
        with self._wakeup:
            while each and self._newest is not None and not self._closed.is_set():
                self._wakeup.wait(_POLL_SECONDS)
                self._stats.waits(time.monotonic())
            if self._closed.is_set():
                return
            now = time.monotonic()
            self._due = (self._due if now - self._due < interval else now) + interval
            # A dropped frame passes its memory reset on.
            resets_memory = self._reset_pending or (self._newest is not None and self._newest.resets_memory)
            self._newest = replace(frame, resets_memory=resets_memory, arrived=now if each else frame.arrived)
            self._reset_pending = False
            self._wakeup.notify_all()

    def _on_file_message(self, line: str) -> None:
        """Handle a message about a file's images; changes of its rate are our doing."""
        if not line.startswith("frame rate changed"):
            self._on_message(line)

    def _on_message(self, line: str) -> None:
        """Turn a message about the camera or its images into a state; forward other messages."""
        line = line.rpartition(": ")[2]  # drop the source's name
        if found := _HAS_BEEN.match(line):
            self._odd = ("black" if found[1] == "black" else "frozen"), line
        elif found := _NO_LONGER.match(line):
            self._odd = ("live", None) if self._odd[0] == found[1] else self._odd
        elif line.startswith("no more frames"):
            self._stats.set_state("away", line)
        elif line.startswith("back after"):
            self._stats.reconnected()
        else:
            self._say(line)

    def _without_secrets(self, text: object) -> str:
        """Return a line about the source without the secrets in its address."""
        line, source = one_line(text), self._camera.source
        credentials, _, place = source.partition("://")[2].rpartition("@")
        line = line.replace(f"{credentials}@", "") if credentials else line
        return line.replace(place, without_password(source).partition("://")[2]) if place else line
