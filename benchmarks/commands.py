"""The commands ``stm-skeletons bench`` and ``stm-skeletons schema``. They also run on boards."""

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
    """Reads ``bench VIDEO`` as ``bench run VIDEO``. A video whose name is a command needs a path, such as './run'."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:  # the context's class moves between Typer's versions
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer()
_bench = typer.Typer(
    cls=_SourceFirst,
    name="bench",
    no_args_is_help=True,
    help="Measure speed on real frames. 'bench VIDEO' is short for 'bench run VIDEO'; see 'bench run --help'.",
)


app.add_typer(_bench, rich_help_panel=BOARD)
_bench.command()(predict)


class Output(str, Enum):
    """Outputs that have a JSON schema."""

    parts = "parts"
    bench = "bench"
    compare = "compare"


@app.command(rich_help_panel=BOARD)
def schema(
    output: Annotated[
        Output,
        typer.Argument(
            help="parts: a line of run's output; bench: report.json of bench; compare: compare.json of bench compare."
        ),
    ],
) -> None:
    """Print the JSON schema of an output format."""
    from benchmarks.compare.comparison import Comparison
    from benchmarks.run.bench_report import Report
    from stm_skeletons.parts import PartsLine

    models = {Output.parts: PartsLine, Output.bench: Report, Output.compare: Comparison}
    print(json.dumps(models[output].model_json_schema(), indent=2))


@_bench.callback()
def _group() -> None:
    """An empty callback: Typer then keeps 'run' as a named command."""


@_bench.command()
def run(
    source: Annotated[str, typer.Argument(help="Video file or folder of images. Looped if it is too short.")],
    model: Annotated[str, typer.Option(help="Shipped model or folder of a bundle.")] = "edge",
    frames: Annotated[
        int | None,
        typer.Option(min=11, help=f"Timed frames; p99 needs at least 662. Default: {_FRAMES}."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.05, max=7 * 24 * 60, help="Soak-test for this many minutes instead of --frames."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.1, max=10_000, help="Camera's frame rate, which sets the deadline. Default: the source's."),
    ] = None,
    streams: Annotated[
        str, typer.Option(help="Also measure this many concurrent streams, in threads and as a group; e.g. 1,2,4.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to write report.json, report.md and plots to.")] = None,
    data: F1Data = None,
    threads: Threads = None,
    backend: Backend = "auto",
    provider: Provider = "cpu",
    engines: Engines = None,
    cuda_graphs: CudaGraphs = True,
) -> None:
    """Measure latency, time by stage, throughput and memory on real frames. Ctrl-C stops early and still reports."""
    from benchmarks.run.bench import bench
    from benchmarks.run.bench_files import check_folder, write_report
    from benchmarks.run.bench_tables import tables
    from benchmarks.run.measure import Length
    from benchmarks.run.one_stream import Options
    from stm_skeletons.table import show

    how = backend_options(backend, provider, threads, engines, cuda_graphs)
    if frames is not None and minutes is not None:
        raise BenchmarkError("--frames and --minutes exclude each other; use one of them")
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
        say(f"stopped after {report.end_to_end.count} timed frames; the report is complete up to there")
    elif options.data:
        report = _with_f1(report, options, out)
    if out is not None:
        _plot(report, out)
        print(f"wrote {out}")


@_bench.command()
def compare(
    source: Annotated[str, typer.Argument(help="Video file or folder of images. Looped if it is too short.")],
    variants: Annotated[
        list[str],
        typer.Argument(
            help="Two or more to compare; ratios are to the first. A shipped model or bundle, with options as in "
            "'edge,threads=1' (backend, provider, threads, engines, cuda_graphs=no); movenet:FILE.onnx; or PyTorch "
            "weights as eager:FILE, compiled:FILE (torch.compile) or growing:FILE (STM's growing memory)."
        ),
    ],
    frames: Annotated[int, typer.Option(min=1, help="Timed frames; p99 needs at least 662.")] = 200,
    threads: Threads = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write compare.json, compare.md and plots to.")] = None,
    data: F1Data = None,
) -> None:
    """Compare the speed of bundles, networks or settings. They are timed interleaved, frame by frame."""
    from benchmarks.compare.compare import Options
    from benchmarks.compare.compare import compare as measure
    from benchmarks.compare.comparison import notes, tables, write_comparison
    from benchmarks.run.bench_files import NO_PLOTS, can_plot, check_folder
    from stm_skeletons.table import show

    options = Options(source, tuple(variants), frames, threads, data_folders(data or []))
    if out is not None:
        check_folder(out)
    with stop_signals() as stop:
        found = measure(options, stop, say)
        show(tables(found), notes=notes(found))
        if found.stopped_early:
            say(f"stopped after {found.frames} timed frames; the report is complete up to there")
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
    report: Annotated[Path, typer.Argument(help="report.json of 'bench run', or its folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write the plots to.")],
) -> None:
    """Draw the plots of a report, for example one from a board that has no matplotlib."""
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
    """The report with F1, also printed and written.

    Runs last: the speed is already printed and written should this fail, and torch's memory is not measured.
    """
    from benchmarks.run.bench_files import write_report
    from benchmarks.run.bench_tables import accuracy_table
    from benchmarks.workstation.f1 import add_f1
    from stm_skeletons.table import print_table

    try:
        report_with_f1 = add_f1(report, options, say)
    except KeyboardInterrupt:
        say("interrupted; the report is complete but for F1")
        return report
    print_table(accuracy_table(report_with_f1))
    if out is not None:
        write_report(report_with_f1, out)
    return report_with_f1


def _plot(report: "Report", out: Path) -> None:
    from benchmarks.run.bench_files import NO_PLOTS, can_plot

    if not can_plot():
        say(NO_PLOTS)
        return
    from benchmarks.workstation.bench_plots import write_plots

    write_plots(report, out)


def _streams(text: str) -> tuple[int, ...]:
    """Numbers of streams from text such as "1,2,4"."""
    from runtime.session_group import MOST_CAMERAS

    words = re.split(r"[,\s]+", text.strip()) if text.strip() else []
    if not all(word.isdecimal() and 1 <= int(word) <= MOST_CAMERAS for word in words):
        raise typer.BadParameter(
            f"'{text}' is not a list of numbers from 1 to {MOST_CAMERAS}, such as 1,2,4", param_hint="--streams"
        )
    return tuple(map(int, words))
