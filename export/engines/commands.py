"""The command ``build``: TensorRT engines, on a board or ahead of time, without torch or onnx."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_skeletons.cli.progress import show_progress
from stm_skeletons.libraries import BOARD

if TYPE_CHECKING:
    from export.engines.build import Report

app = typer.Typer()


@app.command(rich_help_panel=BOARD)
def build(
    bundle: Annotated[str, typer.Argument(help="Bundle folder or shipped model.")],
    target: Annotated[
        str | None,
        typer.Option(
            help="Target: jetson or native for this machine's GPU (TensorRT); sm75, sm86, sm89, sm120 or sm121 to "
            "build ahead of time on any machine (TensorRT-RTX)."
        ),
    ] = None,
    workspace_mb: Annotated[
        int | None,
        typer.Option(
            help="Limit for a layer's scratch memory in MB. Default: 512 on a Jetson, else TensorRT's own limit."
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of measured kernel times, read if it exists and written afterwards.")
    ] = None,
    engines: Annotated[Path | None, typer.Option(help="Folder for the engines. Default: inside the bundle.")] = None,
    unless_fitting: Annotated[
        bool,
        typer.Option("--unless-fitting", help="Do nothing if valid engines for this machine's GPU exist."),
    ] = False,
) -> None:
    """Build a bundle's TensorRT engines."""
    from export.engines.build import build_engines
    from runtime.backends.fitting_engines import unfit_engines
    from stm_skeletons.bundle import Bundle
    from stm_skeletons.signals import stop_signals

    opened = Bundle.open(bundle)
    if unless_fitting:
        unfit = unfit_engines(opened, engines)
        if unfit is None:
            return
        error, fitting = unfit
        _warn(f"{error} (building now)")
        target = target or fitting
    if target is None:
        raise typer.BadParameter("give a target, or --unless-fitting", param_hint="--target")
    with stop_signals() as stop, _phases() as step:
        _report(build_engines(opened, target, engines, workspace_mb, timing_cache, step, _warn, stop))


def _report(report: "Report") -> None:
    """Print to standard error, because ``run --rebuild`` may write parts to standard output."""
    for name, spec in report.engines.info.engines.items():
        after = "" if spec.layers_after is None else f" -> {spec.layers_after}"
        memory = "" if spec.activation_bytes is None else f", {spec.activation_bytes / 1e6:.1f} MB of activations"
        _warn(f"{name}: layers {spec.layers_before}{after}{memory}, {spec.bytes / 1e6:.1f} MB, {spec.seconds:.1f} s")
    _warn(f"wrote {report.engines.folder} (engines built but not run)")


def _warn(text: str) -> None:
    print(f"stm-skeletons: {text}", file=sys.stderr)


@contextmanager
def _phases() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback that shows TensorRT's progress: of nested phases the outermost."""
    with show_progress() as progress:
        active: list[str] = []

        def step(phase: str, done: int, total: int) -> None:
            if phase not in active:
                active.append(phase)
            if phase == active[0]:
                progress(phase, done, total)
            if done >= total:
                active.remove(phase)

        yield step
