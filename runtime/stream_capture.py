"""Reads a network stream through PyAV. OpenCV opens streams one at a time, so a silent one would block all others."""

import time
from collections import deque
from contextlib import suppress

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

_OPTIONS = {"rtsp_transport": "tcp", "fpsprobesize": "5"}
"""FFmpeg options. By default it reads 20 frames to find their rate, which takes 5 seconds on slow streams."""


class StreamCapture:
    """A ``cv2.VideoCapture`` that several threads can use at once, each with its own instance."""

    def __init__(self, address: str, opening: float, reading: float) -> None:
        """
        Args:
            address: "rtsp://..." or another address that FFmpeg supports.
            opening: seconds for connecting and detecting the contents.
            reading: seconds to wait for a frame.
        """
        self._reading = reading
        self._frames: deque[av.VideoFrame] = deque()
        self._reformat = VideoReformatter()
        self._container = None
        with suppress(av.error.FFmpegError, OSError, ValueError):
            container = av.open(address, options=_OPTIONS, timeout=(opening, reading))
            known = [stream for stream in container.streams.video if stream.codec_context is not None]
            if not known:  # no video stream, or a codec that this FFmpeg lacks
                container.close()
                return
            self._container, self._stream = container, known[0]
            self._packets = container.demux(self._stream)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._container is not None

    def get(self, what: int) -> float:
        """Return width, height or rate; 0 if unknown."""
        if self._container is None:
            return 0.0
        known = {
            cv2.CAP_PROP_FRAME_WIDTH: self._stream.codec_context.width,
            cv2.CAP_PROP_FRAME_HEIGHT: self._stream.codec_context.height,
            cv2.CAP_PROP_FPS: self._stream.average_rate,
        }
        return float(known.get(what) or 0)

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """Return True and the next image, BGR [h, w, 3]; False if none arrives in time or the stream has ended."""
        end = time.monotonic() + self._reading
        try:
            while not self._frames and time.monotonic() < end and self._container is not None:
                packet = next(self._packets)
                with suppress(av.error.FFmpegError):  # damaged; the next packet may be intact
                    self._frames += (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame))
            if not self._frames:
                return False, None
            image = self._reformat.reformat(self._frames.popleft(), format="bgr24")
            return True, np.asarray(image.to_ndarray(), np.uint8)
        except (av.error.FFmpegError, OSError, ValueError, StopIteration):
            return False, None

    def release(self) -> None:
        """Close the stream. May be called twice."""
        container, self._container = self._container, None
        if container is not None:
            container.close()
