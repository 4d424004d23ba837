"""Detects scene cuts in a video, at which the memory is reset."""

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE = (64, 36)
_BINS, _RANGES = [8, 4, 8], [0, 180, 0, 256, 0, 256]
_OTHER_LAYOUT, _OTHER_COLOURS = 0.6, 0.3
"""A cut exceeds both. In the tests' six videos, consecutive frames differ by at most 0.32 and 0.13 (people filling the
image, a moving camera), frames of different videos by at least 0.75 and 0.44."""


class CutDetector:
    """Compares each frame with the previous one: brightness layout (correlation of thumbnails) and colours
    (intersection of histograms)."""

    def __init__(self) -> None:
        self._before: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def is_cut(self, image: NDArray[np.uint8]) -> bool:
        """Whether this frame, BGR [h, w, 3], starts a new scene; never the first frame."""
        before, self._before = self._before, _features(image)
        if before is None:
            return False
        layout, colours = differences(before, self._before)
        return layout > _OTHER_LAYOUT and colours > _OTHER_COLOURS


def differences(
    before: tuple[NDArray[np.float32], NDArray[np.float32]], now: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> tuple[float, float]:
    """Return the differences in layout and in colours; 0 means none."""
    return float(1 - (before[0] * now[0]).mean()), float(1 - np.minimum(before[1], now[1]).sum())


def _features(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Standardised grey thumbnail, and share of each colour."""
    small = cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    hue = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
    shares = np.asarray(cv2.calcHist([hue], [0, 1, 2], None, _BINS, _RANGES), np.float32).ravel()
    standard = (grey - grey.mean()) / (grey.std() + 5)
    return standard.astype(np.float32), (shares / (_SIZE[0] * _SIZE[1])).astype(np.float32)
