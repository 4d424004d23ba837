"""How the service and its cameras are: counters that threads write, and a snapshot for whoever asks."""

import itertools
import threading
import time
from collections import deque
from typing import Annotated, Literal

import numpy as np
import psutil
from pydantic import Field

import stm_skeletons
from runtime.service.results import Output
from stm_skeletons.strict import Strict

State = Literal["starting", "live", "black", "frozen", "away", "ended", "parked", "stopped"]
"""Of a camera. "live", "black" and "frozen" give frames; "away" does not at present; "parked" gives frames that the
backend cannot take; "ended" is a file that is over; "stopped" is no longer read."""
FRESH = 2.0
"""Seconds after its latest frame, or two of its frame intervals, for which a camera counts as giving frames."""
_RATE_OVER, _AGES_OVER = 10.0, 60.0
"""Seconds."""
_MOST_KEPT = 4096
"""Frames of those seconds that are looked at."""
_GIVES_FRAMES: frozenset[State] = frozenset({"live", "black", "frozen"})
Count = Annotated[int, Field(ge=0)]


class OutputStatus(Strict):
    """What became of the results that an output was offered."""

    written: Count = 0
    dropped: Count = 0
    failed: Count = 0
    problem: str | None = None
    """In a line why it cannot write at present."""


class CameraStatus(Strict):
    """How a camera is."""

    name: str
    state: State
    why: str | None
    """In a line, for people."""
    since: float
    """Seconds since 1970, UTC, when this state began."""
    frames: Count
    """Answered: whose results were handed to the outputs."""
    skipped: Count
    """For which there was no time, or which came faster than ``rate``."""
    reconnects: Count
    errors: Count
    """Of the backend, at this camera's frames."""
    width: int | None
    height: int | None
    """Of the latest frame, in pixels, once it is turned as configured."""
    frames_per_second: float
    """Answered, over the last ten seconds."""
    source_rate: float
    """Frames a second that came, over the last ten seconds."""
    age_p50: float | None
    age_p99: float | None
    """Seconds from a frame's arrival to its results, over the last minute; None without frames."""
    last_age: float | None
    people: Count
    """In the latest frame."""
    outputs: dict[str, OutputStatus]


class ModelStatus(Strict):
    """What is loaded."""

    bundle: str
    precision: str
    backend: str
    provider: str


class ServiceStatus(Strict):
    """How the service is."""

    version: str
    started: float
    """Seconds since 1970, UTC."""
    uptime: float
    """Seconds."""
    ready: bool
    """Whether every camera that is not parked has been seen or has said why not, one at least is live, and the service
    is not stuck."""
    stuck: bool
    """Whether no frame was finished for longer than ``watchdog`` while there were some."""
    model: ModelStatus | None
    """None until it is loaded."""
    cameras: tuple[CameraStatus, ...]
    memory_bytes: Count
    """Of the process."""
    rebuilds: Count
    """How often the model was loaded anew after an error of the backend."""


