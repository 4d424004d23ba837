"""Where frames come from: a video file, a folder of images, one image, a camera, a stream, a GStreamer pipeline."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.containers import is_cut_short
from stm_skeletons.errors import SourceError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
IMAGES_PER_SECOND = 25.0
"""Frame rate that a folder of images is taken to have."""
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
_TEXT_ART = {".txt", ".ans", ".art", ".asc", ".diz", ".ice", ".nfo", ".vt"}
"""Text that FFmpeg would draw on a terminal and film."""
_SHORTFALL = 0.02
"""Share of the declared frames that may be missing: containers often declare an estimate."""


@dataclass(frozen=True)
class Frame:
    """One frame of a source."""

    number: int
    """From 0."""
    time: float
    """Seconds since the first frame; for cameras and streams by this machine's clock."""
    image: NDArray[np.uint8]
    """BGR uint8 [h, w, 3]."""


class Source(Protocol):
    """Frames in order. Iterate once, then close."""

    frames_per_second: float
    total: int | None
    """Number of frames as far as it is known beforehand."""
    frame_size: tuple[int, int] | None
    """(width, height) of the first frame in pixels as far as it is known beforehand."""
    live: bool
    """Whether this is a camera or stream: it has no end, and what it gave is worth keeping when it breaks."""

    def __iter__(self) -> Iterator[Frame]:
        """Yields frames; raises SourceError when the source breaks."""
        ...

    def close(self) -> None:
        """Release the device or file."""


def open_source(source: str) -> Source:
    """Open whatever the text names.

    Args:
        source: a camera's number ("0") or device ("/dev/video0"), a stream's address ("rtsp://..."), a GStreamer
            pipeline (anything with " ! "), a folder of images, an image or a video file.

    Raises:
        SourceError: it does not exist, is empty, is cut short or cannot be decoded.
    """
    if not source.strip():
        raise SourceError("the source's name is empty; give a video, a folder of images or a camera")
    if source.isdecimal() and len(source) < 5:
        return CaptureSource(cv2.VideoCapture(int(source)), f"camera {source}")
    if " ! " in source:
        return CaptureSource(cv2.VideoCapture(source, cv2.CAP_GSTREAMER), "the GStreamer pipeline")
    if source.lower().startswith(_STREAMS):
        return CaptureSource(cv2.VideoCapture(source, cv2.CAP_FFMPEG), _without_password(source))
    path = Path(source)
    if path.is_char_device():
        return CaptureSource(cv2.VideoCapture(source), source)
    if path.is_dir():
        return ImageSource(sorted(file for file in path.iterdir() if _is_image(file)), source)
    _check_file(path)
    if _is_image(path):
        return ImageSource([path], source)
    return CaptureSource(cv2.VideoCapture(source, cv2.CAP_FFMPEG), source, is_file=True)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _without_password(address: str) -> str:
    """What may be shown of a stream's address."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _check_file(path: Path) -> None:
    if not path.exists():
        raise SourceError(f"no file, folder or camera '{path}'; check the name")
    if not path.is_file():
        raise SourceError(f"{path} is neither a file nor a folder of images")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path} cannot be read: no permission")
    if path.suffix.lower() in _TEXT_ART:
        raise SourceError(f"{path} is text, no video")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes); copy or record it again")
    if is_cut_short(path):
        raise SourceError(
            f"{path} is cut short: its header promises more bytes than the file has; copy it again, or repair it with "
            "'ffmpeg -i IN -c copy OUT'"
        )


class CaptureSource:
    """Anything that OpenCV's VideoCapture opens."""

    def __init__(self, capture: cv2.VideoCapture, name: str, is_file: bool = False) -> None:
        self._capture = capture
        self._name = name
        if not capture.isOpened():
            hint = (
                "it is no video, or in a format this OpenCV does not know"
                if is_file
                else "check that it is connected and free, and what 'stm-skeletons doctor' says"
            )
            raise SourceError(f"cannot open {name}: {hint}")
        declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(declared) if declared > 0 else None
        # A video that is fetched over the network knows its length; a camera never does.
        self.live = not is_file and self.total is None
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_size = size if min(size) > 0 else None
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 0 < rate <= 1000 else IMAGES_PER_SECOND

    def __iter__(self) -> Iterator[Frame]:
        number, started, last = 0, 0.0, -1.0
        while True:
            read, image = self._capture.read()
            if not read or image is None:
                break
            now = time.monotonic() if self.live else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number == 0:
                started = now
            # Some containers have no times, or repeat one: then count on at the declared rate.
            seconds = now - started if now - started > last else last + 1 / self.frames_per_second
            last = seconds
            yield Frame(number, seconds, np.asarray(image, np.uint8))
            number += 1
        self._check_end(number, last)

    def _check_end(self, frames: int, last: float) -> None:
        if self.live:
            raise SourceError(f"{self._name} stopped giving frames after {frames}; check the camera and its cable")
        if frames == 0:
            raise SourceError(f"{self._name} opens as a video but not one frame of it can be decoded")
        if self.total is None:
            return
        enough = (1 - _SHORTFALL) * self.total - 1
        # Where the rate varies the number is an estimate, but the time of the last frame then is right.
        if frames < enough and last * self.frames_per_second < enough:
            raise SourceError(
                f"{self._name} is damaged: only {frames} of its {self.total} frames can be decoded; "
                f"copy it again, or take what is there with --max-frames {frames}"
            )

    def close(self) -> None:
        self._capture.release()


class ImageSource:
    """Images in the order of their names."""

    live = False
    frames_per_second = IMAGES_PER_SECOND

    def __init__(self, files: list[Path], name: str) -> None:
        if not files:
            raise SourceError(f"the folder {name} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.files = files
        first = _read_image(files[0])
        self.frame_size: tuple[int, int] | None = (first.shape[1], first.shape[0])
        self.total: int | None = len(files)

    def __iter__(self) -> Iterator[Frame]:
        for number, file in enumerate(self.files):
            yield Frame(number, number / self.frames_per_second, _read_image(file))

    def close(self) -> None:
        pass


def _read_image(file: Path) -> NDArray[np.uint8]:
    try:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV takes
        image = None
    if image is None:
        raise SourceError(f"{file} cannot be decoded as an image; remove or replace it")
    return np.asarray(image, np.uint8)
