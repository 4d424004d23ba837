"""Where results go: JSON lines, files of data sets, an overlay, a window. Used as context managers.

Lines go to their own name as they come. Every other file appears under its name only when the block ends without an
error; with one, nothing is left behind.
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
    """Takes the parts of every frame."""

    def write(self, frame: Frame, parts: Parts) -> bool:
        """Take a frame; False asks to stop. Raises SinkError when it cannot be written."""
        ...

    def __enter__(self) -> "Sink": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class _FileSink(ABC):
    """A file that gets its name when the block ends without an error. While it is written nobody else can."""

    def __init__(self, path: str, force: bool = False) -> None:
        """Raises SinkError: there is a file already, which ``force`` replaces, or none can be made."""
        self._path = Path(path)
        self._partial = partial_path(self._path, shared=True)
        check_new(self._path, force)
        self._lock: BinaryIO | None = None

    def _take(self) -> None:
        """Make the partial file and lock it; one that was left behind by a killed process is no obstacle."""
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
            if self._lock is not None:  # it is ours
                self._partial.unlink(missing_ok=True)
                self._lock.close()


class JsonLinesSink:
    """One JSON object a line and frame, to a file that has its name from the first frame on.

    Only whole lines are written, each at once: what there is can be read after any end of the process. While it is
    written it is locked.
    """

    def __init__(self, path: str, force: bool = False) -> None:
        """
        Args:
            path: the file.
            force: replace a file that is there.

        Raises:
            SinkError: there is one, or none can be made.
        """
        self._path, self._force = Path(path), force
        partial_path(self._path)  # for what it checks
        check_new(self._path, force)
        self._file: BinaryIO | None = None

    def __enter__(self) -> "JsonLinesSink":
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        self.write_line(line_of(frame, parts))
        return True

    def write_line(self, text: str) -> None:
        """Add a line, given without its line break. Raises SinkError; the file ends in a whole line all the same."""
        try:
            file = self._file = self._file or self._open()
            line, start = (text + "\n").encode(), file.tell()
            if file.write(line) != len(line):  # the disk took a part of it and no more
                file.truncate(start)
                file.seek(start)
                raise SinkError(f"cannot write {self._path}: no room for another line; is the disk full?")
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice."""
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
    """One JSON file in a data set's format, made of lines that are kept beside it until the block ends."""

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
    """A frame's line of JSON, without the line break; ``more``: what else it is to say."""
    about: dict[str, object] = dict(more or {})
    if frame.file is not None:
        about |= {"file": frame.file}
    if frame.arrived is not None:
        about |= {"age": round(time.monotonic() - frame.arrived, 3), "skipped": frame.skipped}
    return parts.to_json_line(frame.number, frame.time, about)


class StandardOutputSink:
    """One JSON object a line and frame, to the standard output as it comes."""

    def __enter__(self) -> "StandardOutputSink":
        return self

    def write(self, frame: Frame, parts: Parts) -> bool:
        try:
            print(line_of(frame, parts), flush=True)
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
    """A video of the frames with what was seen drawn on them; see VideoWriter."""

    def __init__(self, path: str, frames_per_second: float, painter: Painter, force: bool = False) -> None:
        """Raises SinkError: no such kind of video, there is a file already, or none can be made."""
        if Path(path).suffix.lower() not in CODECS:
            raise SinkError(f"cannot write {path}: an overlay's name must end in one of {', '.join(CODECS)}")
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
    """The frames with what was seen drawn on them as images: one, or a folder of them under their own names."""

    def __init__(self, path: str, painter: Painter, folder: bool, force: bool = False) -> None:
        """Raises SinkError: what is to be written is there already, or cannot be made."""
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
