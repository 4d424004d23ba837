"""The files of one output of one camera: their names, and which of them must go."""

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
"""Names given last, which are remembered though there may be no files of them yet."""


_MOST = 200_000
"""Names that are remembered at all; more than files that anybody may keep."""


@dataclass(frozen=True)
class OldFile:
    path: Path
    bytes: int


class Files:
    """CAMERA-YYYYmmddTHHMMSSZ[-n]SUFFIX in one folder.

    The time in a name is for people. Nothing relies on it: a clock that is set back leads to no name twice, and what
    this process wrote always counts as newer than what it found.
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
        """A name that no file has or had in this process; makes the folder. ``utc``: seconds since 1970, now if not
        given. Raises SinkError."""
        make_folder(self._folder)
        return self._folder / self.name(utc)

    def name(self, utc: float | None = None) -> str:
        """As ``new``, but without its folder, which need not be there."""
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
            if len(self._ours) > _MOST:  # where no file comes of them: the disk is gone
                del self._ours[next(iter(self._ours))]
        return name

    def path(self, name: str) -> Path:
        """Where the file of that name, one of those given, lies."""
        return self._folder / name

    def oldest_first(self) -> list[OldFile]:
        """All files of this camera and output that are there; those of earlier processes by name, then ours."""
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
    """Bytes that the files of a camera may take together; the oldest make room for the newest."""

    def __init__(self, files: Files, gigabytes: float) -> None:
        self._files, self._bytes = files, int(gigabytes * 1e9)
        self._old: deque[OldFile] = deque()
        self._taken = 0
        """By these."""
        self._current: Path | None = None

    def begin(self, path: Path) -> None:
        """From now on that file is written. Raises SinkError, as ``make_room``."""
        self._current = path
        self._old = deque(old for old in self._files.oldest_first() if old.path != path)
        self._taken = sum(old.bytes for old in self._old)
        self.make_room()

    def make_room(self) -> None:
        """Delete the oldest files, never the one that is written, until all fit.

        Raises SinkError where one cannot be deleted.
        """
        while self._old and self._taken + size_of(self._current) > self._bytes:
            delete(self._old[0].path)
            self._taken -= self._old.popleft().bytes

    def is_large(self) -> bool:
        """Whether the file that is written has reached a quarter of the budget, so that there are others beside it."""
        return size_of(self._current) > self._bytes // 4


def size_of(path: Path | None) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0


def delete(path: Path) -> None:
    """Raises SinkError when it cannot be; one that is not there is fine."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise SinkError(f"cannot delete {path}: {error.strerror}") from error
