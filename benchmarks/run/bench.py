"""``stm-skeletons bench run``: measures a bundle on a video and makes the report."""

import threading
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from benchmarks.data import check_data
from benchmarks.run.bench_report import MemorySamples, Raw, Report, Run
from benchmarks.run.by_people import by_people
from benchmarks.run.environment import machine_state
from benchmarks.run.group import Group, run_group
from benchmarks.run.latency import summarise
from benchmarks.run.measure import ALL_STAGES
from benchmarks.run.memory import summarise_memory
from benchmarks.run.notes import notes
from benchmarks.run.one_stream import Measured, Options, measure_one
from benchmarks.run.soak import judge
from benchmarks.run.streams import Streams, run_streams
from benchmarks.run.tail import MIN_FRAMES
from runtime.backends import choose_backend
from runtime.session import Session

_SHORTEST_WINDOW, _LONGEST_WINDOW = 2.0, 120.0


def bench(options: Options, stop: threading.Event, say: Callable[[str], object]) -> Report:
    """Measure one stream, then concurrent streams if asked for. benchmarks.workstation.f1 measures F1 afterwards.

    Args:
        options: what to measure and how.
        stop: ends the measurement early when set; the frames measured so far are reported.
        say: receives a line before each part. There is no progress bar, because it would disturb the timing.

    Raises:
        SourceError, BundleError, BackendError, EngineError: the source, bundle, backend or engine cannot be opened.
        BenchmarkError: the source is a camera, or a data folder for F1 does not exist.
        LibraryError: a library that F1 needs is not installed.
        KeyboardInterrupt: stopped before the first timed frame.
    """
    check_data(options.data)
    if options.backend.threads is not None:
        cv2.setNumThreads(options.backend.threads)
    measured = measure_one(options, stop, say)
    deadline = 1e3 / (options.camera_fps or measured.footage.frames_per_second)
    frames = measured.samples.frames
    ends = (frames.column("decode") + frames.column("frame")).astype(float)
    window = float(np.clip(ends.sum() / 1e3, _SHORTEST_WINDOW, _LONGEST_WINDOW))
    streams: list[Streams] = []
    groups: list[Group] = []
    for count in options.streams:
        if stop.is_set():
            break
        say(f"measuring {count} {'concurrent streams' if count > 1 else 'stream'} for {window:.0f} s")
        open_session = partial(Session.open, measured.bundle, options.backend)
        result = run_streams(count, options.source, open_session, window, deadline, stop)
        streams += [] if result is None else [result]
        if count > 1 and not stop.is_set():
            say(f"measuring {count} cameras in one group and in separate sessions for {window:.0f} s")
            group = run_group(count, options.source, measured.bundle, options.backend, window, stop)
            groups += [] if group is None else [group]
    return _report(options, measured, deadline, streams, groups, stop.is_set())


def _report(
    options: Options, measured: Measured, deadline: float, streams: list[Streams], groups: list[Group], stopped: bool
) -> Report:
    frames, stages, memory = measured.samples.frames, measured.samples.stages, measured.memory
    decode, frame = frames.column("decode").astype(float), frames.column("frame").astype(float)
    seconds, people = frames.column("seconds").astype(float), frames.column("people")
    yardstick_ms = frames.column("yardstick").astype(float)
    yardstick = yardstick_ms if np.isfinite(yardstick_ms).all() else None
    ends = decode + frame
    run = _run(options, measured, deadline, stopped)
    # A long enough run gets a verdict even without --minutes.
    is_soak = options.length.seconds is not None or frames.count >= MIN_FRAMES
    resident = memory[:, 1].astype(float)
    soak = judge(seconds, ends, memory[:, 0].astype(float), resident, yardstick) if is_soak else None
    recorded = {name: stages.column(name).astype(float) for name in ALL_STAGES}
    return Report(
        environment=measured.environment,
        after=machine_state(),
        run=run,
        start=measured.start,
        fps=round(1e3 / float(ends.mean()), 3),
        end_to_end=summarise(ends, deadline),
        frame=summarise(frame),
        decode=summarise(decode),
        stages={name: summarise(times) for name, times in recorded.items() if len(times)},
        people=by_people(people, frame),
        streams=streams,
        groups=groups,
        memory=summarise_memory(memory, *measured.before_mb),
        soak=soak,
        accuracy=[],
        notes=notes(run, measured.environment, bool(stages.count)),
        raw=Raw(
            warm_up=_rounded(measured.warm_ms),
            seconds=_rounded(seconds),
            decode=_rounded(decode),
            frame=_rounded(frame),
            people=people.astype(int).tolist(),
            yardstick=[] if yardstick is None else _rounded(yardstick),
            stages={name: _rounded(times) for name, times in recorded.items()},
            memory=MemorySamples(
                seconds=_rounded(memory[:, 0]), resident_mb=_known(memory[:, 1]), device_mb=_known(memory[:, 3])
            ),
        ),
    )


def _run(options: Options, measured: Measured, deadline: float, stopped: bool) -> Run:
    info, footage, how = measured.bundle.info, measured.footage, choose_backend(options.backend, measured.bundle)
    used = measured.samples.frames.count + measured.samples.stages.count
    return Run(
        network=info.variant,
        size=info.size,
        precision=info.precision,
        slots=info.slots,
        backend=how.backend,
        provider=how.provider,
        cuda_graphs=how.replays,
        frame_size=footage.size,
        source_fps=round(footage.frames_per_second, 3),
        camera_fps=round(1e3 / deadline, 3),
        frames=options.length.frames,
        minutes=None if options.length.seconds is None else options.length.seconds / 60,
        passes=footage.passes,
        seconds=round(measured.seconds, 3),
        frames_left_out=footage.frames_read - len(measured.warm_ms) - used,
        stopped_early=stopped,
    )


def _rounded(values: np.ndarray | list[float]) -> list[float]:
    return np.round(np.asarray(values, float), 3).tolist()


def _known(values: np.ndarray) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in _rounded(values)]
