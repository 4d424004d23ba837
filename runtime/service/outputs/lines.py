"""Writes JSON lines to files rotated by size and age."""

import time
from contextlib import suppress
from pathlib import Path

from runtime.service.config import CameraConfig, LinesConfig
from runtime.service.outputs.files import Files, delete, size_of
from runtime.service.outputs.texts import event_fields, utc_text
from runtime.service.outputs.worker import Worker, without_image
from runtime.service.results import Result
from runtime.sinks import JsonLinesSink, line_of

_WAITING = 500
"""Most lines that may wait for the disk."""


class LinesOutput(Worker):
    """Writes lines like ``run --parts``, with "camera", "utc" and "events", to CAMERA-YYYYmmddTHHMMSSZ[-n].jsonl.

    Each line is written whole with one write, so files are readable whenever the process ends. A new process starts a
    new file; existing files are never opened.
    """

    name = "lines"

    def __init__(self, camera: CameraConfig) -> None:
        """``camera.lines`` must be set."""
        super().__init__(camera.name, _WAITING, retries=True)
        assert camera.lines is not None
        self._config: LinesConfig = camera.lines
        self._files = Files(camera.lines.folder, camera.name, ".jsonl")
        self._path: Path | None = None
        self._inode = self._bytes = 0
        self._began = 0.0
        self.start()

    def offer(self, result: Result) -> None:
        super().offer(without_image(result))

    def _write(self, result: Result) -> None:
        events = [event_fields(event) for event in result.events]
        about = {"camera": result.camera, "utc": utc_text(result.time), "events": events}
        line = line_of(result.frame, result.parts, about)
        length = len(line.encode()) + 1
        if self._path is not None and self._is_over(self._path, length):
            self._end(self._path)
        path = self._path = self._path or self._begin()
        try:
            self._sink.write_line(line)
        except Exception:
            if self._bytes == 0 or size_of(path) != self._bytes:
                self._end(path)
            raise
        self._bytes += length
        self._inode = self._inode or _inode(path)

    def _finish(self) -> None:
        if self._path is not None:
            self._end(self._path)

    def _begin(self) -> Path:
        path = self._files.new()
        self._sink = JsonLinesSink(str(path))
        self._began, self._bytes, self._inode = time.monotonic(), 0, 0
        others = [old.path for old in self._files.oldest_first() if old.path != path]
        for other in others[: max(0, len(others) + 1 - self._config.keep)]:
            delete(other)
        return path

    def _end(self, path: Path) -> None:
        self._path = None
        with suppress(OSError):
            self._sink.close()
        if self._bytes == 0 and size_of(path) == 0:  # no line was written
            delete(path)

    def _is_over(self, path: Path, length: int) -> bool:
        """Whether a line of this length needs another file: this one is full, old, or was deleted."""
        full = self._bytes > 0 and self._bytes + length > self._config.megabytes * 1e6
        old = time.monotonic() - self._began > self._config.hours * 3600
        return full or old or _inode(path) != self._inode


def _inode(path: Path) -> int:
    """Inode of a file; 0 if it does not exist."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
