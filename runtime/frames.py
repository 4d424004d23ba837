"""What a source gives: frames, one after the other."""

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
    """From 0; of a camera or stream, frames that were skipped count."""
    time: float
    """Seconds since the first frame; for cameras and streams when it arrived, by this machine's clock."""
    image: NDArray[np.uint8]
    """BGR uint8 [h, w, 3]."""
    file: str | None = None
    """Of an image in a folder: its name there."""
    arrived: float | None = None
    """Of a camera or stream: ``time.monotonic()`` when the frame was there. Results have an age from then on."""
    skipped: int = 0
    """Frames of a camera or stream since the one before, for which there was no time."""
    anew: bool = False
    """Whether what was seen before has nothing to do with it: the memory is to start afresh."""


class Source(Protocol):
    """Frames in order. Iterate once, then close."""

    frames_per_second: float
    total: int | None
    """Number of frames as far as it is known beforehand."""
    frame_size: tuple[int, int] | None
    """(width, height) of the first frame in pixels as far as it is known beforehand."""
    live: bool
    """Whether this is a camera or stream: it has no end."""

    def __iter__(self) -> Iterator[Frame]:
        """Yields frames; raises SourceError when the source breaks."""
        ...

    def stop_when(self, asked: threading.Event) -> None:
        """Waiting for a frame ends soon after this event is set. Files need not be waited for."""

    def close(self) -> None:
        """Release the device or file."""


def usable_rate(declared: float) -> float:
    """Frames a second as a source declares them, or a common rate where that cannot be."""
    return declared if 0 < declared <= 1000 else _UNKNOWN_RATE


def rotated(image: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """A picture turned clockwise by a multiple of 90 degrees; by 0 the picture itself."""
    turn = _TURNS.get(degrees % 360)
    return image if turn is None else np.asarray(cv2.rotate(image, turn), np.uint8)
