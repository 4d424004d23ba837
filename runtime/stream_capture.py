"""A network stream, read through PyAV: OpenCV opens one after the other, and one that is silent holds up all others."""

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
"""Of FFmpeg. It looks at 20 frames for their rate unless told otherwise, which takes 5 seconds where they are few."""


class StreamCapture:
    """As ``cv2.VideoCapture``, for any number of threads at once, each with its own."""

    def __init__(self, address: str, opening: float, reading: float) -> None:
        """
        Args:
            address: "rtsp://..." and others that FFmpeg knows.
            opening: seconds that it may take to connect and to show what is in it.
            reading: seconds that a frame may take.
        """
        self._reading = reading
        self._frames: deque[av.VideoFrame] = deque()
        self._reformat = VideoReformatter()
        self._container = None
        with suppress(av.error.FFmpegError, OSError, ValueError):
            container = av.open(address, options=_OPTIONS, timeout=(opening, reading))
            known = [stream for stream in container.streams.video if stream.codec_context is not None]
            if not known:  # nothing, or a codec that this FFmpeg has not
                container.close()
                return
            self._container, self._stream = container, known[0]
            self._packets = container.demux(self._stream)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._container is not None

    def get(self, what: int) -> float:
        """The width, height or rate; 0 where it is not known."""
        if self._container is None:
            return 0.0
        known = {
            cv2.CAP_PROP_FRAME_WIDTH: self._stream.codec_context.width,
            cv2.CAP_PROP_FRAME_HEIGHT: self._stream.codec_context.height,
            cv2.CAP_PROP_FPS: self._stream.average_rate,
        }
        return float(known.get(what) or 0)

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """The next picture, BGR [h, w, 3]; False when there is none in time, or no more."""
        end = time.monotonic() + self._reading
        try:
            while not self._frames and time.monotonic() < end and self._container is not None:
                packet = next(self._packets)
                with suppress(av.error.FFmpegError):  # damaged; the next one may be whole
                    self._frames += (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame))
            if not self._frames:
                return False, None
            picture = self._reformat.reformat(self._frames.popleft(), format="bgr24")
            return True, np.asarray(picture.to_ndarray(), np.uint8)
        except (av.error.FFmpegError, OSError, ValueError, StopIteration):
            return False, None

    def release(self) -> None:
        """May be called twice."""
        container, self._container = self._container, None
        if container is not None:
            container.close()