class CameraMarks:
    """What the feed and the detector note of one camera. For any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outputs: tuple[Output, ...] = ()
        """Whose counters are shown."""
        self._lock = threading.Lock()
        self._feed: State = "starting"
        """As the feed has it; what is shown may differ."""
        self._why: str | None = None
        self._parked: str | None = None
        self._shown: tuple[State, str | None] = ("starting", None)
        self._since = time.monotonic()
        self._frames = self._skipped = self._reconnects = self._errors = self._people = 0
        self._size: tuple[int, int] | None = None
        self._arrivals: deque[float] = deque(maxlen=_MOST_KEPT)
        self._answers: deque[tuple[float, float]] = deque(maxlen=_MOST_KEPT)
        """When, and at which age."""
        self._latest = -np.inf
        """When it last gave a frame."""

    def arrived(self, now: float, size: tuple[int, int], state: State = "live", why: str | None = None) -> None:
        """A frame came at ``time.monotonic()``, of (width, height): "live", "black" or "frozen"."""
        with self._lock:
            self._arrivals.append(now)
            self._latest, self._size, self._feed, self._why = now, size, state, why
            self._show(now)

    def waits(self, now: float) -> None:
        """A file's next frame is there and waits for its turn: the file is no less live for that."""
        with self._lock:
            self._latest = now

    def is_now(self, state: State, why: str | None = None) -> None:
        """The feed's state, when that is not that a frame came."""
        with self._lock:
            self._feed, self._why = state, why
            self._show(time.monotonic())

    def reconnected(self) -> None:
        """It was away and has been opened again."""
        with self._lock:
            self._reconnects += 1

    def skipped(self, frames: int) -> None:
        """So many more frames are never looked at."""
        with self._lock:
            self._skipped += frames

    def answered(self, now: float, age: float, people: int) -> None:
        """Results went to the outputs, so many seconds after the frame arrived."""
        with self._lock:
            self._frames += 1
            self._people = people
            self._answers.append((now, age))

    def failed(self) -> None:
        """The backend could not take a frame."""
        with self._lock:
            self._errors += 1

    def park(self, why: str | None) -> None:
        """Its frames are not looked at for this reason; None: they are again."""
        with self._lock:
            self._parked = why
            self._show(time.monotonic())

    @property
    def parked(self) -> str | None:
        """Why it is parked."""
        with self._lock:
            return self._parked

    def gives_frames(self, now: float) -> bool:
        """Whether one came a moment ago."""
        with self._lock:
            return self._feed in _GIVES_FRAMES and self._is_fresh(now)

    def state(self) -> tuple[State, str | None]:
        """What is shown, and why."""
        with self._lock:
            self._show(time.monotonic())
            return self._shown

    def snapshot(self) -> CameraStatus:
        """All of it."""
        # Not under our lock: outputs have their own.
        outputs = {output.name: _output_status(output) for output in self.outputs}
        with self._lock:
            now = time.monotonic()
            self._show(now)
            ages = [age for when, age in self._answers if now - when <= _AGES_OVER]
            p50, p99 = np.percentile(ages, (50, 99)).tolist() if ages else (None, None)
            width, height = self._size or (None, None)
            return CameraStatus(
                name=self.name,
                state=self._shown[0],
                why=self._shown[1],
                since=_as_utc(self._since, now),
                frames=self._frames,
                skipped=self._skipped,
                reconnects=self._reconnects,
                errors=self._errors,
                width=width,
                height=height,
                frames_per_second=_rate([when for when, _ in self._answers], now),
                source_rate=_rate(self._arrivals, now),
                age_p50=p50,
                age_p99=p99,
                last_age=self._answers[-1][1] if self._answers else None,
                people=self._people if self._shown[0] in _GIVES_FRAMES else 0,
                outputs=outputs,
            )

    def _is_fresh(self, now: float) -> bool:
        latest = list(itertools.islice(reversed(self._arrivals), 3))
        # The shorter of two intervals: one gap alone does not make a slow camera.
        interval = min(a - b for a, b in itertools.pairwise(latest)) if len(latest) == 3 else 0.0
        return now - self._latest <= max(FRESH, 2 * interval)

    def _show(self, now: float) -> None:
        """Settle what is shown, and since when."""
        shown = self._feed, self._why
        if self._feed in _GIVES_FRAMES and not self._is_fresh(now):
            shown = "away", "no frame comes"
        if self._parked is not None and self._feed not in ("ended", "stopped"):
            shown = "parked", self._parked
        if shown[0] != self._shown[0]:
            self._since = now
        self._shown = shown


class Board:
    """Where everything is noted. For any thread."""

    def __init__(self) -> None:
        self.stuck = False
        self.model: ModelStatus | None = None
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._cameras: dict[str, CameraMarks] = {}
        self._rebuilds = 0
        self._process = psutil.Process()

    def camera(self, name: str) -> CameraMarks:
        """A camera's, which is new unless it is there already."""
        with self._lock:
            return self._cameras.setdefault(name, CameraMarks(name))

    def renew(self, name: str) -> CameraMarks:
        """A camera's, new even where there is one: that which was read before is noted there no longer."""
        with self._lock:
            self._cameras[name] = CameraMarks(name)
            return self._cameras[name]

    def keep(self, names: list[str]) -> None:
        """Forget all cameras but these, whose order this is."""
        with self._lock:
            self._cameras = {name: self._cameras[name] for name in names if name in self._cameras}

    def rebuilt(self) -> None:
        """The model was loaded anew."""
        with self._lock:
            self._rebuilds += 1

    def snapshot(self) -> ServiceStatus:
        """How everything is now."""
        with self._lock:
            marks, rebuilds = list(self._cameras.values()), self._rebuilds
        cameras = tuple(each.snapshot() for each in marks)
        now = time.monotonic()
        return ServiceStatus(
            version=stm_skeletons.__version__,
            started=_as_utc(self._started, now),
            uptime=now - self._started,
            ready=self.model is not None and not self.stuck and _are_ready(cameras),
            stuck=self.stuck,
            model=self.model,
            cameras=cameras,
            memory_bytes=self._process.memory_info().rss,
            rebuilds=rebuilds,
        )


def _are_ready(cameras: tuple[CameraStatus, ...]) -> bool:
    said = all(camera.frames > 0 or camera.why is not None for camera in cameras)
    return said and any(camera.state == "live" and camera.frames > 0 for camera in cameras)


def _output_status(output: Output) -> OutputStatus:
    counters = output.counters()
    counts = {name: counters.get(name, 0) for name in ("written", "dropped", "failed")}
    return OutputStatus(**counts, problem=output.problem())


def _rate(times: "deque[float] | list[float]", now: float) -> float:
    """Events a second among times in order, over the last seconds; of a source that has just begun since its first."""
    recent = [each for each in times if now - each <= _RATE_OVER]
    if len(recent) < len(times):  # it began before
        return len(recent) / _RATE_OVER
    return (len(recent) - 1) / max(now - recent[0], 1e-3) if len(recent) > 1 else 0.0


def _as_utc(then: float, now: float) -> float:
    """Of a moment by ``time.monotonic()``: right by the clock as it is now, which may have jumped since."""
    return round(time.time() - (now - then), 1)
