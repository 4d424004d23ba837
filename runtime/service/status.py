"""Condition of the service and its cameras: counters that threads update, and snapshots of them."""

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
"""State of a camera. "live", "black" and "frozen" cameras give frames; "away" gives none at present; "parked" is not
processed because of backend errors; "ended" is a file that has ended; "stopped" is no longer read."""
FRESH = 2.0
"""Seconds since its latest frame (or two frame intervals) for which a camera counts as giving frames."""
_RATE_OVER, _AGES_OVER = 10.0, 60.0
"""Seconds over which rates and ages are measured."""
_MAX_KEPT = 4096
"""Most frames remembered for these."""
_GIVES_FRAMES: frozenset[State] = frozenset({"live", "black", "frozen"})
Count = Annotated[int, Field(ge=0)]


class OutputStatus(Strict):
    """Counters and condition of an output."""

    written: Count = 0
    dropped: Count = 0
    failed: Count = 0
    problem: str | None = None
    """Why it cannot write at present, on one line."""


class CameraStatus(Strict):
    """Condition of a camera."""

    name: str
    state: State
    why: str | None
    """Reason of the state, on one line."""
    since: float
    """Start of this state in seconds since 1970 (UTC)."""
    frames: Count
    """Frames whose results were handed to the outputs."""
    skipped: Count
    """Frames dropped because there was no time, or because they came faster than ``rate``."""
    reconnects: Count
    errors: Count
    """Backend errors on this camera's frames."""
    width: int | None
    height: int | None
    """Size of the latest frame in pixels, after rotation."""
    frames_per_second: float
    """Processed frames per second, over the last ten seconds."""
    source_rate: float
    """Frames per second from the source, over the last ten seconds."""
    age_p50: float | None
    age_p99: float | None
    """Seconds from a frame's arrival to its results, over the last minute; None without frames."""
    last_age: float | None
    people: Count
    """People in the latest frame."""
    outputs: dict[str, OutputStatus]


class ModelStatus(Strict):
    """The loaded model."""

    bundle: str
    precision: str
    backend: str
    provider: str


class ServiceStatus(Strict):
    """Condition of the service."""

    version: str
    started: float
    """Start in seconds since 1970 (UTC)."""
    uptime: float
    """Seconds since the start."""
    ready: bool
    """Whether every camera has given a frame or reported a reason, one is live, and the service is not stuck."""
    stuck: bool
    """Whether no frame was finished for longer than ``watchdog`` although frames were waiting."""
    model: ModelStatus | None
    """None until the model is loaded."""
    cameras: tuple[CameraStatus, ...]
    memory_bytes: Count
    """Resident memory of the process."""
    rebuilds: Count
    """Reloads of the model after backend errors."""


