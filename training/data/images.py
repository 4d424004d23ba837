"""Reads the pixels of an image file, or of a frame of a video."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from training.data.labels import ImageFile

_OPEN_VIDEOS = 4
"""Videos that a process keeps open."""
_NEAR = 32
"""Number of frames up to which decoding and discarding them is faster than seeking."""


def read_image(file: ImageFile) -> NDArray[np.uint8]:
    """The image as BGR [h, w, 3]. Raises DataError if it is missing, damaged or truncated."""
    if not file.path.is_file():
        raise DataError(f"file {file.path} does not exist")
    if file.frame is None:
        return _read_still(file.path)
    # By process: a forked worker has no decoding threads for an inherited capture, and must not even close it.
    videos = _videos.setdefault(os.getpid(), {})
    reader = videos.pop(file.path, None) or VideoReader(file.path)
    image = reader.read(file.frame)
    videos[file.path] = reader  # at the end, as the most recently used; not put back after an error
    if len(videos) > _OPEN_VIDEOS:
        del videos[next(iter(videos))]
    return image


def _read_still(path: Path) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise DataError(f"{path} is empty (0 bytes); copy it again")
    # Some versions of OpenCV silently fill the missing part of a JPEG with grey.
    if data.startswith(b"\xff\xd8") and not _is_complete_jpeg(data):
        raise DataError(f"{path} is truncated; copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV accepts
        image = None
    if image is None:
        raise DataError(f"{path} cannot be decoded as an image; copy it again or remove it")
    return np.asarray(image, np.uint8)


def _is_complete_jpeg(data: bytes) -> bool:
    """Whether the last scan has an end marker. Previews, which have both markers, come before it."""
    return data.endswith(b"\xff\xd9") or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


class VideoReader:
    """Reads frames of a video file by number, exactly: with the same pixels as when decoded from the start.

    OpenCV seeks by the mean frame rate, which is wrong if the rate varies. So the reader stores the time of every frame
    when it first decodes it, in order. A later seek must arrive at that time. If it does not, or if times do not rise,
    the video is decoded from the start instead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._times: list[float] = []  # times of the frames decoded so far, in milliseconds
        self._can_seek = True
        self._open()

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        self._next = 0  # number of the frame that the next grab returns
        if not self._capture.isOpened():
            raise DataError(f"cannot open {self._path} as a video; it is damaged or in an unknown format")

    def read(self, number: int) -> NDArray[np.uint8]:
        """A frame, counted from 0, as BGR [h, w, 3]. Raises DataError if the video has no such frame."""
        if not self._next - 1 <= number <= self._next + _NEAR:
            self._jump(number)
        while self._next <= number:
            self._grab()
        decoded, image = self._capture.retrieve()
        if not decoded or image is None:
            raise DataError(f"cannot decode frame {number} of {self._path}; copy the video again or remove it")
        return np.asarray(image, np.uint8)

    def _jump(self, number: int) -> None:
        """Seek to the frame, or to the last earlier one whose time is known."""
        target = min(number, len(self._times) - 1)
        if self._next - 1 <= target <= self._next + _NEAR:
            return  # the current position is the nearest known one
        if self._can_seek:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, target)
            if self._capture.grab() and self._capture.get(cv2.CAP_PROP_POS_MSEC) == self._times[target]:
                self._next = target + 1
                return
            self._can_seek = False
            self._open()
        elif number < self._next - 1:
            self._open()

    def _grab(self) -> None:
        if not self._capture.grab():
            raise DataError(f"{self._path} has only {self._next} frames, or is damaged after them")
        if self._next == len(self._times):
            self._times.append(self._capture.get(cv2.CAP_PROP_POS_MSEC))
            self._can_seek &= len(self._times) < 2 or self._times[-1] > self._times[-2]
        self._next += 1


_videos: dict[int, dict[Path, VideoReader]] = {}
