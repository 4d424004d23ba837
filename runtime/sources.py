"""Opens sources: a video file, an image folder, an image, a camera, a stream, or a GStreamer pipeline."""

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
"""Addresses that name a video file to fetch over the network, as opposed to a stream."""
_VALUE = re.compile(r"=[^&;/?\s]+")
"""A value in an address, such as "=..." in "user=...&password=..."."""
_OPENING = 10.0
"""Seconds for connecting to a stream and detecting its contents."""
_TEXT_ART = {".txt", ".ans", ".art", ".asc", ".diz", ".ice", ".nfo", ".vt"}
"""Suffixes of text files that FFmpeg would render as video."""


@dataclass(frozen=True)
class SourceOptions:
    """Options for reading sources."""

    live: LiveOptions = field(default_factory=LiveOptions)
    """Options for cameras and streams."""
    recursive: bool = False
    """Include images in subfolders."""
    skip: Callable[[SourceError], None] | None = None
    """Called for each image that cannot be decoded, which is then skipped."""
    sequence: bool | None = None
    """Whether a folder's images are consecutive frames; None guesses from names and sizes, and reports the guess."""
    say: Callable[[str], None] = lambda _line: None
    """Called with the guess."""


def open_source(source: str, options: SourceOptions | None = None) -> Source:
    """Open a source.

    Args:
        source: a camera's number ("0") or device ("/dev/video0"), a stream's address ("rtsp://..."), a GStreamer
            pipeline (any text with " ! "), an image folder, an image or a video file.
        options: how to read it.

    Raises:
        SourceError: the source does not exist, is empty, is truncated, or cannot be decoded.
    """
    options = options or SourceOptions()
    if not source.strip():
        raise SourceError("the source's name is empty; give a video, an image folder or a camera")
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
    """Whether a folder's images are consecutive frames."""
    if options.sequence is not None or len(files) < 2:
        return options.sequence is not False
    guessed = look_like_a_sequence(files)
    what = "consecutive frames" if guessed else "independent images, so memory is reset at each"
    options.say(f"{folder}: treating the images as {what}; --{'independent' if guessed else 'sequence'} overrides this")
    return guessed


def _capture(opens: Callable[[], Capture], name: str, options: LiveOptions) -> LiveSource:
    """Open a camera or stream."""
    capture = opens()
    if not capture.isOpened():
        raise SourceError(
            f"cannot open {name}; check that it is connected and not in use, and run 'stm-skeletons doctor'"
        )
    return LiveSource(capture, opens, name, options)


def without_password(address: str) -> str:
    """Return a source's name for display: a stream's address without user and password, and without the values that
    some cameras expect in its path ("user=admin&password=...")."""
    scheme, found, rest = address.partition("://")
    return f"{scheme}://{_VALUE.sub('=...', rest.rpartition('@')[2])}" if found else address


def _check_file(path: Path) -> None:
    if not path.exists():
        raise SourceError(f"no file, folder or camera '{path}'; check the name")
    if not path.is_file():
        raise SourceError(f"{path} is neither a file nor an image folder")
    if not os.access(path, os.R_OK):
        raise SourceError(f"cannot read {path}: no permission")
    if path.suffix.lower() in _TEXT_ART:
        raise SourceError(f"{path} is a text file, not a video")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes); copy or record it again")
    if is_cut_short(path):
        raise SourceError(
            f"{path} is truncated: its header declares more bytes than the file has; copy it again, or repair it with "
            "'ffmpeg -i IN -c copy OUT'"
        )
