"""Writes a video file frame by frame."""

import errno
import os
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.codec import codecs_available
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stm_skeletons.errors import SinkError, one_line
from stm_skeletons.geometry import Letterbox

_H264 = ("libx264", "yuv420p", {"preset": "superfast", "crf": "23", "g": "50"})
_VP9 = ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b:v": "0"})
CODECS = {".mp4": _H264, ".mov": _H264, ".mkv": _H264, ".webm": _VP9, ".avi": ("mjpeg", "yuvj420p", {"q": "3"})}
"""Encoder, pixel format and options by file suffix."""
_AT_ONCE = {"tune": "zerolatency", "forced-idr": "1", "threads": "1"}
"""x264 options: no frame waits for others, and a requested key frame starts a new fragment."""
_ROOM = 65_536
"""Bytes that must be free before a video is started. If the header cannot be written, PyAV never closes the file, and
the process leaks a file descriptor."""
_PIECE = 2.0
"""Length in seconds of a fragment in live recordings."""


class VideoWriter:
    """Writes a video of the first frame's size with the frames' own times.

    H.264 in fragments, so that truncated recordings play; VP9 (.webm); or MJPEG at a constant rate (.avi). The codecs
    need even sizes: the last row or column of an odd size is cropped.
    """

    def __init__(self, path: Path, frames_per_second: float, name: Path | None = None, at_once: bool = False) -> None:
        """
        Args:
            path: the file; its suffix, one of ``CODECS``, sets the format.
            frames_per_second: approximate rate.
            name: name in messages; ``path`` by default.
            at_once: H.264 only: encode every frame immediately, in one thread, so that a crash loses two seconds. The
                first frame is written twice, so that even a file that ends right there plays.
        """
        self._path, self._name, self._at_once = path, name or path, at_once
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._constant = path.suffix.lower() == ".avi"
        self._tick = 1 / self._rate if self._constant else Fraction(1, 1000)
        self._container: OutputContainer | None = None
        self._size = (0, 0)
        self._last = -1
        """Ticks of the latest frame."""
        self._next_piece = 0.0

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        """Add a frame (BGR [h, w, 3]; letterboxed if its size differs from the first frame's) at a time in seconds.

        Raises SinkError.
        """
        try:
            if self._container is None:
                self._size = (image.shape[1], image.shape[0])
                if min(self._size) < 2:
                    raise SinkError(
                        f"cannot write {self._name}: {image.shape[1]}x{image.shape[0]} is too small for a video"
                    )
                self._container = self._open()
            width, height = self._stream.width, self._stream.height
            frame = av.VideoFrame.from_ndarray(_fit(image, self._size)[:height, :width], format="bgr24")
            frame.time_base = self._tick
            begins = self._at_once and time >= self._next_piece
            if begins:
                frame.pict_type, self._next_piece = PictureType.I, time + _PIECE
            # A fragment is written when the next one starts, so the first has one frame and the file soon plays.
            for _ in range(2 if begins and self._last < 0 else 1):
                frame.pts = self._last = max(self._last + 1, 0 if self._constant else round(time * 1000))
                self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"cannot write {self._name}: {_what(error)}") from error

    def close(self, finish: bool = True) -> bool:
        """Close the file, complete if ``finish``; return whether it exists. Raises SinkError if it is incomplete."""
        if self._container is None:
            return False
        try:
            if finish:
                self._container.mux(self._stream.encode())
            self._container.close()
        except av.error.FFmpegError as error:
            if finish:
                raise SinkError(f"cannot write {self._name}: {_what(error)}; is the disk full?") from error
        return True

    def _open(self) -> OutputContainer:
        codec, pixels, options = CODECS[self._path.suffix.lower()]
        if codec not in codecs_available:
            raise SinkError(f"cannot write {self._name}: this FFmpeg has no encoder {codec}; use .webm or .avi")
        _check_room(self._path)
        pieces = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        fragmented = self._path.suffix.lower() in (".mp4", ".mov")
        container = av.open(str(self._path), "w", options=pieces if fragmented else {})
        stream = container.add_stream(codec, rate=self._rate, options=options | (_AT_ONCE if self._at_once else {}))
        if not isinstance(stream, VideoStream):
            raise SinkError(f"cannot write {self._name}: {codec} is not a video codec")
        self._stream = stream
        stream.width, stream.height, stream.pix_fmt = self._size[0] & ~1, self._size[1] & ~1, pixels
        stream.codec_context.time_base = self._tick
        return container


def _check_room(path: Path) -> None:
    """Raise OSError if the disk is full."""
    with path.open("wb", buffering=0) as file:
        if file.write(bytes(_ROOM)) < _ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _what(error: Exception) -> str:
    """Describe an error without the path, which our message already has."""
    return one_line(getattr(error, "strerror", None) or error)


def _fit(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Letterbox a frame of another size, because a video has only one."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    boxed = np.empty((size[1], size[0], 3), np.uint8)
    Letterbox((image.shape[1], image.shape[0]), size).apply(image, boxed)
    return boxed


def plays(path: Path) -> bool:
    """Whether a video has a frame that can be decoded."""
    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        return False
