"""Where results go: JSON lines, files of data sets, an overlay video, a window. Used as context managers.

A file appears under its name only when the block ends without an error; with one, nothing is left behind.
"""

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.formats import Footage, Writer
from runtime.overlay import Painter
from runtime.sources import Frame
from stm_skeletons.errors import SinkError
from stm_skeletons.files import partial_path
from stm_skeletons.geometry import Letterbox
from stm_skeletons.parts import Parts

CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_WINDOW = "STM-skeletons (q closes)"


class Sink(Protocol):
    """Takes the parts of every frame."""

    def write(self, frame: Frame, parts: Parts) -> bool:
        """Take a frame; False asks to stop. Raises SinkError when it cannot be written."""
        ...

    def __enter__(self) -> "Sink": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class _FileSink(ABC):
    """A file that gets its name when the block ends without an error."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._partial = partial_path(self._path)

    @abstractmethod
    def _close(self, keep: bool) -> bool:
        """Close the partial file; whether there is one to keep. Raises OSError or SinkError when it is not whole."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._close(keep=error is None):
                os.replace(self._partial, self._path.resolve())
        except OSError as problem:
            raise SinkError(f"cannot write {self._path}: {problem.strerror}") from problem
        finally:
            self._partial.unlink(missing_ok=True)


class JsonLinesSink(_FileSink):
    """One JSON object a line and frame, to a file."""

    _file: TextIO

    def __enter__(self) -> "JsonLinesSink":
        try:
            self._file = self._partial.open("w", encoding="utf-8")
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        try:
            self._file.write(parts.to_json_line(frame.number, frame.time) + "\n")
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error
        return True

    def _close(self, keep: bool) -> bool:
        self._file.close()
        return keep


class DataSetSink(JsonLinesSink):
    """One JSON file in a data set's format, made of lines that are kept beside it until the block ends."""

    def __init__(self, path: str, writer: Writer, footage: Footage) -> None:
        super().__init__(path)
        self._writer = writer
        self._footage = footage

    def _close(self, keep: bool) -> bool:
        super()._close(keep)
        if keep:
            lines = self._partial.with_name(f"{self._partial.name}.lines")
            os.replace(self._partial, lines)
            try:
                with self._partial.open("w", encoding="utf-8") as file:
                    self._writer(lines, file, self._footage, self._path)
            finally:
                lines.unlink(missing_ok=True)
        return keep


class StandardOutputSink:
    """One JSON object a line and frame, to the standard output as it comes."""

    def __enter__(self) -> "StandardOutputSink":
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        try:
            print(parts.to_json_line(frame.number, frame.time), flush=True)
        except BrokenPipeError:
            # Whoever read our output has gone. Python would complain once more at exit, so the pipe is put aside.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return False
        except OSError as error:
            raise SinkError(f"cannot write to the standard output: {error.strerror}") from error
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class OverlaySink(_FileSink):
    """A video of the frames with what was seen drawn on them, of the first frame's size.

    The codecs take even sizes only: of an odd one the last row or column is cut off.
    """

    def __init__(self, path: str, frames_per_second: float, painter: Painter) -> None:
        if Path(path).suffix.lower() not in CODECS:
            raise SinkError(f"cannot write {path}: an overlay's name must end in one of {', '.join(CODECS)}")
        super().__init__(path)
        self._frames_per_second = frames_per_second
        self._painter = painter
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def __enter__(self) -> "OverlaySink":
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        image = self._painter.paint(frame, parts)
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            self._writer = self._open()
        self._writer.write(_fit(image, self._size))
        self._written += 1
        return True

    def _close(self, keep: bool) -> bool:
        if self._writer is None:
            return False
        self._writer.release()
        if keep:
            self._check_whole()
        return keep

    def _open(self) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._frames_per_second, self._size)
        if not writer.isOpened():
            raise SinkError(
                f"cannot write {self._path}: this OpenCV cannot encode {self._path.suffix} video of "
                f"{self._size[0]}x{self._size[1]} at {self._frames_per_second:g} fps; try .avi"
            )
        return writer

    def _check_whole(self) -> None:
        """OpenCV's writer reports no error, not even a full disk: so read back what it wrote."""
        capture = cv2.VideoCapture(str(self._partial), cv2.CAP_FFMPEG)
        found = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
        capture.release()
        if found < self._written - 1:  # MKV's count is estimated from its duration
            raise SinkError(
                f"{self._path} was not written whole ({found} of {self._written} frames): is the disk full?"
            )


class WindowSink:
    """A window on this machine's screen; closing it or pressing q or Esc ends the run."""

    def __init__(self, painter: Painter) -> None:
        self._painter = painter
        # Where the display does not answer, Qt ends the whole process: so let another process try first.
        attempt = f"import cv2; cv2.namedWindow({_WINDOW!r}); cv2.destroyAllWindows()"
        try:
            tried = subprocess.run([sys.executable, "-c", attempt], capture_output=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            tried = None
        if tried is None or tried.returncode != 0:
            raise SinkError(
                "cannot open a window: there is no display, or this OpenCV was built without windows; "
                "use --overlay FILE.mp4 instead"
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


def _fit(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame of another size is letterboxed: a video has but one."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    boxed = np.empty((size[1], size[0], 3), np.uint8)
    Letterbox((image.shape[1], image.shape[0]), size).apply(image, boxed)
    return boxed
