"""Writes a video of each event, from before to after it."""

import threading
import time
from collections import deque
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.overlay import Painter
from runtime.service.config import CameraConfig
from runtime.service.outputs.files import Budget, Files, delete
from runtime.service.outputs.worker import Worker
from runtime.service.results import Event, Result
from runtime.video_writer import VideoWriter, plays
from stm_skeletons.errors import SinkError
from stm_skeletons.files import make_folder

_AHEAD, _MOST = 2.0, 16
"""Seconds of frames, and number of frames, that may wait."""
_WIDEST = 1280
"""Largest width of a clip in pixels."""
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]
_RING_BYTES = 64_000_000
"""Most bytes for images of the last seconds."""
_LONGEST = 120.0
"""Longest clip in seconds, however many events share it."""
_AT_ONCE, _MOST_IN_RING = 4, 1_000_000
"""Images of the ring that are encoded per frame, so that frames do not wait for all of them."""
_RATE = 10.0


@dataclass(frozen=True)
class _Clip:
    """A clip that has been announced."""

    name: str
    at: float
    """Time of its first event; this and ``until`` by the monotonic clock."""
    until: float


class ClipsOutput(Worker):
    """Writes videos of events, CAMERA-YYYYmmddTHHMMSSZ[-n]-event.mp4, at most 1280 pixels wide.

    Call ``name_for`` for each event before its result is offered to any output. Events during a clip share it, for at
    most two minutes.
    """

    name = "clips"

    def __init__(self, camera: CameraConfig) -> None:
        """``camera.clips`` must be set."""
        super().__init__(camera.name, _MOST, _AHEAD)
        assert camera.clips is not None
        self._config = camera.clips
        self._files = Files(self._config.folder, camera.name, "-event.mp4")
        self._budget = Budget(self._files, self._config.gigabytes)
        self._painter = Painter("people", self._config.blur_heads)
        self._ring: deque[tuple[float, bytes]] = deque()
        """Arrival time and JPEG of the images of the last seconds."""
        self._ring_bytes = 0
        self._promises = threading.Lock()
        self._promised: deque[_Clip] = deque()
        """Announced clips; the first may already be in progress."""
        self._video: VideoWriter | None = None
        self._first = self._done = 0.0
        """Arrival of the clip's first image, and of the latest image in it."""
        self.start()

    def name_for(self, event: Event) -> str:
        """Return the file name of the clip for an event happening now. Thread-safe; never waits for the disk."""
        now = time.monotonic()
        with self._promises:
            latest = self._promised[-1] if self._promised else None
            if latest is not None and now <= latest.until:
                if now - latest.at < _LONGEST:
                    self._promised[-1] = replace(latest, until=now + self._config.after)
                    return latest.name
                self._promised[-1] = replace(latest, until=now)
            clip = _Clip(self._files.name(event.time), now, now + self._config.after)
            self._promised.append(clip)
            return clip.name

    def _write(self, result: Result) -> None:
        arrived = result.frame.arrived or 0.0
        self._remember(arrived, _small(self._painter.paint(result.frame, result.parts, result.everybody)))
        self._copy(arrived, _AT_ONCE)

    def _idle(self) -> None:
        self._copy(time.monotonic())

    def _finish(self) -> None:
        self._copy(time.monotonic())
        self._end()

    def _remember(self, arrived: float, image: NDArray[np.uint8]) -> None:
        jpeg = cv2.imencode(".jpg", image, _QUALITY)[1].tobytes()
        self._ring.append((arrived, jpeg))
        self._ring_bytes += len(jpeg)
        horizon = arrived - self._config.before
        if (clip := self._due()) is not None:
            horizon = min(horizon, clip.at - self._config.before if self._video is None else self._done)
        while self._ring[0][0] < horizon or self._ring_bytes > _RING_BYTES:
            self._ring_bytes -= len(self._ring.popleft()[1])

    def _copy(self, now: float, most: int = _MOST_IN_RING) -> None:
        """Add at most ``most`` new images to the due clip; end the clip when it is over."""
        while (clip := self._due()) is not None:
            try:
                if self._video is None:
                    self._begin(clip)
                images = [each for each in self._ring if self._done < each[0] <= clip.until]
                for arrived, jpeg in images[:most]:
                    self._add(arrived, jpeg)
                self._budget.make_room()
            except (SinkError, OSError):
                self._over(now, whatever=True)
                self._end(whole=False)
                raise
            if len(images) > most or not self._over(now, self._budget.is_large()):
                return
            self._end()

    def _due(self) -> _Clip | None:
        with self._promises:
            return self._promised[0] if self._promised else None

    def _over(self, now: float, whatever: bool = False) -> bool:
        """Whether the due clip has ended or is given up; then no further event joins it."""
        with self._promises:
            over = whatever or now > self._promised[0].until
            if over:
                self._promised.popleft()
            return over

    def _begin(self, clip: _Clip) -> None:
        path = self._path = self._files.path(clip.name)
        make_folder(path.parent)
        self._budget.begin(path)
        self._video = VideoWriter(path, _RATE, at_once=True)
        self._first, self._done = float("inf"), clip.at - self._config.before

    def _add(self, arrived: float, jpeg: bytes) -> None:
        assert self._video is not None
        image = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        self._first = min(self._first, arrived)
        self._video.write(image, arrived - self._first)
        self._done = arrived

    def _end(self, whole: bool = True) -> None:
        video, self._video = self._video, None
        if video is None:
            return
        try:
            video.close(finish=whole)
        finally:
            if not plays(self._path):
                delete(self._path)


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= _WIDEST:
        return image
    size = _WIDEST, max(2, height * _WIDEST // width)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
