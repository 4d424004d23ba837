"""One session on real frames: latencies of undisturbed frames, and stages of others in between.

Recording stages makes a GPU wait after each and forbids CUDA graphs, so a frame with stages is no measure of latency.
Blocks of frames with stages therefore alternate with undisturbed ones, in one session: whatever the machine does in the
meantime, getting hot or having neighbours, happens to both alike, and the memory in use is that of one camera. Which
block of a group has the stages is drawn by lot, as a short video comes back to the same frames in step with the blocks.
The first frame after each change counts for nothing: the device is then in the state that the other kind of block left.
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
"""Frames before anything counts: the memory is full, caches and clocks are up."""
BLOCK = 50
_RARE_FROM, _PLAIN_BLOCKS = 10_000, 9
"""A long run has stages in every tenth block only: they then have enough samples, and most frames are undisturbed."""
FRAME_COLUMNS = ("seconds", "decode", "frame", "people", "yardstick")
ALL_STAGES: tuple[str, ...] = ("decode", *STAGES)
_SPARE = 4
"""A run by time has room for so many times the frames that its fastest warm-up frame lets expect."""


@dataclass(frozen=True)
class Length:
    """How long is measured: one of the two."""

    frames: int | None = None
    """Undisturbed ones."""
    seconds: float | None = None

    @property
    def is_long(self) -> bool:
        """Whether stages are recorded in few of the blocks."""
        return (self.frames or 0) > _RARE_FROM or (self.seconds or 0) >= 300

    @property
    def block(self) -> int:
        """Frames of a block; fewer in a run that would else have one or two blocks in all."""
        return BLOCK if self.frames is None else min(BLOCK, max(5, self.frames // 4))


class Table:
    """Rows of numbers in one array that is allocated, and touched, before the first: nothing grows while it fills."""

    def __init__(self, capacity: int, columns: tuple[str, ...]) -> None:
        self.columns = columns
        # Filled, not left empty: pages that are touched later would look like a leak.
        self._rows = np.full((capacity, len(columns)), np.nan, np.float32)
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for another row."""
        return self.count == len(self._rows)

    def add(self, *row: float) -> None:
        """One more row; there must be room."""
        self._rows[self.count] = row
        self.count += 1

    def column(self, name: str) -> NDArray[np.float32]:
        """[count] of what was added under that name."""
        return self._rows[: self.count, self.columns.index(name)]


@dataclass(frozen=True)
class Samples:
    """What a run fills."""

    frames: Table
    """Undisturbed: second at which it began, milliseconds of decoding and of the session's step, people, and, in a long
    run, milliseconds of the yardstick behind it (else NaN)."""
    stages: Table
    """Milliseconds of each of ALL_STAGES."""


def warm_up(session: Session, footage: Footage, stop: threading.Event, frames: int = WARM_UP) -> list[float]:
    """Milliseconds of the first frames, each from decoded to parts; fewer when it is to stop."""
    times: list[float] = []
    while len(times) < frames and not stop.is_set():
        image, _ = footage.read()
        started = perf_counter()
        session.step(image)
        times.append((perf_counter() - started) * 1e3)
    return times


def room_for(length: Length, warm_ms: list[float]) -> Samples:
    """Tables with room for a whole run, given the times of frames before it."""
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
    """Fill the tables until the run is as long as wanted or is to stop.

    Args:
        session: warmed up.
        footage: its frames.
        length: of the run.
        samples: from room_for.
        origin: perf_counter of second 0.
        stop: ends the run after the frame.
        on_frame: called after every undisturbed frame that counts.
    """
    recorder = RecordedStages()
    # Not in a short run: whatever happens between two frames is felt by the next.
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
                fixed_ms = np.nan if yardstick is None else yardstick.measure()
                samples.frames.add(started - origin, decode_ms, frame_ms, count_people(parts), fixed_ms)
                if on_frame is not None:
                    on_frame()
            elif not samples.stages.full:
                samples.stages.add(decode_ms, *recorder.milliseconds.values())
    finally:
        session.record(Stages())


def _blocks(plain: int, length: int) -> Iterator[tuple[bool, bool]]:
    """For frame after frame: whether its stages are recorded, and whether that is another state than before."""
    lot = np.random.default_rng(0)
    before = None
    while True:
        place = int(lot.integers(plain + 1))
        for number in range(plain + 1):
            for _ in range(length):
                yield number == place, (number == place) != before
                before = number == place


def count_people(parts: Parts) -> int:
    """Largest number of keypoints of any one joint: those count, too, whom no edge joins."""
    return int(np.bincount(parts.keypoint_types).max(initial=0))
