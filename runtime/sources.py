"""Where frames come from: a video file, a folder of images, one image, a camera, a stream, a GStreamer pipeline."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from runtime.containers import is_cut_short
from runtime.frames import Source
from runtime.images import ImageSource, images_in, is_image, look_like_a_sequence
from runtime.live import Capture, LiveOptions, LiveSource
from runtime.stream_capture import StreamCapture
from runtime.video import VideoSource
from stm_skeletons.errors import SourceError

_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
_FETCHED, _VIDEOS = ("http://", "https://"), {".mp4", ".mov", ".mkv", ".avi", ".webm"}
"""Of a video that is fetched over the network, as its name says; it is no stream."""
_VALUE = re.compile(r"=[^&;/?\s]+")
"""Of a name in an address."""
_OPENING = 10.0
"""Seconds that a stream may take to connect and to show what is in it."""
_TEXT_ART = {".txt", ".ans", ".art", ".asc", ".diz", ".ice", ".nfo", ".vt"}
"""Text that FFmpeg would draw on a terminal and film."""


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read."""

    live: LiveOptions = field(default_factory=LiveOptions)
    """Cameras and streams."""
    recursive: bool = False
    """Of a folder the images in its folders too."""
    skip: Callable[[SourceError], None] | None = None
    """Told of each image that cannot be decoded, which is left out then."""
    sequence: bool | None = None
    """Whether the images of a folder follow one another; None: it is guessed from names and sizes, and said."""
    say: Callable[[str], None] = lambda _line: None
    """Told what was guessed."""


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
    if source.lower().startswith(_FETCHED) and Path(source.partition("?")[0]).suffix.lower() in _VIDEOS:
        return VideoSource(source, without_password(source))
    if source.lower().startswith(_STREAMS):
        stall, name = options.live.stall, without_password(source)
        return _capture(lambda: StreamCapture(source, max(stall, _OPENING), stall), name, options.live)
    if path.is_char_device():
        return _capture(lambda: cv2.VideoCapture(source), source, options.live)
    if path.is_dir():
        files = images_in(path, options.recursive)
        return ImageSource(files, path, options.skip, independent=not _follow(files, source, options))
    _check_file(path)
    if is_image(path):
        return ImageSource([path])
    return VideoSource(source)


def _follow(files: list[Path], folder: str, options: SourceOptions) -> bool:
    """Whether the images of a folder follow one another."""
    if options.sequence is not None or len(files) < 2:
        return options.sequence is not False
    guessed = look_like_a_sequence(files)
    what = "follow one another" if guessed else "have nothing to do with each other, so nothing is remembered"
    options.say(f"{folder}: its images seem to {what}; --{'independent' if guessed else 'sequence'} if that is wrong")
    return guessed


def _capture(opens: Callable[[], Capture], name: str, options: LiveOptions) -> LiveSource:
    """A camera or stream."""
    capture = opens()
    if not capture.isOpened():
        raise SourceError(
            f"cannot open {name}: check that it is connected and free, and what 'stm-skeletons doctor' says"
        )
    return LiveSource(capture, opens, name, options)


def without_password(address: str) -> str:
    """What may be shown of a source: a stream's address without user and password, and without the values that some
    cameras want in its path ("user=admin&password=...")."""
    scheme, found, rest = address.partition("://")
    return f"{scheme}://{_VALUE.sub('=...', rest.rpartition('@')[2])}" if found else address


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
