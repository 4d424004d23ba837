"""One session on one video: load time, warm-up, latencies, memory."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.run.bench_report import Start
from benchmarks.run.environment import Environment, stamp
from benchmarks.run.footage import Footage
from benchmarks.run.latency import summarise
from benchmarks.run.measure import Length, Samples, measure, room_for, warm_up
from benchmarks.run.memory import DAY, MemorySampler, device_before_mb, resident_mb
from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.bundle import Bundle


@dataclass(frozen=True)
class Options:
    """What is to be measured."""

    source: str
    model: str = "edge"
    backend: BackendOptions = field(default_factory=BackendOptions)
    length: Length = field(default_factory=Length)
    camera_fps: float | None = None
    """Rate whose deadline counts; the source's own without."""
    streams: tuple[int, ...] = ()
    """How many at once; each is measured after the other."""
    data: dict[str, Path] = field(default_factory=dict)
    """Folders by kind of data to measure F1 on."""


@dataclass(frozen=True)
class Measured:
    """What the run of one stream gave."""

    bundle: Bundle
    environment: Environment
    start: Start
    samples: Samples
    memory: np.ndarray
    before_mb: tuple[float, float | None]
    """Resident, and on the GPU."""
    warm_ms: list[float]
    seconds: float
    footage: Footage


def measure_one(options: Options, stop: threading.Event, say: Callable[[str], object]) -> Measured:
    """Open the bundle, warm up, measure.

    Raises:
        SourceError, BundleError, BackendError, EngineError: what is to be measured cannot be opened.
        BenchmarkError: a camera as source.
        KeyboardInterrupt: stopped before the first frame that counts.
    """
    on_gpu = options.backend.backend == "tensorrt" or options.backend.provider != "cpu"
    before = resident_mb()[0], device_before_mb() if on_gpu else None
    footage = Footage(options.source)
    try:
        started = perf_counter()
        bundle = Bundle.open(options.model)
        with Session.open(bundle, options.backend) as session:
            load_ms = (perf_counter() - started) * 1e3
            environment = stamp(bundle, options.backend.threads, options.source)
            warm_ms = warm_up(session, footage, stop)
            if stop.is_set():
                raise KeyboardInterrupt
            length = options.length
            say(f"measuring {_describe(length, warm_ms)}")
            samples = room_for(length, warm_ms)
            capacity = DAY if length.seconds is None else int(length.seconds) + 60
            origin = perf_counter()
            with MemorySampler(origin, on_gpu, capacity) as sampler:
                measure(session, footage, length, samples, origin, stop)
            seconds = perf_counter() - origin
    finally:
        footage.close()
    if not samples.frames.count:
        raise KeyboardInterrupt
    start = Start(load=round(load_ms, 3), first_frame=round(warm_ms[0], 3), warm_up=summarise(warm_ms))
    return Measured(bundle, environment, start, samples, sampler.samples, before, warm_ms, seconds, footage)


def _describe(length: Length, warm_ms: list[float]) -> str:
    if length.seconds is not None:
        return f"for {length.seconds / 60:g} minutes"
    frames = length.frames or 0
    times = 10 / 9 if length.is_long else 2
    return f"{frames} frames and the stages of others, about {frames * times * float(np.median(warm_ms)) / 1e3:.0f} s"
