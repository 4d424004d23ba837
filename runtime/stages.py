"""Durations of the stages of a frame. Sessions that do not record them only pay one empty call per stage."""

from time import perf_counter

STAGES: tuple[str, ...] = (
    *("letterbox", "upload", "query_encoder", "read_decoder"),
    *("memory_encoder", "download", "people", "parts"),
)
"""Stages of a session's step, in order."""


class Stages:
    """Records nothing; the default of every session."""

    recording = False
    """Whether a backend that queues its work must wait for each stage, so that its end can be timed."""

    def begin(self) -> None:
        """Start a frame."""

    def done(self, name: str) -> None:
        """Mark the end of the named stage; the next one begins."""


class RecordedStages(Stages):
    """Milliseconds of each stage of the latest frame. Memory use is constant."""

    recording = True

    def __init__(self) -> None:
        self.milliseconds = dict.fromkeys(STAGES, 0.0)
        self._mark = perf_counter()

    def begin(self) -> None:
        for name in STAGES:
            self.milliseconds[name] = 0.0
        self._mark = perf_counter()

    def done(self, name: str) -> None:
        """Add the time since the previous mark to a stage. Raises KeyError if it is not one of STAGES."""
        now = perf_counter()
        self.milliseconds[name] += (now - self._mark) * 1e3
        self._mark = now
