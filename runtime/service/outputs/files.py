"""Names of an output's files for one camera, and deletion of old ones."""

import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stm_skeletons.errors import SinkError
from stm_skeletons.files import make_folder

_RECENT = 100
"""Most recent names, remembered although their files may not exist yet."""


_MOST = 200_000
"""Most names remembered; more than any configured number of files."""


@dataclass(frozen=True)
class OldFile:
    """A file that may be deleted to make room."""

    path: Path
    bytes: int


class Files:
    """Files CAMERA-YYYYmmddTHHMMSSZ[-n]SUFFIX in one folder.

    The time in a name is for people; nothing relies on it. If the clock is set back, names still do not repeat, and
    files of this process always count as newer than files it found.
    """

    def __init__(self, folder: str, camera: str, suffix: str) -> None:
        """``camera``: letters, digits, "-" and "_". ``suffix``: ".jsonl", ".mp4", "-event.mp4"."""
        self._folder, self._camera, self._suffix = Path(folder), camera, suffix
        self._pattern = re.compile(rf"{re.escape(camera)}-(\d{{8}}T\d{{6}}Z)(?:-(\d{{1,9}}))?{re.escape(suffix)}")
        self._ours: dict[str, int] = {}
        """Names that this process has given, in order."""
        self._given = 0
        self._lock = threading.Lock()

    def new(self, utc: float | None = None) -> Path:
        """Return a path that is unused and was never given by this process; creates the folder. ``utc``: seconds since
        1970, now by default. Raises SinkError."""
        make_folder(self._folder)
        return self._folder / self.name(utc)

    def name(self, utc: float | None = None) -> str:
        """Like ``new``, but return only the name and do not need the folder."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() if utc is None else utc))
        number = 0
        with self._lock:
            while True:
                name = f"{self._camera}-{stamp}{f'-{number}' if number else ''}{self._suffix}"
                if name not in self._ours and not os.path.lexists(self._folder / name):
                    break
                number += 1
            self._given += 1
            self._ours[name] = self._given
            if len(self._ours) > _MOST:  # the names lead to no files: the disk is gone
                del self._ours[next(iter(self._ours))]
        return name

    def path(self, name: str) -> Path:
        """Return the path of a given name."""
        return self._folder / name

    def oldest_first(self) -> list[OldFile]:
        """Return existing files of this camera and output: those of earlier processes by name, then ours."""
        there: dict[str, OldFile] = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._folder) as entries:
            for entry in entries:
                if self._pattern.fullmatch(entry.name) is None:
                    continue
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        there[entry.name] = OldFile(Path(entry.path), entry.stat(follow_symlinks=False).st_size)
        with self._lock:
            recent = self._given - _RECENT
            self._ours = {name: given for name, given in self._ours.items() if name in there or given > recent}
            return [there[name] for name in sorted(there, key=self._order)]

    def _order(self, name: str) -> tuple[int, str, int]:
        match = self._pattern.fullmatch(name)
        return self._ours.get(name, 0), match[1] if match else "", int(match[2] or 0) if match else 0


class Budget:
    """Limits the disk space of a camera's files; the oldest are deleted to make room."""

    def __init__(self, files: Files, gigabytes: float) -> None:
        self._files, self._bytes = files, int(gigabytes * 1e9)
        self._old: deque[OldFile] = deque()
        self._taken = 0
        """Bytes of the old files."""
        self._current: Path | None = None

    def begin(self, path: Path) -> None:
        """Set the file being written. Raises SinkError, like ``make_room``."""
        self._current = path
        self._old = deque(old for old in self._files.oldest_first() if old.path != path)
        self._taken = sum(old.bytes for old in self._old)
        self.make_room()

    def make_room(self) -> None:
        """Delete the oldest files, but never the one being written, until all fit.

        Raises SinkError if a file cannot be deleted.
        """
        while self._old and self._taken + size_of(self._current) > self._bytes:
            delete(self._old[0].path)
            self._taken -= self._old.popleft().bytes

    def is_large(self) -> bool:
        """Whether the file being written exceeds a quarter of the budget, so that others fit beside it."""
        return size_of(self._current) > self._bytes // 4


def size_of(path: Path | None) -> int:
    """Return a file's size in bytes; 0 if it does not exist."""
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0


def delete(path: Path) -> None:
    """Delete a file if it exists. Raises SinkError if that fails."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise SinkError(f"cannot delete {path}: {error.strerror}") from error
