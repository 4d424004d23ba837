"""What ``stm-skeletons bench`` does: one bundle on one video, from the load time to the report."""

import threading
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from benchmarks.data import check_data
from benchmarks.run.bench_report import MemorySamples, Raw, Report, Run
from benchmarks.run.by_people import by_people
from benchmarks.run.environment import look_around
from benchmarks.run.group import Group, run_group
from benchmarks.run.latency import summarise
from benchmarks.run.measure import ALL_STAGES
from benchmarks.run.memory import summarise_memory
from benchmarks.run.notes import notes
from benchmarks.run.one_stream import Measured, Options, measure_one
from benchmarks.run.soak import judge
from benchmarks.run.streams import Streams, run_streams
from benchmarks.run.tail import ENOUGH_FRAMES
from runtime.backends import choose_backend
from runtime.session import Session

_SHORTEST_WINDOW, _LONGEST_WINDOW = 2.0, 120.0


def bench(options: Options, stop: threading.Event, say: Callable[[str], object]) -> Report:
    """Measure one stream, then several as far as they are asked for. F1 comes afterwards, by benchmarks.workstation.f1.

    Args:
        options: what.
        stop: ends the measuring; what was measured until then is reported.
        say: is given a line before each part. There is no live progress, which would take time from what is measured.

    Raises:
        SourceError, BundleError, BackendError, EngineError: what is to be measured cannot be opened.
        BenchmarkError: a camera as source, or no library for F1.
        KeyboardInterrupt: stopped before there was anything to report.
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
        say(f"{count} stream{'s' * (count > 1)} at once, {window:.0f} s")
        opens = partial(Session.open, measured.bundle, options.backend)
        found = run_streams(count, options.source, opens, window, deadline, stop)
        streams += [] if found is None else [found]
        if count > 1 and not stop.is_set():
            say(f"{count} cameras in one group and in turn, {window:.0f} s")
            together = run_group(count, options.source, measured.bundle, options.backend, window, stop)
            groups += [] if together is None else [together]
    return _report(options, measured, deadline, streams, groups, stop.is_set())


def _report(
    options: Options, measured: Measured, deadline: float, streams: list[Streams], groups: list[Group], stopped: bool
) -> Report:
    frames, stages, memory = measured.samples.frames, measured.samples.stages, measured.memory
    decode, frame = frames.column("decode").astype(float), frames.column("frame").astype(float)
    seconds, people = frames.column("seconds").astype(float), frames.column("people")
    fixed = frames.column("yardstick").astype(float)
    yardstick = fixed if np.isfinite(fixed).all() else None
    ends = decode + frame
    run = _run(options, measured, deadline, stopped)
    # A long run is judged unasked.
    is_soak = options.length.seconds is not None or frames.count >= ENOUGH_FRAMES
    resident = memory[:, 1].astype(float)
    soak = judge(seconds, ends, memory[:, 0].astype(float), resident, yardstick) if is_soak else None
    recorded = {name: stages.column(name).astype(float) for name in ALL_STAGES}
    return Report(
        environment=measured.environment,
        after=look_around(),
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
    counted = measured.samples.frames.count + measured.samples.stages.count
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
        frames_left_out=footage.frames_read - len(measured.warm_ms) - counted,
        stopped_early=stopped,
    )


def _rounded(values: np.ndarray | list[float]) -> list[float]:
    return np.round(np.asarray(values, float), 3).tolist()


def _known(values: np.ndarray) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in _rounded(values)]
