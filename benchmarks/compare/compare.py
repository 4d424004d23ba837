"""What ``stm-skeletons bench compare`` does: arms in turn on the frames of a video, then their accuracy."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.compare.arms import Arm, open_arm, parse_arm
from benchmarks.compare.comparison import ArmResult, Comparison
from benchmarks.compare.interleave import WARM_UP, time_in_turn
from benchmarks.compare.ratios import ratio
from benchmarks.data import check_data
from benchmarks.run.bench_report import F1
from benchmarks.run.environment import look_around, stamp
from benchmarks.run.footage import Footage
from benchmarks.run.latency import summarise
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BenchmarkError


@dataclass(frozen=True)
class Options:
    """What is to be compared."""

    source: str
    arms: tuple[str, ...]
    frames: int = 200
    threads: int | None = None
    """Of arms that name none; None for all cores."""
    data: dict[str, Path] = field(default_factory=dict)
    """Folders by kind of data to measure F1 on."""


def compare(options: Options, stop: threading.Event, say: Callable[[str], object]) -> Comparison:
    """Measure. Ctrl-C ends the timing; what was measured until then is reported.

    Raises:
        BenchmarkError: an arm that cannot be understood, two of one name, no bundle among them, or no such data.
        StmError: as what they name cannot be opened.
        KeyboardInterrupt: stopped before there was anything to report.
    """
    names = [parse_arm(text) for text in options.arms]
    if len({name.text for name in names}) < len(names):
        raise BenchmarkError("an arm is named twice; each must differ, in its options at least")
    bundles = [name for name in names if name.kind == "bundle"]
    if not bundles or len(names) < 2:
        raise BenchmarkError("name two things or more, one of them a bundle; for instance: edge movenet:FILE.onnx")
    check_data(options.data)
    footage = Footage(options.source)
    with ExitStack() as stack:
        stack.callback(footage.close)
        environment = stamp(Bundle.open(bundles[0].path), options.threads, options.source)
        arms = [open_arm(name, environment.threads, stack) for name in names]
        say(f"{len(arms)} in turn over {options.frames} frames, after {WARM_UP} that do not count")
        warm, times = time_in_turn(arms, footage, options.frames, stop)
        if not len(times):
            raise KeyboardInterrupt
        after, stopped = look_around(), stop.is_set()
        f1: dict[str, list[F1]] = {}
        if options.data and not stopped:
            from benchmarks.compare.f1 import measure_f1

            say("F1 of each")
            f1 = measure_f1(arms, options.data)
    results = [
        _result(label, warm[:, place], times[:, place], times[:, 0], f1.get(arm.name.text, []), arm)
        for place, (label, arm) in enumerate(zip(_labels(arms), arms, strict=True))
    ]
    return Comparison(environment=environment, after=after, frames=len(times), stopped_early=stopped, arms=results)


def _labels(arms: list[Arm]) -> list[str]:
    """Their texts without the folders, unless two were the same then."""
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
