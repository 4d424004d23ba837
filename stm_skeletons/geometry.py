"""Letterbox: fits a frame into the network's input and maps points back exactly.

Coordinates are continuous: (0, 0) is the outer corner of the top-left pixel, the centre of pixel (column c, row r) is
(c + 0.5, r + 0.5). OpenCV's resize uses the same convention, so points and pixels map alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import FrameError

PADDING_GREY = 114
MAX_COORDINATE = 1e5
"""Largest absolute joint coordinate in pixels; larger ones are treated as errors."""
STRIDE = 4
"""Network pixels per map cell. The centre of cell (row i, column j) is network pixel (4j + 2, 4i + 2)."""


@dataclass(frozen=True)
class Letterbox:
    """Maps a source frame into the network's input: scaled without distortion, centred, with grey padding.

    Sizes are (width, height) in pixels. The scaled frame has whole pixels, so the scales of the two axes differ
    slightly; both are kept, which makes the inverse exact.
    """

    source: tuple[int, int]
    network: tuple[int, int]

    def __post_init__(self) -> None:
        if min(*self.source, *self.network) < 1:
            raise FrameError(f"cannot letterbox {self.source} into {self.network}: every side must be at least 1 pixel")

    @property
    def inner(self) -> tuple[int, int, int, int]:
        """(left, top, width, height) of the scaled frame inside the network's input, in network pixels."""
        scale = min(self.network[0] / self.source[0], self.network[1] / self.source[1])
        width = min(self.network[0], max(1, round(self.source[0] * scale)))
        height = min(self.network[1], max(1, round(self.source[1] * scale)))
        return (self.network[0] - width) // 2, (self.network[1] - height) // 2, width, height

    @property
    def _scale_and_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        left, top, width, height = self.inner
        return np.array([width / self.source[0], height / self.source[1]]), np.array([left, top], np.float64)

    def to_network(self, xy: NDArray) -> NDArray[np.float64]:
        """Source pixels [..., 2] to network pixels [..., 2]."""
        scale, shift = self._scale_and_shift
        return np.asarray(xy, np.float64) * scale + shift

    def to_source(self, xy: NDArray) -> NDArray[np.float64]:
        """Network pixels [..., 2] to source pixels [..., 2]; the exact inverse of ``to_network``."""
        scale, shift = self._scale_and_shift
        return (np.asarray(xy, np.float64) - shift) / scale

    def apply(self, frame: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Scale ``frame`` (uint8 [h, w, 3]) into ``out`` (uint8 [H, W, 3]), written in place."""
        left, top, width, height = self.inner
        out[:top] = out[top + height :] = PADDING_GREY
        out[top : top + height, :left] = out[top : top + height, left + width :] = PADDING_GREY
        inner = out[top : top + height, left : left + width]
        if width < self.source[0] or height < self.source[1]:
            _shrink(frame, inner)
        else:
            cv2.resize(frame, (width, height), dst=inner, interpolation=cv2.INTER_LINEAR)


def _shrink(frame: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize with approximate area averaging: plain bilinear resizing would alias, and aliasing flickers.

    Halves the frame while it is more than four times as large, resizes bilinearly to twice the size, and halves again.
    OpenCV's area averaging at other factors takes two to six times as long and differs by less than one grey level on
    average.
    """
    height, width = out.shape[:2]
    while frame.shape[1] > 4 * width and frame.shape[0] > 4 * height:
        frame = _halved(frame)
    doubled = cv2.resize(frame, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    cv2.resize(doubled, (width, height), dst=out, interpolation=cv2.INTER_AREA)


def _halved(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = frame.shape[1] // 2, frame.shape[0] // 2
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def check_frame(frame: NDArray) -> None:
    """Raise FrameError unless ``frame`` is a BGR image: uint8 [h, w, 3] with at least one pixel."""
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"a frame must be a NumPy array of BGR pixels, not {type(frame).__name__}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise FrameError(f"a frame must be uint8 [height, width, 3] (BGR), not {frame.dtype} {list(frame.shape)}")
