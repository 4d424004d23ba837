"""``stm-skeletons bench compare``: times the arms interleaved on the frames of a video, then measures their F1."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.compare.arms import Arm, open_arm, parse_arm
from benchmarks.compare.comparison import ArmResult, Comparison
from benchmarks.compare.interleave import WARM_UP, time_interleaved
from benchmarks.compare.ratios import ratio
from benchmarks.data import check_data
from benchmarks.run.bench_report import F1
from benchmarks.run.environment import describe_environment, machine_state
from benchmarks.run.footage import Footage
from benchmarks.run.latency import summarise
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BenchmarkError


@dataclass(frozen=True)
class Options:
    """Options of a comparison."""

    source: str
    arms: tuple[str, ...]
    frames: int = 200
    threads: int | None = None
    """CPU threads of arms that do not set their own; None for all cores."""
    data: dict[str, Path] = field(default_factory=dict)
    """Folder of each kind of data to measure F1 on."""


def compare(options: Options, stop: threading.Event, say: Callable[[str], object]) -> Comparison:
    """Time the arms and measure their F1. Ctrl-C ends the timing; the frames timed so far are reported.

    Raises:
        BenchmarkError: an arm is invalid or listed twice, no arm is a bundle, or a data folder does not exist.
        StmError: a model or file cannot be opened.
        KeyboardInterrupt: stopped before the first timed frame.
    """
    names = [parse_arm(text) for text in options.arms]
    if len({name.text for name in names}) < len(names):
        raise BenchmarkError("a variant is listed twice; variants must differ in at least one option")
    bundles = [name for name in names if name.kind == "bundle"]
    if not bundles or len(names) < 2:
        raise BenchmarkError("name at least two variants, one of them a bundle; for example: edge movenet:FILE.onnx")
    check_data(options.data)
    footage = Footage(options.source)
    with ExitStack() as stack:
        stack.callback(footage.close)
        environment = describe_environment(Bundle.open(bundles[0].path), options.threads, options.source)
        arms = [open_arm(name, environment.threads, stack) for name in names]
        say(f"{len(arms)} variants interleaved over {options.frames} frames after {WARM_UP} warm-up frames")
        warm, times = time_interleaved(arms, footage, options.frames, stop)
        if not len(times):
            raise KeyboardInterrupt
        after, stopped = machine_state(), stop.is_set()
        f1: dict[str, list[F1]] = {}
        if options.data and not stopped:
            from benchmarks.compare.f1 import measure_f1

            say("measuring F1 of each variant")
            f1 = measure_f1(arms, options.data)
    results = [
        _result(label, warm[:, place], times[:, place], times[:, 0], f1.get(arm.name.text, []), arm)
        for place, (label, arm) in enumerate(zip(_labels(arms), arms, strict=True))
    ]
    return Comparison(environment=environment, after=after, frames=len(times), stopped_early=stopped, arms=results)


def _labels(arms: list[Arm]) -> list[str]:
    """The arms' texts without folders; with folders if two texts would be the same."""
    short = [arm.name.text.replace(arm.name.path, Path(arm.name.path).name) for arm in arms]
    return short if len(set(short)) == len(short) else [arm.name.text for arm in arms]


def _result(label: str, warm, times, reference, f1: list[F1], arm: Arm) -> ArmResult:
    return ArmResult(
        name=label,
        what=arm.what,
        threads=arm.threads,
        sha256=arm.sha256,
        latency=summarise(times),
        ratio=ratio(times, reference),
        f1=f1,
        warm_up=warm.round(3).tolist(),
        times=times.round(3).tolist(),
    )