class CameraStats:
    """Statistics of one camera, updated by the feed and the detector. Thread-safe."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outputs: tuple[Output, ...] = ()
        """Outputs whose counters are shown."""
        self._lock = threading.Lock()
        self._feed: State = "starting"
        """State according to the feed; the shown state may differ."""
        self._why: str | None = None
        self._parked: str | None = None
        self._shown: tuple[State, str | None] = ("starting", None)
        self._since = time.monotonic()
        self._frames = self._skipped = self._reconnects = self._errors = self._people = 0
        self._size: tuple[int, int] | None = None
        self._arrivals: deque[float] = deque(maxlen=_MAX_KEPT)
        self._answers: deque[tuple[float, float]] = deque(maxlen=_MAX_KEPT)
        """Time and age of each result."""
        self._latest = -np.inf
        """Time of the latest frame."""

    def arrived(self, now: float, size: tuple[int, int], state: State = "live", why: str | None = None) -> None:
        """Record a frame that arrived at ``time.monotonic()``, with its (width, height) and state."""
        with self._lock:
            self._arrivals.append(now)
            self._latest, self._size, self._feed, self._why = now, size, state, why
            self._show(now)

    def waits(self, now: float) -> None:
        """Record that a file's next frame waits for its turn, so the file is still live."""
        with self._lock:
            self._latest = now

    def set_state(self, state: State, why: str | None = None) -> None:
        """Set the feed's state, other than by a frame."""
        with self._lock:
            self._feed, self._why = state, why
            self._show(time.monotonic())

    def reconnected(self) -> None:
        """Record that the camera was away and has been reopened."""
        with self._lock:
            self._reconnects += 1

    def skipped(self, frames: int) -> None:
        """Add skipped frames."""
        with self._lock:
            self._skipped += frames

    def answered(self, now: float, age: float, people: int) -> None:
        """Record results handed to the outputs, with the frame's age in seconds."""
        with self._lock:
            self._frames += 1
            self._people = people
            self._answers.append((now, age))

    def failed(self) -> None:
        """Record a backend error."""
        with self._lock:
            self._errors += 1

    def park(self, why: str | None) -> None:
        """Park the camera for this reason; None resumes it."""
        with self._lock:
            self._parked = why
            self._show(time.monotonic())

    @property
    def parked(self) -> str | None:
        """Why the camera is parked; None if it is not."""
        with self._lock:
            return self._parked

    def gives_frames(self, now: float) -> bool:
        """Whether the camera gave a frame recently."""
        with self._lock:
            return self._feed in _GIVES_FRAMES and self._is_fresh(now)

    def state(self) -> tuple[State, str | None]:
        """Return the shown state and its reason."""
        with self._lock:
            self._show(time.monotonic())
            return self._shown

    def snapshot(self) -> CameraStatus:
        """Return the camera's status."""
        # Outside our lock, because outputs have their own.
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
        # The shorter of two intervals, so that a single gap does not count as a slow camera.
        interval = min(a - b for a, b in itertools.pairwise(latest)) if len(latest) == 3 else 0.0
        return now - self._latest <= max(FRESH, 2 * interval)

    def _show(self, now: float) -> None:
        """Update the shown state and its start."""
        shown = self._feed, self._why
        if self._feed in _GIVES_FRAMES and not self._is_fresh(now):
            shown = "away", "no frames"
        if self._parked is not None and self._feed not in ("ended", "stopped"):
            shown = "parked", self._parked
        if shown[0] != self._shown[0]:
            self._since = now
        self._shown = shown


class Board:
    """Status of the service and all cameras. Thread-safe."""

    def __init__(self) -> None:
        self.stuck = False
        self.model: ModelStatus | None = None
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._cameras: dict[str, CameraStats] = {}
        self._rebuilds = 0
        self._process = psutil.Process()

    def camera(self, name: str) -> CameraStats:
        """Return a camera's statistics, creating them if necessary."""
        with self._lock:
            return self._cameras.setdefault(name, CameraStats(name))

    def renew(self, name: str) -> CameraStats:
        """Return new statistics for a camera, replacing existing ones."""
        with self._lock:
            self._cameras[name] = CameraStats(name)
            return self._cameras[name]

    def keep(self, names: list[str]) -> None:
        """Keep only these cameras, in this order."""
        with self._lock:
            self._cameras = {name: self._cameras[name] for name in names if name in self._cameras}

    def rebuilt(self) -> None:
        """Count a reload of the model."""
        with self._lock:
            self._rebuilds += 1

    def snapshot(self) -> ServiceStatus:
        """Return the current status."""
        with self._lock:
            stats, rebuilds = list(self._cameras.values()), self._rebuilds
        cameras = tuple(each.snapshot() for each in stats)
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
    """Events per second over the last seconds; for a source that has just started, since its first event."""
    recent = [each for each in times if now - each <= _RATE_OVER]
    if len(recent) < len(times):  # it started earlier
        return len(recent) / _RATE_OVER
    return (len(recent) - 1) / max(now - recent[0], 1e-3) if len(recent) > 1 else 0.0


def _as_utc(then: float, now: float) -> float:
    """Convert a ``time.monotonic()`` value to UTC by the current clock, which may have been adjusted since."""
    return round(time.time() - (now - then), 1)
