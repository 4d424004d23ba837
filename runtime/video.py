"""Video files decoded by PyAV: with the file's times and rotation, without damaged packets."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame, rotated, usable_rate
from runtime.scene_cut import CutDetector
from stm_skeletons.errors import SourceError, one_line

_PATIENCE = 30.0
"""Seconds to wait for the network."""
_SHORTFALL = 0.02
"""Share of the declared frames that may be missing, because containers often declare an estimate."""


class VideoSource:
    """A video file, local or fetched over the network."""

    live = False

    def __init__(self, source: str, name: str | None = None) -> None:
        """
        Args:
            source: path or address.
            name: name in messages, without a password.

        Raises:
            SourceError: the file cannot be opened, or contains no video.
        """
        self._name = name = source if name is None else name
        try:
            self._container = av.open(source, timeout=_PATIENCE)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(
                f"cannot open {name}: not a video, or a format that FFmpeg does not support ({one_line(error)})"
            ) from error
        if not self._container.streams.video:
            self.close()
            raise SourceError(f"{name} contains no video stream")
        stream = self._stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.frames_per_second = usable_rate(float(stream.average_rate or stream.guessed_rate or 0))
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        seconds = seconds or (self._container.duration or 0) / av.time_base
        declared = stream.frames or round(seconds * self.frames_per_second)
        self.total = declared if declared > 0 else None
        self._frames = self._decoded()
        self._first = next(self._frames, None)  # only a decoded frame tells its rotation
        self.frame_size = None if self._first is None else _shown_size(self._first)

    def __iter__(self) -> Iterator[Frame]:
        number, started, last = 0, 0.0, -1.0
        cuts = CutDetector()
        for frame in chain(() if self._first is None else (self._first,), self._frames):
            now = frame.time
            if number == 0:
                started = now or 0.0
            # Some containers have no times, or repeat one; then continue at the declared rate.
            counted = last + 1 / self.frames_per_second if number else 0.0
            last = counted if now is None or now - started <= last else now - started
            image = _upright(frame)
            yield Frame(number, last, image, resets_memory=cuts.is_cut(image))
            number += 1
        self._check_end(number, last)

    def stop_when(self, asked: threading.Event) -> None:
        """Files never wait."""

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Yield the frames that can be decoded, in order."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # the file is truncated
                return
            if packet is None:
                return
            with suppress(av.error.FFmpegError):  # a damaged packet; the next one may be intact
                yield from (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame))

    def _check_end(self, frames: int, last: float) -> None:
        if frames == 0:
            codec = self._stream.codec_context.name if self._stream.codec_context else "unknown"
            raise SourceError(
                f"no frame of {self._name} can be decoded: it is damaged, or this FFmpeg lacks its codec ('{codec}'); "
                "convert it with 'ffmpeg -i IN -c:v libx264 OUT.mp4'"
            )
        if self.total is None:
            return
        enough = (1 - _SHORTFALL) * self.total - 1
        # With a variable rate the declared number is an estimate, but the last frame's time is right.
        if frames < enough and last * self.frames_per_second < enough:
            raise SourceError(
                f"{self._name} is damaged: only {frames} of {self.total} frames can be decoded; copy it again, or use "
                f"the intact part with --max-frames {frames}"
            )


def _shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(width, height) after rotation."""
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Return BGR [h, w, 3], rotated as the file says (counter-clockwise degrees)."""
    return rotated(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), -frame.rotation)
