"""Measures one session on real frames: latencies of timed frames, and times by stage of other frames in between.

Recording stages makes a GPU wait after each stage and rules out CUDA graphs, so frames with recorded stages say nothing
about latency. Therefore blocks of frames with and without recording alternate in one session. A change of the machine's
speed affects both alike, and the memory in use is that of one camera. The position of the recorded block within a group
of blocks is random, because a short looped video might otherwise show the same frames in every recorded block. The
first frame after each change is skipped, because the device is still in the state that the previous block left.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.run.footage import Footage
from benchmarks.run.yardstick import Yardstick
from runtime.session import Session
from runtime.stages import STAGES, RecordedStages, Stages
from stm_skeletons.parts import Parts

WARM_UP = 50
"""Warm-up frames: they fill the memory and the caches, and bring the clocks up."""
BLOCK = 50
_RARE_FROM, _PLAIN_BLOCKS = 10_000, 9
"""A long run records stages only in every 10th block, which gives enough samples and leaves more timed frames."""
FRAME_COLUMNS = ("seconds", "decode", "frame", "people", "yardstick")
ALL_STAGES: tuple[str, ...] = ("decode", *STAGES)
_SPARE = 4
"""A run by time has room for this many times the frames that the fastest warm-up frame suggests."""


@dataclass(frozen=True)
class Length:
    """Length of the measurement: one of the two is set."""

    frames: int | None = None
    """Timed frames."""
    seconds: float | None = None

    @property
    def is_long(self) -> bool:
        """Whether stages are recorded in only one of ten blocks."""
        return (self.frames or 0) > _RARE_FROM or (self.seconds or 0) >= 300

    @property
    def block(self) -> int:
        """Frames of a block; fewer in a run that would otherwise have only one or two blocks."""
        return BLOCK if self.frames is None else min(BLOCK, max(5, self.frames // 4))


class Table:
    """Rows of numbers in one preallocated array, so that memory does not grow while rows are added."""

    def __init__(self, capacity: int, columns: tuple[str, ...]) -> None:
        self.columns = columns
        # Filled instead of empty: pages first touched during the run would look like a leak.
        self._rows = np.full((capacity, len(columns)), np.nan, np.float32)
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for one more row."""
        return self.count == len(self._rows)

    def add(self, *row: float) -> None:
        """Add a row; the table must not be full."""
        self._rows[self.count] = row
        self.count += 1

    def column(self, name: str) -> NDArray[np.float32]:
        """[count]: values of a column."""
        return self._rows[: self.count, self.columns.index(name)]


@dataclass(frozen=True)
class Samples:
    """Tables that a run fills."""

    frames: Table
    """Timed frames: start in seconds, milliseconds of decoding and of the session's step, number of people, and
    milliseconds of the yardstick after the frame (NaN in a short run)."""
    stages: Table
    """Frames with recorded stages: milliseconds of each of ALL_STAGES."""


def warm_up(session: Session, footage: Footage, stop: threading.Event, frames: int = WARM_UP) -> list[float]:
    """Run warm-up frames; milliseconds of each from decoded frame to parts. Fewer frames if ``stop`` is set."""
    times: list[float] = []
    while len(times) < frames and not stop.is_set():
        image, _ = footage.read()
        started = perf_counter()
        session.step(image)
        times.append((perf_counter() - started) * 1e3)
    return times


def room_for(length: Length, warm_ms: list[float]) -> Samples:
    """Tables with room for a whole run, estimated from the times of the warm-up frames."""
    if length.frames is not None:
        capacity = length.frames
    else:
        capacity = int((length.seconds or 0) * 1e3 / min(warm_ms) * _SPARE) + BLOCK
    return Samples(Table(capacity, FRAME_COLUMNS), Table(capacity + 2 * BLOCK, ALL_STAGES))


def measure(
    session: Session,
    footage: Footage,
    length: Length,
    samples: Samples,
    origin: float,
    stop: threading.Event,
    on_frame: Callable[[], object] | None = None,
) -> None:
    """Fill the tables until the run has its length or ``stop`` is set.

    Args:
        session: warmed up.
        footage: source of frames.
        length: of the run.
        samples: tables from room_for.
        origin: perf_counter at second 0.
        stop: ends the run after the current frame.
        on_frame: called after every timed frame.
    """
    recorder = RecordedStages()
    # Not in a short run, because work between two frames affects the second one.
    yardstick = Yardstick() if length.is_long else None
    end = np.inf if length.seconds is None else origin + length.seconds
    try:
        for records, changed in _blocks(_PLAIN_BLOCKS if length.is_long else 1, length.block):
            if stop.is_set() or samples.frames.full or perf_counter() >= end:
                return
            if changed:
                session.record(recorder if records else Stages())
            started = perf_counter()
            image, decode_ms = footage.read()
            decoded = perf_counter()
            parts = session.step(image)
            frame_ms = (perf_counter() - decoded) * 1e3
            if changed:
                continue
            if not records:
                yardstick_ms = np.nan if yardstick is None else yardstick.measure()
                samples.frames.add(started - origin, decode_ms, frame_ms, count_people(parts), yardstick_ms)
                if on_frame is not None:
                    on_frame()
            elif not samples.stages.full:
                samples.stages.add(decode_ms, *recorder.milliseconds.values())
    finally:
        session.record(Stages())


def _blocks(plain: int, length: int) -> Iterator[tuple[bool, bool]]:
    """For each frame: whether its stages are recorded, and whether this differs from the frame before."""
    random = np.random.default_rng(0)
    before = None
    while True:
        recorded = int(random.integers(plain + 1))
        for number in range(plain + 1):
            for _ in range(length):
                yield number == recorded, (number == recorded) != before
                before = number == recorded


def count_people(parts: Parts) -> int:
    """Number of people: the most keypoints of any joint, which includes keypoints without edges."""
    return int(np.bincount(parts.keypoint_types).max(initial=0))
