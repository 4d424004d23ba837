"""How long the stages of a frame take. A session that does not record them pays one empty call for each."""

from time import perf_counter

STAGES: tuple[str, ...] = (
    *("letterbox", "upload", "query_encoder", "read_decoder"),
    *("memory_encoder", "download", "people", "parts"),
)
"""Of a session's step, in the order in which they are recorded."""


class Stages:
    """Records nothing; what every session has by default."""

    recording = False
    """Whether a backend that queues its work has to wait for each stage, so that its end can be seen."""

    def begin(self) -> None:
        """A frame begins."""

    def done(self, name: str) -> None:
        """The stage of that name has ended; the next one begins."""


class RecordedStages(Stages):
    """Milliseconds of each stage of the latest frame. Nothing grows, however long it records."""

    recording = True

    def __init__(self) -> None:
        self.milliseconds = dict.fromkeys(STAGES, 0.0)
        self._mark = perf_counter()

    def begin(self) -> None:
        for name in STAGES:
            self.milliseconds[name] = 0.0
        self._mark = perf_counter()

    def done(self, name: str) -> None:
        """A stage that comes twice in a frame counts with both times. Raises KeyError unless it is one of STAGES."""
        now = perf_counter()
        self.milliseconds[name] += (now - self._mark) * 1e3
        self._mark = now
