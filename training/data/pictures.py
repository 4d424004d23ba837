"""Pixels of a picture: an image file, or exactly the wanted frame of a video."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from training.data.labels import Picture

_OPEN_VIDEOS = 4
"""A process keeps so many open."""
_NEAR = 32
"""Frames that are decoded on and thrown away in less time than it takes to seek."""


def read_picture(picture: Picture) -> NDArray[np.uint8]:
    """The picture as BGR [h, w, 3]. Raises DataError when it is missing, damaged or cut short."""
    if not picture.path.is_file():
        raise DataError(f"no file {picture.path}")
    if picture.frame is None:
        return _read_image(picture.path)
    # By process: a capture's decoding threads do not live on in a forked worker, and it must not even be closed there.
    videos = _videos.setdefault(os.getpid(), {})
    reader = videos.pop(picture.path, None) or VideoReader(picture.path)
    image = reader.read(picture.frame)
    videos[picture.path] = reader  # last, as the one most recently used; not put back if it failed
    if len(videos) > _OPEN_VIDEOS:
        del videos[next(iter(videos))]
    return image


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise DataError(f"{path} is empty (0 bytes); copy it again")
    # Some versions of OpenCV fill the missing part of a JPEG with grey and say nothing.
    if data.startswith(b"\xff\xd8") and not _jpeg_is_whole(data):
        raise DataError(f"{path} is cut short; copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV takes
        image = None
    if image is None:
        raise DataError(f"{path} cannot be decoded as an image; copy it again or remove it")
    return np.asarray(image, np.uint8)


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the last scan has an end. Neither marker occurs inside a scan; previews have both, and come before."""
    return data.endswith(b"\xff\xd9") or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


class VideoReader:
    """Frames of a video file by number, exact: the same pixels as when it is decoded from the start.

    OpenCV computes the place to seek to from the mean frame rate, which is wrong where the rate varies. So the time of
    every frame is noted when it is first decoded, always in order, and a later seek must arrive at that time; a video
    where it does not, or whose times do not grow, is decoded from the start again instead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._times: list[float] = []  # of the frames decoded so far, in milliseconds
        self._can_seek = True
        self._open()

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        self._next = 0  # number of the frame that the next grab gives
        if not self._capture.isOpened():
            raise DataError(f"{self._path} cannot be opened as a video; it is damaged or in an unknown format")

    def read(self, number: int) -> NDArray[np.uint8]:
        """BGR [h, w, 3] of a frame, from 0. Raises DataError when the video has no such frame."""
        if not self._next - 1 <= number <= self._next + _NEAR:
            self._jump(number)
        while self._next <= number:
            self._grab()
        decoded, image = self._capture.retrieve()
        if not decoded or image is None:
            raise DataError(f"frame {number} of {self._path} cannot be decoded")
        return np.asarray(image, np.uint8)

    def _jump(self, number: int) -> None:
        """Go to the frame, or to the last one before it whose time is known."""
        target = min(number, len(self._times) - 1)
        if self._next - 1 <= target <= self._next + _NEAR:
            return  # nearer than any other place whose time is known
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
