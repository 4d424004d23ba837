"""Measures the throughput of concurrent streams: one session for each, in threads of one process."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from pydantic import Field

from benchmarks.run.footage import Footage
from benchmarks.run.latency import Summary, summarise
from benchmarks.run.measure import warm_up
from benchmarks.run.memory import resident_mb
from runtime.session import Session
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.strict import Strict


class Streams(Strict):
    """Throughput and latency of concurrent streams."""

    streams: int = Field(ge=1)
    seconds: float = Field(description="Wall-clock window that all streams share.")
    fps: float = Field(description="Frames per second of all streams together: those that ended in the window.")
    fps_each: list[float] = Field(description="Frames per second of each stream.")
    latency: Summary = Field(description="End-to-end times of the frames of all streams.")
    resident_mb: float | None = Field(description="Resident memory of the process at the end of the window.")


@dataclass
class _Stream:
    """Results of one thread."""

    ends: list[float] = field(default_factory=list)
    """perf_counter at the end of each frame."""
    times: list[float] = field(default_factory=list)
    """End-to-end milliseconds of each frame that began in the window."""
    error: Exception | None = None


def run_streams(
    count: int,
    source: str,
    open_session: Callable[[], Session],
    seconds: float,
    deadline_ms: float,
    stop: threading.Event,
) -> Streams | None:
    """Run concurrent sessions back to back, each with its own reader of the source.

    Args:
        count: number of streams.
        source: what each stream reads, looped.
        open_session: called in each thread, since a session on a GPU belongs to the thread that opened it.
        seconds: common window, which begins when all streams have warmed up.
        deadline_ms: time that a frame may take.
        stop: ends the measurement early when set; the result is None then.

    Raises:
        StmError: the error of the first stream that failed.
    """
    streams = [_Stream() for _ in range(count)]
    marks: list[tuple[float, float]] = []  # time and memory at the common start and at the common end
    together = threading.Barrier(count, action=lambda: marks.append((perf_counter(), resident_mb()[0])))

    def work(stream: _Stream) -> None:
        try:
            footage = Footage(source)
            try:
                with open_session() as session:
                    warm_up(session, footage, stop, frames=20)
                    together.wait()
                    _step_until(marks[0][0] + seconds, session, footage, stream, stop)
                    # A session that closes earlier would leave more of the machine to the others.
                    together.wait()
            finally:
                footage.close()
        except threading.BrokenBarrierError:
            pass  # another stream failed and has recorded its error
        except Exception as error:  # raised in the main thread
            stream.error = error
            together.abort()

    threads = [threading.Thread(target=work, args=(stream,), name=f"stream {i}") for i, stream in enumerate(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for stream in streams:
        if stream.error is not None:
            raise stream.error
    return None if stop.is_set() else _summarise(streams, marks[0][0], seconds, deadline_ms, marks[1][1])


def _step_until(end: float, session: Session, footage: Footage, stream: _Stream, stop: threading.Event) -> None:
    while perf_counter() < end and not stop.is_set():
        image, decode_ms = footage.read()
        decoded = perf_counter()
        session.step(image)
        ended = perf_counter()
        stream.ends.append(ended)
        stream.times.append(decode_ms + (ended - decoded) * 1e3)


def _summarise(streams: list[_Stream], began: float, seconds: float, deadline_ms: float, resident: float) -> Streams:
    each = [sum(end <= began + seconds for end in stream.ends) / seconds for stream in streams]
    times = [time for stream in streams for time in stream.times]
    if not times:
        raise BenchmarkError(f"{len(streams)} streams finished no frame in {seconds:g} s; raise --frames")
    return Streams(
        streams=len(streams),
        seconds=round(seconds, 3),
        fps=round(sum(each), 3),
        fps_each=[round(one, 3) for one in each],
        latency=summarise(times, deadline_ms),
        resident_mb=round(resident, 3) if np.isfinite(resident) else None,
    )
