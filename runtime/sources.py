"""Where frames come from: a video file, a folder of images, one image, a camera, a stream, a GStreamer pipeline."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from runtime.containers import is_cut_short
from runtime.frames import Frame, Source
from runtime.images import ImageSource, images_in, is_image
from runtime.live import LiveOptions, LiveSource
from stm_skeletons.errors import SourceError

_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
_UNKNOWN_RATE = 25.0
_OPENING = 15_000
"""Milliseconds that a stream may take to connect and to show what is in it."""
_CODECS = {"av01": "AV1", "hvc1": "HEVC", "hev1": "HEVC", "avc1": "H.264", "vp09": "VP9", "vp90": "VP9"}
_TEXT_ART = {".txt", ".ans", ".art", ".asc", ".diz", ".ice", ".nfo", ".vt"}
"""Text that FFmpeg would draw on a terminal and film."""
_SHORTFALL = 0.02
"""Share of the declared frames that may be missing: containers often declare an estimate."""


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read."""

    live: LiveOptions = field(default_factory=LiveOptions)
    """Cameras and streams."""
    recursive: bool = False
    """Of a folder the images in its folders too."""
    skip: Callable[[SourceError], None] | None = None
    """Told of each image that cannot be decoded, which is left out then."""


def open_source(source: str, options: SourceOptions | None = None) -> Source:
    """Open whatever the text names.

    Args:
        source: a camera's number ("0") or device ("/dev/video0"), a stream's address ("rtsp://..."), a GStreamer
            pipeline (anything with " ! "), a folder of images, an image or a video file.
        options: how it is read.

    Raises:
        SourceError: it does not exist, is empty, is cut short or cannot be decoded.
    """
    options = options or SourceOptions()
    if not source.strip():
        raise SourceError("the source's name is empty; give a video, a folder of images or a camera")
    path = Path(source)
    if source.isdecimal() and len(source) < 5:
        return _capture(lambda: cv2.VideoCapture(int(source)), f"camera {source}", options.live)
    if " ! " in source:
        return _capture(lambda: cv2.VideoCapture(source, cv2.CAP_GSTREAMER), "the GStreamer pipeline", options.live)
    if source.lower().startswith(_STREAMS):
        milliseconds = int(1000 * options.live.stall)
        opening = max(milliseconds, _OPENING)
        patience = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, opening, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
        name = _without_password(source)
        return _capture(lambda: cv2.VideoCapture(source, cv2.CAP_FFMPEG, patience), name, options.live)
    if path.is_char_device():
        return _capture(lambda: cv2.VideoCapture(source), source, options.live)
    if path.is_dir():
        return ImageSource(images_in(path, options.recursive), path, options.skip)
    _check_file(path)
    if is_image(path):
        return ImageSource([path])
    return VideoSource(cv2.VideoCapture(source, cv2.CAP_FFMPEG), source)


def _capture(opens: Callable[[], cv2.VideoCapture], name: str, options: LiveOptions) -> Source:
    """A camera or stream; a video that is fetched over the network knows its length, and is none."""
    capture = opens()
    if not capture.isOpened():
        raise SourceError(
            f"cannot open {name}: check that it is connected and free, and what 'stm-skeletons doctor' says"
        )
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return VideoSource(capture, name)
    return LiveSource(capture, opens, name, options)


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


class VideoSource:
    """A video file."""

    live = False

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self._capture = capture
        self._name = name
        if not capture.isOpened():
            raise SourceError(f"cannot open {name}: it is no video, or in a format this OpenCV does not know")
        declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(declared) if declared > 0 else None
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_size = size if min(size) > 0 else None
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 0 < rate <= 1000 else _UNKNOWN_RATE

    def __iter__(self) -> Iterator[Frame]:
        number, started, last = 0, 0.0, -1.0
        while True:
            read, image = self._capture.read()
            if not read or image is None:
                break
            now = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number == 0:
                started = now
            # Some containers have no times, or repeat one: then count on at the declared rate.
            seconds = now - started if now - started > last else last + 1 / self.frames_per_second
            last = seconds
            yield Frame(number, seconds, np.asarray(image, np.uint8))
            number += 1
        self._check_end(number, last)

    def stop_when(self, asked: threading.Event) -> None:
        """A file need not be waited for."""

    def close(self) -> None:
        self._capture.release()

    def _check_end(self, frames: int, last: float) -> None:
        if frames == 0:
            raise SourceError(
                f"not one frame of {self._name} can be decoded: it is in {self._codec()}, which this OpenCV cannot "
                "decode, or it is damaged; convert it with 'ffmpeg -i IN -c:v libx264 OUT.mp4'"
            )
        if self.total is None:
            return
        enough = (1 - _SHORTFALL) * self.total - 1
        # Where the rate varies the number is an estimate, but the time of the last frame then is right.
        if frames < enough and last * self.frames_per_second < enough:
            raise SourceError(
                f"{self._name} is damaged: only {frames} of its {self.total} frames can be decoded; "
                f"copy it again, or take what is there with --max-frames {frames}"
            )

    def _codec(self) -> str:
        """By its four letters, with the field's name where they are cryptic."""
        letters = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        code = letters.decode("ascii", "replace").strip("\0 ")
        return _CODECS.get(code.lower(), f"the codec '{code}'" if code.isprintable() and code else "an unknown codec")
