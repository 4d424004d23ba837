"""Results and events, and the interface of outputs."""

from dataclasses import dataclass, field
from typing import Protocol

from runtime.frames import Frame
from stm_skeletons.parts import Parts


@dataclass(frozen=True)
class Event:
    """An event detected by a rule."""

    camera: str
    rule: str
    kind: str
    """"line", "region", "dwell" or "fall"."""
    time: float
    """Arrival of the frame, in seconds since 1970 (UTC)."""
    id: int | None
    """Id of the person; None if several people are concerned."""
    what: str
    """What happened: "in", "out" (line), "entered", "left", "stayed", "fell"."""
    count: int | None = None
    """People now in the region, or crossings in this direction so far."""
    clip: str | None = None
    """File name of the event's video, complete some seconds later."""


@dataclass(frozen=True)
class Result:
    """A camera's frame and its results. Its arrays must not be modified."""

    camera: str
    frame: Frame
    """``arrived`` is always set (``time.monotonic()``)."""
    parts: Parts
    """The reported parts."""
    time: float
    """Arrival of the frame, in seconds since 1970 (UTC); for display, never for computing durations."""
    everybody: Parts
    """All parts found, including those filtered from ``parts``; needed to blur every head."""
    events: tuple[Event, ...] = field(default=())


class Output(Protocol):
    """Receives results without blocking the detector: queues them, and drops and counts excess results."""

    name: str
    """Name in messages and counters: "lines", "recording", "clips", "mqtt", "page"."""

    def offer(self, result: Result) -> None:
        """Called by the detector for each result, in order. Never blocks or raises."""
        ...

    def counters(self) -> dict[str, int]:
        """Return the numbers of "written", "dropped" and "failed" results so far."""
        ...

    def problem(self) -> str | None:
        """Return on one line why it cannot write at present; None if it can."""
        ...

    def close(self, within: float) -> None:
        """Finish open files in ``within`` seconds. May be called twice."""
        ...
