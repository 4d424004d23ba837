"""Outputs of a run: JSON lines, data set files, an overlay, a window. Used as context managers.

JSON lines are written to the final file as they come. Every other file gets its name only if the block ends without an
error; otherwise nothing is left behind.
"""

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

import cv2

from runtime.formats import Footage, Writer
from runtime.frames import Frame
from runtime.overlay import Painter
from runtime.video_writer import CODECS, VideoWriter
from stm_skeletons.errors import SinkError
from stm_skeletons.files import atomic_write, check_new, lock, make_folder, partial_path
from stm_skeletons.parts import Parts

_WINDOW = "STM-skeletons (q closes)"


class Sink(Protocol):
    """Receives the parts of every frame."""

    def write(self, frame: Frame, parts: Parts) -> bool:
        """Write a frame; return False to ask for a stop. Raises SinkError if it cannot be written."""
        ...

    def __enter__(self) -> "Sink": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class _FileSink(ABC):
    """A file that gets its name when the block ends without an error. It is locked while it is written."""

    def __init__(self, path: str, force: bool = False) -> None:
        """Raises SinkError if the file exists (unless ``force``) or cannot be created."""
        self._path = Path(path)
        self._partial = partial_path(self._path, shared=True)
        check_new(self._path, force)
        self._lock: BinaryIO | None = None

    def _take(self) -> None:
        """Create and lock the partial file, reusing one that a killed process left behind."""
        try:
            self._lock = self._partial.open("ab")
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error
        try:
            lock(self._lock.fileno(), self._path)
        except SinkError:
            self._lock.close()
            self._lock = None
            raise

    @abstractmethod
    def _close(self, keep: bool) -> bool:
        """Close the partial file; return whether to keep it. Raises OSError or SinkError if it is incomplete."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._close(keep=error is None):
                os.replace(self._partial, self._path.resolve())
        except OSError as problem:
            raise SinkError(f"cannot write {self._path}: {problem.strerror}") from problem
        finally:
            if self._lock is not None:  # the partial file is ours
                self._partial.unlink(missing_ok=True)
                self._lock.close()


class JsonLinesSink:
    """Writes one JSON object per frame and line, directly to the final file.

    Lines are written whole, each with one write, so the file is readable whenever the process ends. The file is locked
    while it is written.
    """

    def __init__(self, path: str, force: bool = False) -> None:
        """
        Args:
            path: the file.
            force: replace an existing file.

        Raises:
            SinkError: the file exists, or cannot be created.
        """
        self._path, self._force = Path(path), force
        partial_path(self._path)  # for its checks
        check_new(self._path, force)
        self._file: BinaryIO | None = None

    def __enter__(self) -> "JsonLinesSink":
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        self.write_line(line_of(frame, parts))
        return True

    def write_line(self, text: str) -> None:
        """Append a line, given without its line break. Raises SinkError; the file still ends with a whole line."""
        try:
            file = self._file = self._file or self._open()
            line, start = (text + "\n").encode(), file.tell()
            if file.write(line) != len(line):  # the disk took only part of it
                file.truncate(start)
                file.seek(start)
                raise SinkError(f"cannot write {self._path}: no space for another line; is the disk full?")
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | (0 if self._force else os.O_EXCL)
        try:
            file = os.fdopen(os.open(self._path, flags, 0o666), "wb", buffering=0)
        except FileExistsError:
            check_new(self._path, force=False)
            raise
        try:
            lock(file.fileno(), self._path)
        except SinkError:
            file.close()
            raise
        file.truncate()
        return file


class DataSetSink(_FileSink):
    """Writes one JSON file in a data set's format, from lines that are stored beside it until the block ends."""

    def __init__(self, path: str, writer: Writer, footage: Footage, force: bool = False) -> None:
        super().__init__(path, force)
        self._writer = writer
        self._footage = footage
        self._lines = self._partial.with_name(f"{self._partial.name}.lines")

    def __enter__(self) -> "DataSetSink":
        self._take()
        try:
            self._file = self._lines.open("w", encoding="utf-8")
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        try:
            self._file.write(line_of(frame, parts) + "\n")
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error
        return True

    def _close(self, keep: bool) -> bool:
        try:
            self._file.close()
            if keep:
                with self._partial.open("w", encoding="utf-8") as file:
                    self._writer(self._lines, file, self._footage, self._path)
        finally:
            self._lines.unlink(missing_ok=True)
        return keep


