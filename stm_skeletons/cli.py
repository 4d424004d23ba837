"""The command ``stm-skeletons``. Each subcommand imports its room only when it is called.

A board has neither torch nor onnx: ``run``, ``info`` and ``doctor`` must not touch ``training`` or ``export``.
"""

import os
import signal
import sys
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stm_skeletons import __version__
from stm_skeletons.errors import BackendError, SeedError, SinkError, StmError, WeightsError

if TYPE_CHECKING:
    from runtime.run import Summary
    from runtime.session import Session
    from runtime.sinks import Sink
    from runtime.sources import Source

BAD_INPUT = 2
INTERRUPTED = 130
_LIBRARIES = "on Debian and Ubuntu OpenCV needs: apt-get install libgl1 libglib2.0-0"

app = typer.Typer(
    name="stm-skeletons",
    help="Every visible body part of every person in a video, on the machine behind the camera.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Variant(str, Enum):
    """The networks there are."""

    edge = "edge"
    resnet50 = "resnet50"
    stm = "stm"


def main() -> NoReturn:
    """Entry point: errors of ours and of usage are one line and exit code 2."""
    # Video decoders print warnings of their own; what matters of them is in our one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # Typer carries its own copy of click in newer versions; this is the class of all usage errors in either.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    # A service manager's stop leaves nothing half-written either; ``run`` finishes its files instead.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except StmError as error:
        _fail(str(error), BAD_INPUT)
    except usage_error as error:
        message = getattr(error, "format_message", error.__str__)()
        _fail(f"{message} ('stm-skeletons --help' lists what there is)" if message else "", BAD_INPUT)
    except ImportError as error:
        _fail(f"a library is missing ({error}); {_LIBRARIES}", BAD_INPUT)
    except (OSError, MemoryError) as error:
        _fail(f"the system refused: {error or type(error).__name__}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was written", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(f"stm-skeletons: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def run(
    source: Annotated[
        str, typer.Argument(help="Video file, folder of images, camera number, RTSP address or GStreamer pipeline.")
    ],
    model: Annotated[str, typer.Option(help="A shipped model's name, or a bundle's folder.")] = "edge",
    parts: Annotated[str | None, typer.Option(help="Write JSON lines here, '-' for standard output.")] = None,
    overlay: Annotated[str | None, typer.Option(help="Write a video with the parts drawn here.")] = None,
    window: Annotated[bool, typer.Option("--window", help="Show the parts in a window.")] = False,
    seed: Annotated[
        Path | None, typer.Option(help="COCO or PoseTrack18 JSON: the people annotated on its first image.")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; all cores unless given.")] = None,
    backend: Annotated[str, typer.Option(help="onnxruntime")] = "onnxruntime",
    provider: Annotated[str, typer.Option(help="cpu or cuda (the latter not yet run on a GPU).")] = "cpu",
) -> None:
    """Find the body parts in a video, an image folder or a camera."""
    import cv2

    from runtime.run import run as run_source
    from runtime.session import Session
    from runtime.sinks import JsonLinesSink, OverlaySink, StandardOutputSink, WindowSink
    from runtime.sources import open_source

    _keep_apart([source, seed], [parts, overlay])
    with ExitStack() as stack:
        opened = open_source(source)
        stack.callback(opened.close)
        sinks: list[Sink] = []
        if window:
            sinks.append(WindowSink())
        if parts is not None:
            sinks.append(StandardOutputSink() if parts == "-" else JsonLinesSink(parts))
        if overlay is not None:
            sinks.append(OverlaySink(overlay, opened.frames_per_second))
        session = stack.enter_context(Session.open(model, backend, provider, threads))
        if threads is not None:
            cv2.setNumThreads(threads)
        if seed is not None:
            _seed(session, seed, opened)
        progress = stack.enter_context(_progress(opened, max_frames))
        summary = run_source(opened, session, sinks, max_frames, progress)
    _report(summary, source, parts, overlay)
    if summary.broken is not None:
        raise summary.broken


def _keep_apart(inputs: list[str | Path | None], outputs: list[str | None]) -> None:
    """No output may replace an input or another output."""
    taken = {Path(path).resolve() for path in inputs if path is not None}
    for output in outputs:
        if output is None or output == "-":
            continue
        path = Path(output).resolve()
        if path in taken:
            raise SinkError(f"cannot write {output}: an input or another output has that name; choose another")
        taken.add(path)


def _seed(session: "Session", path: Path, source: "Source") -> None:
    from runtime.seed_file import load_seed

    found = load_seed(path, session.info.skeleton)
    if found.size is not None and source.frame_size is not None and found.size != source.frame_size:
        wanted, given = ("x".join(map(str, size)) for size in (found.size, source.frame_size))
        raise SeedError(f"{path} annotates an image of {wanted} pixels, but the first frame has {given}")
    session.seed(found.poses)


def _progress(source: "Source", max_frames: int | None):
    from runtime.progress import frame_progress

    known = [count for count in (source.total, max_frames) if count is not None]
    return frame_progress(min(known) if known else None)


def _report(summary: "Summary", source: str, parts: str | None, overlay: str | None) -> None:
    """Say what was done, to a person: a pipe gets the results only, and a word if they are not whole."""
    if not sys.stderr.isatty():
        if summary.signalled:
            print(f"stm-skeletons: stopped after {summary.frames} frames; the outputs are finished", file=sys.stderr)
        return
    rate = summary.frames / max(summary.seconds, 1e-9)
    each = summary.keypoints / max(summary.frames, 1)
    text = f"{source}: {summary.frames} frames at {rate:.1f} fps, {each:.1f} keypoints a frame"
    written = [name for name in (parts, overlay) if name not in (None, "-")]
    text += f"; wrote {' and '.join(map(str, written))}" if written else ""
    text += " (stopped early)" if summary.stopped else ""
    print(text, file=sys.stderr)


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="Weights (.safetensors) of this project.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    size: Annotated[str, typer.Option(help="Network input, width x height, multiples of 32.")] = "448x256",
    slots: Annotated[int, typer.Option(help="Frames in memory: the first, the previous and a ring of the rest.")] = 6,
    peaks: Annotated[int, typer.Option(help="Peaks a joint: the largest number of people.")] = 30,
    compact: Annotated[
        bool, typer.Option("--compact", help="Round weights to FP16 and store them so; compute stays FP32.")
    ] = False,
) -> None:
    """Turn weights into a verified bundle of three ONNX graphs."""
    _need("export", "torch", "safetensors", "onnx", "onnxslim")
    from export.export import Options, export_bundle

    width, height = _parse_size(size)
    options = Options(width=width, height=height, slots=slots, peaks=peaks, compact=compact)
    report = export_bundle(weights, out, options)
    for name, difference in report.graphs.items():
        print(f"{name}: within {difference:.1e} of PyTorch")
    print(f"closed loop: maps and memory within {report.closed_loop:.1e} of PyTorch")
    print(f"wrote {out}")


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"'{text}' is not WIDTHxHEIGHT, for instance 448x256", param_hint="--size")
    return int(width), int(height)


@app.command()
def init(
    variant: Annotated[Variant, typer.Argument(help="The network.")],
    out: Annotated[Path, typer.Option(help="Weights file to write (.safetensors).")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="MoveNet MultiPose's .onnx for edge; STM's official .pth for resnet50 and stm."),
    ] = None,
    skeleton: Annotated[str, typer.Option(help="coco17 or posetrack15.")] = "coco17",
    edges_only: Annotated[bool, typer.Option("--edges-only", help="resnet50 without keypoint maps.")] = False,
    random_seed: Annotated[int, typer.Option(help="For the layers that start at random.")] = 0,
) -> None:
    """Make the starting weights of a network, from other projects' weights or fresh."""
    _need("train", "torch", "safetensors", *(["onnx"] if variant is Variant.edge and source else []))
    from training.model.init import init_weights

    origin = init_weights(variant.value, out, source, skeleton, edges_only, random_seed)
    print(f"wrote {out}: {variant.value}, {origin}")


