"""Images as a source: one image, or a folder of images in natural order."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame
from stm_skeletons.errors import SourceError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
IMAGES_PER_SECOND = 25.0
"""Assumed frame rate of a folder of images."""
_KINDS_OF_STEPS = 2
"""Different steps allowed between the numbers of a sequence, because frames may be missing."""


def is_image(path: Path) -> bool:
    """Whether the file name has an image suffix and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path, recursive: bool) -> list[Path]:
    """Return a folder's images in natural order (2 before 10), optionally with subfolders. Raises SourceError."""
    try:
        found = [path for path in (folder.rglob("*") if recursive else folder.iterdir()) if is_image(path)]
        nested = not recursive and not found and any(is_image(path) for path in folder.rglob("*"))
    except OSError as error:
        raise SourceError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    if not found:
        hint = "; its subfolders do: add --recursive" if nested else ""
        raise SourceError(f"the folder {folder} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}){hint}")
    return sorted(found, key=lambda path: natural(path.relative_to(folder)))


def natural(path: Path) -> list[tuple[list[tuple[int, int, str]], str]]:
    """Sort key for natural order: folder by folder, numbers in names by value."""
    return [
        ([(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part], name)
        for name in path.parts
    ]


def look_like_a_sequence(files: list[Path]) -> bool:
    """Whether images seem to be consecutive frames: one size, and names that differ only in one number, which rises in
    at most two different steps."""
    if len({re.sub(r"\d+", "#", file.name) for file in files}) > 1:
        return False
    numbers = [[int(part) for part in re.findall(r"\d+", file.name)] for file in files]
    changing = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(changing) != 1 or len({after - before for before, after in pairwise(changing[0])}) > _KINDS_OF_STEPS:
        return False
    sizes = set()
    for file in (files[0], files[len(files) // 2], files[-1]):
        with suppress(SourceError):
            sizes.add(read_image(file).shape)
    return len(sizes) < 2


class ImageSource:
    """Images in a given order."""

    live = False
    frames_per_second = IMAGES_PER_SECOND

    def __init__(
        self,
        files: list[Path],
        folder: Path | None = None,
        skip: Callable[[SourceError], None] | None = None,
        independent: bool = False,
    ) -> None:
        """
        Args:
            files: the images, at least one.
            folder: names in results are relative to it; without it they are plain file names.
            skip: called for each image that cannot be decoded, which is then skipped; without it, reading fails there.
            independent: whether the images are unrelated, so that the memory is reset at each one.
        """
        self.files = files
        self._folder, self._skip, self._independent = folder, skip, independent
        self.frame_size = self._first_size()
        self.total: int | None = len(files)

    def __iter__(self) -> Iterator[Frame]:
        for number, file in enumerate(self.files):
            try:
                image = read_image(file)
            except SourceError as error:
                if self._skip is None:
                    raise
                self._skip(error)
                continue
            resets_memory = self._independent and number > 0
            yield Frame(number, number / self.frames_per_second, image, self._called(file), resets_memory=resets_memory)

    def stop_when(self, asked: threading.Event) -> None:
        """Images never wait."""

    def close(self) -> None:
        """Nothing to release."""

    def _called(self, file: Path) -> str:
        name = file.name if self._folder is None else file.relative_to(self._folder).as_posix()
        return os.fsencode(name).decode("utf-8", "replace")  # JSON cannot hold undecodable bytes

    def _first_size(self) -> tuple[int, int] | None:
        """Size of the first image that can be decoded."""
        for file in self.files:
            try:
                height, width = read_image(file).shape[:2]
                return width, height
            except SourceError:
                if self._skip is None:
                    raise
        raise SourceError(f"none of {len(self.files)} images can be decoded; the first is {self.files[0]}")


def read_image(file: Path) -> NDArray[np.uint8]:
    """Read an image as BGR uint8 [h, w, 3], rotated as its EXIF says. Raises SourceError."""
    try:
        # Not imread: OpenCV crashes on names that are not UTF-8.
        image = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror or error}") from error
    except cv2.error:  # an empty file, or more pixels than OpenCV accepts
        image = None
    if image is None:
        raise SourceError(f"cannot decode {file} as an image; remove or replace it, or skip it with --skip-broken")
    return np.asarray(image, np.uint8)
