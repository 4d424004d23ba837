"""``stm-skeletons bench``: honest speed, on boards too."""

import json
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from benchmarks.predict.command import predict
from runtime.commands import backend_options
from stm_skeletons.cli.options import Backend, CudaGraphs, Engines, F1Data, Provider, Threads, data_folders
from stm_skeletons.cli.say import say
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.libraries import BOARD
from stm_skeletons.signals import stop_signals

if TYPE_CHECKING:
    from benchmarks.run.bench_report import Report
    from benchmarks.run.one_stream import Options

_FRAMES = 1000


class _SourceFirst(TyperGroup):
    """``bench VIDEO`` is ``bench run VIDEO``; a video that is named like a command is './run'."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:  # the context's class moves between Typer's versions
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer()
_bench = typer.Typer(
    cls=_SourceFirst,
    name="bench",
    no_args_is_help=True,
    help="Measure speed on real frames. 'bench VIDEO' is 'bench run VIDEO', whose options 'bench run --help' lists.",
)


app.add_typer(_bench, rich_help_panel=BOARD)
_bench.command()(predict)


class What(str, Enum):
    """What there is a schema of."""

    parts = "parts"
    bench = "bench"
    compare = "compare"


@app.command(rich_help_panel=BOARD)
def schema(
    what: Annotated[What, typer.Argument(help="Lines of run, report.json of bench or compare.json of bench compare.")],
) -> None:
    """Print the JSON schema of an output."""
    from benchmarks.compare.comparison import Comparison
    from benchmarks.run.bench_report import Report
    from stm_skeletons.parts import PartsLine

    of = {What.parts: PartsLine, What.bench: Report, What.compare: Comparison}
    print(json.dumps(of[what].model_json_schema(), indent=2))


@_bench.callback()
def _group() -> None:
    """There is more than one command, so that 'run' keeps its name."""


@_bench.command()
def run(
    source: Annotated[str, typer.Argument(help="Video file or folder of images; read again when it ends.")],
    model: Annotated[str, typer.Option(help="A shipped model's name, or a bundle's folder.")] = "edge",
    frames: Annotated[
        int | None, typer.Option(min=11, help="Undisturbed frames; 1000 unless given. p99 needs 662.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, max=7 * 24 * 60, help="Instead: a soak test, so long, with a verdict.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, max=10_000, help="Frame rate of the camera; the source's own unless given.")
    ] = None,
    streams: Annotated[
        str, typer.Option(help="Also so many cameras at once, in threads and in one group, for instance 1,2,4.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for report.json, report.md and plots.")] = None,
    data: F1Data = None,
    threads: Threads = None,
    backend: Backend = "auto",
    provider: Provider = "cpu",
    engines: Engines = None,
    cuda_graphs: CudaGraphs = True,
) -> None:
    """Measure latency end to end and by stage, throughput and memory, on real frames. Ctrl-C ends it with a report."""
    from benchmarks.run.bench import bench
    from benchmarks.run.bench_files import check_folder, write_report
    from benchmarks.run.bench_tables import tables
    from benchmarks.run.measure import Length
    from benchmarks.run.one_stream import Options
    from stm_skeletons.table import show

    how = backend_options(backend, provider, threads, engines, cuda_graphs)
    if frames is not None and minutes is not None:
        raise BenchmarkError("--frames and --minutes exclude each other; give one of them")
    length = Length(frames or _FRAMES) if minutes is None else Length(seconds=minutes * 60)
    options = Options(source, model, how, length, fps, _streams(streams), data_folders(data or []))
    if out is not None:
        check_folder(out)
    with stop_signals() as stop:
        report = bench(options, stop, say)
        if out is not None:
            write_report(report, out)
    show(tables(report), notes=report.notes)
    if report.run.stopped_early:
        say(f"stopped after {report.end_to_end.count} frames; the report is finished")
    elif options.data:
        report = _with_f1(report, options, out)
    if out is not None:
        _plot(report, out)
        print(f"wrote {out}")


@_bench.command()
def compare(
    source: Annotated[str, typer.Argument(help="Video file or folder of images; read again when it ends.")],
    what: Annotated[
        list[str],
        typer.Argument(
            help="Bundles or shipped models, as 'edge' or 'edge,threads=1' (also backend, provider, engines, "
            "cuda_graphs=no); movenet:FILE.onnx; eager:WEIGHTS, growing:WEIGHTS (STM's memory), compiled:WEIGHTS "
            "(torch.compile). Ratios are to the first."
        ),
    ],
    frames: Annotated[int, typer.Option(min=1, help="That count; p99 needs 662.")] = 200,
    threads: Threads = None,
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json, compare.md and plots.")] = None,
    data: F1Data = None,
) -> None:
    """Time several bundles, networks or settings in turn, frame by frame, and give ratios."""
    from benchmarks.compare.compare import Options
    from benchmarks.compare.compare import compare as measure
    from benchmarks.compare.comparison import tables, write_comparison
    from benchmarks.run.bench_files import NO_PLOTS, can_plot, check_folder
    from stm_skeletons.table import show

    options = Options(source, tuple(what), frames, threads, data_folders(data or []))
    if out is not None:
        check_folder(out)
    with stop_signals() as stop:
        found = measure(options, stop, say)
        show(tables(found))
        if found.stopped_early:
            say(f"stopped after {found.frames} frames; the report is finished")
        if out is None:
            return
        write_comparison(found, out)
        if can_plot():
            from benchmarks.compare.ratio_plots import write_plots

            write_plots(found, out)
        else:
            say(NO_PLOTS)
    print(f"wrote {out}")


@_bench.command()
def plots(
    report: Annotated[Path, typer.Argument(help="report.json of a benchmark, or its folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
) -> None:
    """Draw the plots of a report, for instance of one that a board wrote."""
    from benchmarks.run.bench_files import NO_PLOTS, can_plot, check_folder
    from benchmarks.run.bench_report import load_report

    loaded = load_report(report)
    check_folder(out)
    if not can_plot():
        raise BenchmarkError(NO_PLOTS)
    from benchmarks.workstation.bench_plots import write_plots

    for file in write_plots(loaded, out):
        print(f"wrote {file}")


def _with_f1(report: "Report", options: "Options", out: Path | None) -> "Report":
    """Last: the measured speed has been written and printed, whatever fails here, and torch takes memory."""
    from benchmarks.run.bench_files import write_report
    from benchmarks.run.bench_tables import accuracy_table
    from benchmarks.workstation.f1 import add_f1
    from stm_skeletons.table import print_table

    try:
        whole = add_f1(report, options, say)
    except KeyboardInterrupt:
        say("interrupted; the report is finished, without F1")
        return report
    print_table(accuracy_table(whole))
    if out is not None:
        write_report(whole, out)
    return whole


def _plot(report: "Report", out: Path) -> None:
    from benchmarks.run.bench_files import NO_PLOTS, can_plot

    if not can_plot():
        say(NO_PLOTS)
        return
    from benchmarks.workstation.bench_plots import write_plots

    write_plots(report, out)


def _streams(text: str) -> tuple[int, ...]:
    """1,2,4"""
    from runtime.session_group import MOST_CAMERAS

    words = re.split(r"[,\s]+", text.strip()) if text.strip() else []
    if not all(word.isdecimal() and 1 <= int(word) <= MOST_CAMERAS for word in words):
        raise typer.BadParameter(
            f"'{text}' is no list of numbers from 1 to {MOST_CAMERAS}, for instance 1,2,4", param_hint="--streams"
        )
    return tuple(map(int, words))
