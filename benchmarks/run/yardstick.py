"""A fixed workload between the frames of a long run: if its time rises as well, the machine has become slower."""

from time import perf_counter

import cv2
import numpy as np

_SIZE, _TO = (640, 480), (427, 320)
"""Image sizes in pixels. Area averaging between them takes about 1 ms, with OpenCV's threads as in letterboxing."""


class Yardstick:
    """A fixed workload on its own arrays."""

    def __init__(self) -> None:
        self._from = np.random.default_rng(0).integers(0, 256, (_SIZE[1], _SIZE[0], 3), np.uint8)
        self._to = np.empty((_TO[1], _TO[0], 3), np.uint8)

    def measure(self) -> float:
        """Run the workload and return its time in milliseconds."""
        started = perf_counter()
        cv2.resize(self._from, _TO, dst=self._to, interpolation=cv2.INTER_AREA)
        return (perf_counter() - started) * 1e3