def _need(extra: str, *modules: str) -> None:
    from importlib.util import find_spec

    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise WeightsError(
            f"'{extra}' needs {', '.join(missing)}, which a board does not have: on a workstation, "
            "pip install 'stm-skeletons[train,export]'"
        )


@app.command()
def info(bundle: Annotated[str, typer.Argument(help="A bundle's folder, or a shipped model's name.")]) -> None:
    """Show what a bundle holds, after checking every file of it."""
    from stm_skeletons.bundle import Bundle

    opened = Bundle.open(bundle)
    found = opened.info
    rows = {
        "network": f"{found.variant}, {found.skeleton.name}: {len(found.channels)} maps",
        "input": f"{found.width} x {found.height} pixels (width x height)",
        "memory": f"{found.slots} slots: first frame, previous frame, every {found.every}th frame",
        "peaks": f"at most {found.peaks} a joint; keypoints from {found.keypoint_threshold}, "
        f"edges from {found.edge_threshold}",
        "precision": f"computes in {found.precision}, weights stored in {found.stored_weights}, opset {found.opset}",
        "weights": f"{found.weights_origin} (SHA-256 {found.weights_sha256[:16]}...)",
        "written by": found.created_by,
    }
    for name in found.graphs:
        file = opened.graph_file(name)
        rows[name] = f"{file.stat().st_size / 1e6:.1f} MB, hash is right"
    table = Table(title=Text(str(opened.folder)), show_header=False)
    for name, text in rows.items():
        table.add_row(name, Text(text))
    Console().print(table)


@app.command()
def doctor() -> None:
    """Say what this machine can run, and what is missing."""
    from runtime.doctor import examine

    findings = examine()
    table = Table(show_header=False)
    for finding in findings:
        mark = "ok" if finding.fine else "MISSING" if finding.needed else "-"
        table.add_row(mark, finding.subject, Text(finding.text))
    Console().print(table)
    if not all(finding.fine for finding in findings if finding.needed):
        raise BackendError("this machine cannot run the main job; see the lines marked MISSING")
    print("This machine can run: stm-skeletons run VIDEO --overlay OUT.mp4")


if __name__ == "__main__":
    main()
