"""Records the overlay as video segments, within a disk budget."""

import time
from pathlib import Path

from runtime.overlay import Painter
from runtime.service.config import CameraConfig
from runtime.service.outputs.files import Budget, Files, delete
from runtime.service.outputs.worker import Worker
from runtime.service.results import Result
from runtime.video_writer import VideoWriter, plays
from stm_skeletons.errors import SinkError

_AHEAD = 2.0
"""Seconds of frames that may wait for the encoder."""
_MOST = 16
"""Most frames that may wait: an image of 1920x1080 takes 6 MB."""
_GAP = 5.0
"""Seconds without a frame after which a segment ends."""
_RATE = 10.0
"""Nominal frames per second for the encoder; the frames have their own times."""


class RecordingOutput(Worker):
    """Writes segments of video, CAMERA-YYYYmmddTHHMMSSZ[-n].mp4, with frames at their arrival times.

    A segment ends after the configured minutes, at a quarter of the budget, when the image size changes, and when the
    camera pauses. The file has its final name from the first frame on; a truncated one plays except for its last two
    seconds.
    """

    name = "recording"

    def __init__(self, camera: CameraConfig) -> None:
        """``camera.recording`` must be set."""
        super().__init__(camera.name, _MOST, _AHEAD)
        assert camera.recording is not None
        self._config = camera.recording
        self._files = Files(self._config.folder, camera.name, ".mp4")
        self._budget = Budget(self._files, self._config.gigabytes)
        self._painter = Painter(self._config.draw, self._config.blur_heads)
        self._path: Path | None = None
        self._size = (0, 0)
        self._began = self._last = 0.0
        self.start()

    def _write(self, result: Result) -> None:
        arrived = result.frame.arrived or 0.0
        if self._path is not None and self._is_over(self._path, result, arrived):
            self._end()
        image = self._painter.paint(result.frame, result.parts, result.everybody)
        if self._path is None:
            self._begin(result, arrived)
        self._last = arrived
        try:
            self._video.write(image, arrived - self._began)
        except SinkError:
            self._end(whole=False)
            raise
        self._budget.make_room()

    def _idle(self) -> None:
        if self._path is not None and time.monotonic() - self._last > _GAP:
            self._end()

    def _finish(self) -> None:
        self._end()

    def _begin(self, result: Result, arrived: float) -> None:
        path = self._files.new()
        self._budget.begin(path)
        self._video = VideoWriter(path, _RATE, at_once=True)
        self._path, self._began, self._size = path, arrived, result.parts.size

    def _end(self, whole: bool = True) -> None:
        path, self._path = self._path, None
        if path is None:
            return
        try:
            self._video.close(finish=whole)
        finally:
            if not plays(path):
                delete(path)

    def _is_over(self, path: Path, result: Result, arrived: float) -> bool:
        long = arrived - self._began >= self._config.minutes * 60
        gone = not path.exists()
        return long or gone or self._budget.is_large() or result.parts.size != self._size or arrived - self._last > _GAP
