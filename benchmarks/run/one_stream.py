"""Measures one session on one video: load time, warm-up, latencies and memory."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.run.bench_report import Start
from benchmarks.run.environment import Environment, describe_environment
from benchmarks.run.footage import Footage
from benchmarks.run.latency import summarise
from benchmarks.run.measure import Length, Samples, measure, room_for, warm_up
from benchmarks.run.memory import DAY, MemorySampler, device_before_mb, resident_mb
from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.bundle import Bundle


@dataclass(frozen=True)
class Options:
    """Options of ``bench run``."""

    source: str
    model: str = "edge"
    backend: BackendOptions = field(default_factory=BackendOptions)
    length: Length = field(default_factory=Length)
    camera_fps: float | None = None
    """Frame rate that sets the deadline; None for the source's."""
    streams: tuple[int, ...] = ()
    """Numbers of concurrent streams to measure, one number after the other."""
    data: dict[str, Path] = field(default_factory=dict)
    """Folder of each kind of data to measure F1 on."""


@dataclass(frozen=True)
class Measured:
    """Raw results of one stream."""

    bundle: Bundle
    environment: Environment
    start: Start
    samples: Samples
    memory: np.ndarray
    before_mb: tuple[float, float | None]
    """MB before the bundle was opened: resident, and on the GPU."""
    warm_ms: list[float]
    seconds: float
    footage: Footage


def measure_one(options: Options, stop: threading.Event, say: Callable[[str], object]) -> Measured:
    """Open the bundle, warm up, measure.

    Raises:
        SourceError, BundleError, BackendError, EngineError: the source, bundle, backend or engine cannot be opened.
        BenchmarkError: the source is a camera.
        KeyboardInterrupt: stopped before the first timed frame.
    """
    on_gpu = options.backend.backend == "tensorrt" or options.backend.provider != "cpu"
    before = resident_mb()[0], device_before_mb() if on_gpu else None
    footage = Footage(options.source)
    try:
        started = perf_counter()
        bundle = Bundle.open(options.model)
        with Session.open(bundle, options.backend) as session:
            load_ms = (perf_counter() - started) * 1e3
            environment = describe_environment(bundle, options.backend.threads, options.source)
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
    factor = 10 / 9 if length.is_long else 2
    seconds = frames * factor * float(np.median(warm_ms)) / 1e3
    return f"{frames} timed frames and the stages of others, about {seconds:.0f} s"
