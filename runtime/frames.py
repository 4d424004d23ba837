"""Frames, and the interface of their sources."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

_UNKNOWN_RATE = 25.0
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Frame:
    """One frame of a source."""

    number: int
    """From 0; for cameras and streams, skipped frames count as well."""
    time: float
    """Seconds since the first frame; for cameras and streams, by arrival on this machine's clock."""
    image: NDArray[np.uint8]
    """BGR uint8 [h, w, 3]."""
    file: str | None = None
    """File name of an image in its folder."""
    arrived: float | None = None
    """Arrival at ``time.monotonic()``, for cameras and streams. The age of results counts from here."""
    skipped: int = 0
    """Frames of a camera or stream that were skipped since the previous frame."""
    resets_memory: bool = False
    """Whether this frame is unrelated to earlier ones, so that the memory must be reset."""


class Source(Protocol):
    """Frames in order. Iterate once, then close."""

    frames_per_second: float
    total: int | None
    """Number of frames, if known in advance."""
    frame_size: tuple[int, int] | None
    """(width, height) of the first frame in pixels, if known in advance."""
    live: bool
    """Whether this is a camera or stream, which has no end."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames. Raises SourceError if the source fails."""
        ...

    def stop_when(self, asked: threading.Event) -> None:
        """Stop waiting for frames soon after this event is set. Files never wait."""

    def close(self) -> None:
        """Release the device or file."""


def usable_rate(declared: float) -> float:
    """Return the declared frame rate, or a common rate if the declared one is implausible."""
    return declared if 0 < declared <= 1000 else _UNKNOWN_RATE


def rotated(image: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """Rotate an image clockwise by a multiple of 90 degrees; by 0, return the image itself."""
    turn = _TURNS.get(degrees % 360)
    return image if turn is None else np.asarray(cv2.rotate(image, turn), np.uint8)
