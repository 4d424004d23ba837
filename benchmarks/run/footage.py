"""Real frames for as long as they are wanted: a video that is read again from its start when it ends."""

from collections.abc import Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from runtime.frames import Frame
from runtime.sources import open_source
from stm_skeletons.errors import BenchmarkError


class Footage:
    """Frames of a source without end. The session goes on over the jump, as over a cut in a film."""

    def __init__(self, source: str) -> None:
        """
        Args:
            source: as open_source takes it.

        Raises:
            SourceError: it cannot be read.
            BenchmarkError: a camera or stream, which gives other frames each time, and waits for them.
        """
        self._name = source
        self._source = open_source(source)
        if self._source.live:
            self._source.close()
            raise BenchmarkError(f"{source} is a camera or stream; record it first: only a video can be measured again")
        self._frames: Iterator[Frame] = iter(self._source)
        self.frames_per_second: float = self._source.frames_per_second
        self.size: tuple[int, int] | None = self._source.frame_size
        self.frames_read = 0
        self.passes = 1
        """Times that the source has been opened."""

    def read(self) -> tuple[NDArray[np.uint8], float]:
        """The next frame (BGR uint8 [h, w, 3]) and the milliseconds that it took to decode.

        Opening the source again is not counted, as a camera is opened once; the first frame afterwards is.
        """
        started = perf_counter()
        frame = next(self._frames, None)
        if frame is None:
            self._again()
            started = perf_counter()
            frame = next(self._frames, None)
            if frame is None:
                raise BenchmarkError(f"{self._name} gave frames once and no more; copy it to a file first")
        milliseconds = (perf_counter() - started) * 1e3
        self.frames_read += 1
        return frame.image, milliseconds

    def _again(self) -> None:
        self._source.close()
        self._source = open_source(self._name)
        self._frames = iter(self._source)
        self.passes += 1

    def close(self) -> None:
        """Release the source."""
        self._source.close()