def line_of(frame: Frame, parts: Parts, more: Mapping[str, object] | None = None) -> str:
    """Return a frame's JSON line without the line break; ``more``: additional keys."""
    about: dict[str, object] = dict(more or {})
    if frame.file is not None:
        about |= {"file": frame.file}
    if frame.arrived is not None:
        about |= {"age": round(time.monotonic() - frame.arrived, 3), "skipped": frame.skipped}
    return parts.to_json_line(frame.number, frame.time, about)


class StandardOutputSink:
    """Prints one JSON object per frame and line to standard output."""

    def __enter__(self) -> "StandardOutputSink":
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        try:
            print(line_of(frame, parts), flush=True)
        except BrokenPipeError:
            # The reader has gone. Replace the pipe, or Python would report it again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return False
        except OSError as error:
            raise SinkError(f"cannot write to standard output: {error.strerror}") from error
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class OverlaySink(_FileSink):
    """Writes a video of the frames with results drawn on them, see VideoWriter."""

    def __init__(self, path: str, frames_per_second: float, painter: Painter, force: bool = False) -> None:
        """Raises SinkError if the suffix is unknown, or the file exists or cannot be created."""
        if Path(path).suffix.lower() not in CODECS:
            raise SinkError(f"cannot write {path}: the overlay's name must end in one of {', '.join(CODECS)}")
        super().__init__(path, force)
        self._painter = painter
        self._video = VideoWriter(self._partial, frames_per_second, self._path)

    def __enter__(self) -> "OverlaySink":
        self._take()
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        self._video.write(self._painter.paint(frame, parts), frame.time)
        return True

    def _close(self, keep: bool) -> bool:
        return self._video.close(finish=keep) and keep


class OverlayImageSink:
    """Writes the frames with results drawn on them as images: one image, or a folder of images with their own names."""

    def __init__(self, path: str, painter: Painter, folder: bool, force: bool = False) -> None:
        """Raises SinkError if the output exists or cannot be created."""
        self._path, self._painter, self._folder, self._force = Path(path), painter, folder, force
        if folder:
            make_folder(self._path)
        else:
            check_new(self._path, force)

    def __enter__(self) -> "OverlayImageSink":
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        path = self._path / (frame.file or f"{frame.number:06}.jpg") if self._folder else self._path
        check_new(path, self._force)
        if self._folder:
            make_folder(path.parent)
        with atomic_write(path) as partial:
            written, data = cv2.imencode(path.suffix, self._painter.paint(frame, parts))
            if not written:
                raise SinkError(f"cannot write {path}: OpenCV cannot encode {path.suffix}")
            partial.write_bytes(data.tobytes())
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class WindowSink:
    """Shows the overlay in a window; closing it or pressing q or Esc ends the run."""

    def __init__(self, painter: Painter) -> None:
        self._painter = painter
        # If the display does not respond, Qt ends the whole process, so try it in another process first.
        attempt = f"import cv2; cv2.namedWindow({_WINDOW!r}); cv2.destroyAllWindows()"
        try:
            tried = subprocess.run([sys.executable, "-c", attempt], capture_output=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            tried = None
        if tried is None or tried.returncode != 0:
            raise SinkError(
                "cannot open a window: there is no display, or OpenCV was built without GUI support; use "
                "--overlay FILE.mp4 instead"
            )

    def __enter__(self) -> "WindowSink":
        cv2.namedWindow(_WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        cv2.imshow(_WINDOW, self._painter.paint(frame, parts))
        pressed = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) < 1
        return not (closed or pressed in (ord("q"), 27))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(cv2.error):
            cv2.destroyWindow(_WINDOW)
