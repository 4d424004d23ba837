"""What goes from the detector to rules and outputs, and what takes it."""

from dataclasses import dataclass, field
from typing import Protocol

from runtime.frames import Frame
from stm_skeletons.parts import Parts


@dataclass(frozen=True)
class Event:
    """Something that a rule noticed."""

    camera: str
    rule: str
    kind: str
    """"line", "region", "dwell" or "fall"."""
    time: float
    """Seconds since 1970, UTC, when the frame arrived."""
    id: int | None
    """Of the person; None where it is about several."""
    what: str
    """In a few words: "in", "out" of a line, "entered", "left", "stayed", "fell"."""
    count: int | None = None
    """People in the region, or crossings in this direction so far."""
    clip: str | None = None
    """File name of its video, which is complete some seconds later."""


@dataclass(frozen=True)
class Result:
    """A frame of a camera and all that was found in it. Its arrays are not changed by anybody."""

    camera: str
    frame: Frame
    """Its ``arrived`` is always set: ``time.monotonic()``."""
    parts: Parts
    """What is reported of it."""
    time: float
    """Seconds since 1970, UTC, when the frame arrived: for people to read; never subtracted."""
    everybody: Parts
    """All that was found, whoever is left out of ``parts``: heads to hide are among these."""
    events: tuple[Event, ...] = field(default=())


class Output(Protocol):
    """Takes results without ever making the detector wait: it queues them, and drops and counts what is too much."""

    name: str
    """For messages and counters: "lines", "recording", "clips", "mqtt", "page"."""

    def offer(self, result: Result) -> None:
        """Called by the detector for each result, in order. Never blocks, never raises."""
        ...

    def counters(self) -> dict[str, int]:
        """ "written", "dropped" and "failed" results so far."""
        ...

    def problem(self) -> str | None:
        """In a line why it cannot write at present; None when all is well."""
        ...

    def close(self, within: float) -> None:
        """Finish what is open within so many seconds; may be called twice."""
        ...
