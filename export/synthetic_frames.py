"""Synthetic test frames; unlike noise, every place is distinctive."""

import cv2
import numpy as np
from numpy.typing import NDArray


def synthetic_frames(height: int, width: int, count: int) -> list[NDArray[np.uint8]]:
    """Return frames of smooth random texture that drifts, with a bright bar crossing; no two are alike."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 16 + 4, width // 16 + 4, 3), np.uint8)
    image = cv2.resize(coarse, None, fx=16, fy=16, interpolation=cv2.INTER_CUBIC)
    frames = []
    for number in range(count):
        top, left = number % 64, 2 * number % 64
        frame = np.array(image[top : top + height, left : left + width], np.uint8)
        bar = 8 * number % width
        frame[:, bar : bar + width // 16] = 250
        frames.append(frame)
    return frames
