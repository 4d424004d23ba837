"""Reading user files, writing files atomically, and hashing them."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stm_skeletons.errors import SinkError

_LONGEST_STEM = 200
"""Bytes of the name that a temporary name keeps; file systems allow 255."""


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises OSError, and ValueError if it is not UTF-8.
    """
    return path.read_bytes().decode("utf-8-sig")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def partial_path(path: Path, shared: bool = False) -> Path:
    """Return the temporary name beside ``path`` (or its link's target), with the same suffix: it sets a video's format.

    ``shared``: use the same name in every process; callers then lock the file.

    Raises SinkError if the folder is missing or not writable, or if ``path`` is a folder, device or pipe.
    """
    if path.is_dir():
        raise SinkError(f"cannot write {path}: it is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise SinkError(f"cannot write {path}: it is a device or pipe; give a file name, or '-' where supported")
    path = path.resolve()
    if not path.parent.is_dir():
        raise SinkError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise SinkError(f"cannot write {path}: no permission to write in {path.parent}; choose another folder")
    short = path.stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    whose = "" if shared else f".{os.getpid()}"
    return path.with_name(f".{short}{whose}.partial{path.suffix}")


def lock(descriptor: int, path: Path) -> None:
    """Lock an open file until it is closed or the process ends. Raises SinkError if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SinkError(f"cannot write {path}: another program is writing it; choose another name") from None
    except OSError:  # the file system has no locks
        return


def check_new(path: Path, force: bool) -> None:
    """Raise SinkError if the file exists and may not be replaced."""
    if not force and os.path.lexists(path):
        raise SinkError(f"{path} already exists; choose another name or give --force")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if they do not exist. Raises SinkError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {folder}: {error.strerror or error}") from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to ``path`` on success, remove it on any error.

    Raises SinkError if the file cannot be written.
    """
    partial = partial_path(path)
    try:
        yield partial
        os.replace(partial, path.resolve())
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to ``path`` on success, remove it on any error.

    An existing folder at ``path`` is replaced only once the new one is complete. Raises SinkError.
    """
    if path.exists() and not path.is_dir():
        raise SinkError(f"cannot write the folder {path}: a file with that name exists")
    path = path.resolve()
    if Path.cwd().is_relative_to(path):
        raise SinkError(f"cannot replace {path}: it is the current folder; change to another folder")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.replaced")
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            path.rename(replaced)
        try:
            partial.rename(path)
        except OSError:
            if replaced.exists():
                replaced.rename(path)
            raise
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
