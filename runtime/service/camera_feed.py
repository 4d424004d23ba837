"""A camera's thread: opens its source, keeps the newest frame, and never gives up."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from runtime.frames import Frame, Source, rotated
from runtime.live import LiveOptions, LiveSource
from runtime.picture_watch import PictureWatch
from runtime.service.config import CameraConfig
from runtime.service.status import CameraMarks, State
from runtime.sources import SourceOptions, open_source, without_password
from stm_skeletons.errors import StmError, one_line

_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to open a source again; the last is kept to."""
_GIVE_UP = 60.0
"""Seconds without a frame after which a camera is opened from scratch: its decoder may hang."""
_MOST_HANGING = 4
"""Decoders of a camera that hang; it is not opened once more before one of them has ended."""
_LATE = 1.0
"""Seconds by which a file may be late before its clock is set back."""
_LOOK_UP = 0.05
"""Seconds after which who waits for its turn looks whether it shall stop."""
_HAS_BEEN = re.compile(r"the picture has been (black|frozen)")
_NO_LONGER = re.compile(r"the picture is no longer (black|frozen)")


class CameraFeed:
    """Gives the newest frame of a camera, or the frames of a file.

    A file with pace "real" is a camera: its frames come when their time has come, and wait for nobody. With pace "all"
    each waits until the one before has been taken.
    """

    def __init__(
        self, camera: CameraConfig, marks: CameraMarks, news: threading.Condition, say: Callable[[str], None]
    ) -> None:
        """
        Args:
            camera: what to read, and how.
            marks: where it is noted how that goes.
            news: notified when there is a frame to take, or the file has ended.
            say: told, in a line, what is odd about the pictures.
        """
        self._camera, self._marks, self._news, self._say = camera, marks, news, say
        self._closed = threading.Event()
        self._newest: Frame | None = None
        self._taken = -1
        """Number of the frame that was taken last."""
        self._number = 0
        """Of the next frame."""
        self._first: float | None = None
        """When the first frame came."""
        self._anew = True
        self._hanging: list[LiveSource] = []
        """Sources that were closed, and whose threads go on."""
        self._away = False
        self._odd: tuple[State, str | None] = ("live", None)
        self._watch = PictureWatch(camera.stall, self._heard_of_file)
        self._anchor: float | None = None
        """When the file's time 0 was, by ``time.monotonic()``."""
        self._offset = self._position = 0.0
        """Seconds of the file before this time round, and up to its latest frame."""
        self._due = 0.0
        """Before then ``rate`` allows no other frame."""
        self.ended = False
        """Whether this is a file that is over."""
        self._thread = threading.Thread(target=self._run, name=f"feeds {camera.name}", daemon=True)

    def start(self) -> None:
        """Begin to read. Errors are noted, and tried again."""
        self._thread.start()

    @property
    def waiting(self) -> bool:
        """Whether there is a frame to take."""
        return self._newest is not None

    def take(self) -> Frame | None:
        """The newest frame that has not been taken; its ``arrived`` is set, its number and time go on after a cut."""
        with self._news:
            frame, self._newest = self._newest, None
            if frame is None:
                return None
            skipped, self._taken = frame.number - self._taken - 1, frame.number
            self._news.notify_all()
        self._marks.skipped(skipped)
        return replace(frame, skipped=skipped)

    def ask_to_stop(self) -> None:
        """Read no more, without waiting for that."""
        self._closed.set()
        with self._news:
            self._news.notify_all()

    def close(self, within: float) -> bool:
        """Read no more. Whether the thread has ended in so many seconds: a decoder that hangs is left alone."""
        self.ask_to_stop()
        if self._thread.ident is not None:  # it was started
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
            self._anew = True
            if why is None and gave_frames:  # a file begins again
                continue
            attempt = 0 if gave_frames else attempt
            self._away, self._anchor = True, None
            self._marks.is_now("away", why)
            self._closed.wait(_WAITS[min(attempt, len(_WAITS) - 1)])
            attempt += 1
        self._marks.is_now("stopped")

    def _end(self, why: str | None) -> None:
        """The file is over: what is left to be taken is the last frame."""
        self._marks.is_now("ended", why)
        with self._news:
            self.ended = True
            self._news.notify_all()

    def _follow(self) -> tuple[bool, str | None]:
        """Read the source to its end: whether it is a file, and why it broke."""
        source: Source | None = None
        self._hanging = [each for each in self._hanging if each.hangs]
        if len(self._hanging) >= _MOST_HANGING:
            return False, f"its decoder hangs, {_MOST_HANGING} times over; start the service anew"
        try:
            options = SourceOptions(
                LiveOptions(give_up_after=_GIVE_UP, stall=self._camera.stall, say=self._heard),
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
        except Exception as error:  # whatever a decoder makes of broken data: the next attempt may go well
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
        """A frame was read, from a live source or a file."""
        if not live:
            self._position = frame.time
            if self._camera.pace == "real":
                self._wait_for(self._offset + frame.time)
        image = rotated(frame.image, self._camera.rotate)
        now = time.monotonic() if frame.arrived is None else frame.arrived
        if not live:  # who reads cameras has looked at the picture
            self._anew |= self._watch.look(image, now)
        if self._away and self._first is not None:
            self._marks.reconnected()
        self._away = False
        self._first = now if self._first is None else self._first
        self._anew |= frame.anew
        self._number += frame.skipped
        all_of_a_file = not live and self._camera.pace == "all"
        told_time = self._offset + frame.time if all_of_a_file else now - self._first
        self._marks.arrived(now, (image.shape[1], image.shape[0]), *self._odd)
        self._offer(Frame(self._number, told_time, image, frame.file, now), all_of_a_file)
        self._number += 1

    def _wait_for(self, position: float) -> None:
        """Until a file's frame at so many seconds is due."""
        now = time.monotonic()
        if self._anchor is None or now - self._anchor - position > _LATE:
            self._anchor = now - position
        self._closed.wait(max(0.0, self._anchor + position - now))

    def _offer(self, frame: Frame, each: bool) -> None:
        """Let a frame be taken; ``each``: none is skipped, however long that takes."""
        interval = 0.0 if self._camera.rate is None else 1 / self._camera.rate
        if each:
            self._closed.wait(max(0.0, self._due - time.monotonic()))
        elif frame.arrived is not None and frame.arrived < self._due:
            return
        with self._news:
            while each and self._newest is not None and not self._closed.is_set():
                self._news.wait(_LOOK_UP)
                self._marks.waits(time.monotonic())
            if self._closed.is_set():
                return
            now = time.monotonic()
            self._due = (self._due if now - self._due < interval else now) + interval
            # A frame that nobody takes is never seen, but what it began is.
            anew = self._anew or (self._newest is not None and self._newest.anew)
            self._newest = replace(frame, anew=anew, arrived=now if each else frame.arrived)
            self._anew = False
            self._news.notify_all()

    def _heard_of_file(self, line: str) -> None:
        """The same of a file, whose rate is ours."""
        if not line.startswith("it now sends"):
            self._heard(line)

    def _heard(self, line: str) -> None:
        """What is said of the camera or its pictures becomes its state; what is none is passed on."""
        line = line.rpartition(": ")[2]  # before it is the source's name
        if found := _HAS_BEEN.match(line):
            self._odd = ("black" if found[1] == "black" else "frozen"), line
        elif found := _NO_LONGER.match(line):
            self._odd = ("live", None) if self._odd[0] == found[1] else self._odd
        elif line.startswith("no more frames"):
            self._marks.is_now("away", line)
        elif line.startswith("back after"):
            self._marks.reconnected()
        else:
            self._say(line)

    def _without_secrets(self, text: object) -> str:
        """A line about the source, without what is secret in its address."""
        line, source = one_line(text), self._camera.source
        credentials, _, place = source.partition("://")[2].rpartition("@")
        line = line.replace(f"{credentials}@", "") if credentials else line
        return line.replace(place, without_password(source).partition("://")[2]) if place else line
