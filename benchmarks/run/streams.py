"""Throughput of several cameras on one machine: a session each, in threads of one process, all at the same time."""

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
    """What so many streams at once came to."""

    streams: int = Field(ge=1)
    seconds: float = Field(description="Wall-clock window that all of them share.")
    fps: float = Field(description="Frames of all streams that ended in the window, a second.")
    fps_each: list[float] = Field(description="Of each stream.")
    latency: Summary = Field(description="End to end, frames of all streams.")
    resident_mb: float | None = Field(description="Memory of the process when the window ended.")


@dataclass
class _Stream:
    """One thread's share."""

    ends: list[float] = field(default_factory=list)
    """perf_counter at the end of each frame."""
    times: list[float] = field(default_factory=list)
    """Milliseconds end to end, of each frame that began in the window."""
    error: Exception | None = None


def run_streams(
    count: int,
    source: str,
    open_session: Callable[[], Session],
    seconds: float,
    deadline_ms: float,
    stop: threading.Event,
) -> Streams | None:
    """Run so many sessions at once, each on the source opened anew, as fast as they can.

    Args:
        count: streams.
        source: what each reads, again from its start when it ends.
        open_session: called in each thread, since a session on a GPU belongs to the thread that opened it.
        seconds: of the common window, which begins when all are warm.
        deadline_ms: what a frame may take.
        stop: ends it early; None is returned then.

    Raises:
        StmError: what the first stream that failed raised.
    """
    streams = [_Stream() for _ in range(count)]
    marks: list[tuple[float, float]] = []  # time and memory, when all begin and when all have ended
    together = threading.Barrier(count, action=lambda: marks.append((perf_counter(), resident_mb()[0])))

    def work(stream: _Stream) -> None:
        try:
            footage = Footage(source)
            try:
                with open_session() as session:
                    warm_up(session, footage, stop, frames=20)
                    together.wait()
                    _step_until(marks[0][0] + seconds, session, footage, stream, stop)
                    # A stream that has closed would leave the others more of the machine.
                    together.wait()
            finally:
                footage.close()
        except threading.BrokenBarrierError:
            pass  # another stream failed, and says why
        except Exception as error:  # raised again in the main thread
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
        raise BenchmarkError(f"{len(streams)} streams finished no frame in {seconds:g} s; give more --frames")
    return Streams(
        streams=len(streams),
        seconds=round(seconds, 3),
        fps=round(sum(each), 3),
        fps_each=[round(one, 3) for one in each],
        latency=summarise(times, deadline_ms),
        resident_mb=round(resident, 3) if np.isfinite(resident) else None,
    )
