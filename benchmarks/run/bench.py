"""What ``stm-skeletons bench`` does: one bundle on one video, from the load time to the report."""

import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from benchmarks.environment import look_around
from benchmarks.latency import summarise
from benchmarks.run.measure import ALL_STAGES
from benchmarks.run.memory import summarise_memory
from benchmarks.run.notes import notes
from benchmarks.run.one_stream import Measured, Options, measure_one, open_session
from benchmarks.run.people import by_people
from benchmarks.run.report import MemorySamples, Raw, Report, Run
from benchmarks.run.soak import ENOUGH_FRAMES, judge
from benchmarks.run.streams import Streams, run_streams
from stm_skeletons.errors import BenchmarkError

_SHORTEST_WINDOW, _LONGEST_WINDOW = 2.0, 120.0
_NEEDED_FOR_F1 = ("torch", "safetensors", "pycocotools", "matplotlib")


def bench(options: Options, stop: threading.Event, say: Callable[[str], object]) -> Report:
    """Measure one stream, then several as far as they are asked for. F1 comes afterwards, by benchmarks.run.f1.

    Args:
        options: what.
        stop: ends the measuring; what was measured until then is reported.
        say: is given a line before each part. There is no live progress, which would take time from what is measured.

    Raises:
        SourceError, BundleError, BackendError, EngineError: what is to be measured cannot be opened.
        BenchmarkError: a camera as source, or no library for F1.
        KeyboardInterrupt: stopped before there was anything to report.
    """
    _check_data(options.data)
    if options.backend.threads is not None:
        cv2.setNumThreads(options.backend.threads)
    measured = measure_one(options, stop, say)
    deadline = 1e3 / (options.camera_fps or measured.footage.frames_per_second)
    frames = measured.samples.frames
    ends = (frames.column("decode") + frames.column("frame")).astype(float)
    window = float(np.clip(ends.sum() / 1e3, _SHORTEST_WINDOW, _LONGEST_WINDOW))
    streams: list[Streams] = []
    for count in options.streams:
        if stop.is_set():
            break
        say(f"{count} stream{'s' * (count > 1)} at once, {window:.0f} s")
        opens = partial(open_session, measured.bundle, options)
        found = run_streams(count, options.source, opens, window, deadline, stop)
        streams += [] if found is None else [found]
    return _report(options, measured, deadline, streams, stop.is_set())


def _report(options: Options, measured: Measured, deadline: float, streams: list[Streams], stopped: bool) -> Report:
    frames, stages, memory = measured.samples.frames, measured.samples.stages, measured.memory
    decode, frame = frames.column("decode").astype(float), frames.column("frame").astype(float)
    seconds, people = frames.column("seconds").astype(float), frames.column("people")
    ends = decode + frame
    run = _run(options, measured, deadline, stopped)
    is_soak = options.length.seconds is not None or frames.count >= ENOUGH_FRAMES
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
        memory=summarise_memory(memory, *measured.before_mb),
        soak=judge(seconds, ends, memory[:, 0].astype(float), memory[:, 1].astype(float)) if is_soak else None,
        accuracy=[],
        notes=notes(run, measured.environment, bool(stages.count)),
        raw=Raw(
            warm_up=_rounded(measured.warm_ms),
            seconds=_rounded(seconds),
            decode=_rounded(decode),
            frame=_rounded(frame),
            people=people.astype(int).tolist(),
            stages={name: _rounded(times) for name, times in recorded.items()},
            memory=MemorySamples(
                seconds=_rounded(memory[:, 0]), resident_mb=_known(memory[:, 1]), device_mb=_known(memory[:, 3])
            ),
        ),
    )


def _run(options: Options, measured: Measured, deadline: float, stopped: bool) -> Run:
    info, footage, how = measured.bundle.info, measured.footage, options.backend
    counted = measured.samples.frames.count + measured.samples.stages.count
    return Run(
        network=info.variant,
        size=info.size,
        precision=info.precision,
        slots=info.slots,
        backend=how.backend,
        provider=how.provider,
        cuda_graphs=how.cuda_graphs and how.backend == "tensorrt",
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


def _check_data(data: dict[str, Path]) -> None:
    """Before anything is measured; torch itself is loaded only afterwards, since it would take part of the memory."""
    missing = [name for name in _NEEDED_FOR_F1 if find_spec(name) is None] if data else []
    if missing:
        raise BenchmarkError(f"--data needs {', '.join(missing)}, which a board does not have: measure F1 elsewhere")
    for kind, root in data.items():
        if not root.is_dir():
            raise BenchmarkError(f"--data {kind}: there is no folder {root}; check the name")
