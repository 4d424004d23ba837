"""An endless supply of real frames: a video that is looped."""

from collections.abc import Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame
from runtime.sources import open_source
from stm_skeletons.errors import BenchmarkError


class Footage:
    """Frames of a looped source. At each loop the session sees a jump, as at a cut in a film."""

    def __init__(self, source: str) -> None:
        """
        Args:
            source: video file or folder, see open_source.

        Raises:
            SourceError: the source cannot be read.
            BenchmarkError: the source is a camera or stream, whose frames arrive in real time and never repeat.
        """
        self._name = source
        self._source = open_source(source)
        if self._source.live:
            self._source.close()
            raise BenchmarkError(f"{source} is a camera or stream; record it first, since a benchmark loops its source")
        self._frames: Iterator[Frame] = iter(self._source)
        self.frames_per_second: float = self._source.frames_per_second
        self.size: tuple[int, int] | None = self._source.frame_size
        self.frames_read = 0
        self.passes = 1
        """Number of times that the source has been opened."""

    def read(self) -> tuple[NDArray[np.uint8], float]:
        """The next frame (BGR uint8 [h, w, 3]) and its decoding time in milliseconds.

        The time to reopen the source is not included, because a camera is opened only once.
        """
        started = perf_counter()
        frame = next(self._frames, None)
        if frame is None:
            self._reopen()
            started = perf_counter()
            frame = next(self._frames, None)
            if frame is None:
                raise BenchmarkError(f"{self._name} can be read only once; copy it to a file first")
        milliseconds = (perf_counter() - started) * 1e3
        self.frames_read += 1
        return frame.image, milliseconds

    def _reopen(self) -> None:
        self._source.close()
        self._source = open_source(self._name)
        self._frames = iter(self._source)
        self.passes += 1

    def close(self) -> None:
        """Release the source."""
        self._source.close()
