"""The commands ``run``, ``info`` and ``doctor``."""

import math
from contextlib import ExitStack, nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_skeletons.cli.app import command
from stm_skeletons.cli.options import Backend, CudaGraphs, Engines, Provider, Threads
from stm_skeletons.cli.say import say
from stm_skeletons.errors import BackendError, BundleError, EngineError, SeedError, SinkError, StmError
from stm_skeletons.libraries import BOARD
from stm_skeletons.origin import brief_origin
from stm_skeletons.table import Table, print_table

if TYPE_CHECKING:
    from runtime.backends import BackendOptions
    from runtime.frames import Source
    from runtime.overlay import Painter
    from runtime.run import Summary
    from runtime.session import Session
    from runtime.sinks import Sink
    from stm_skeletons.bundle import Bundle

app = typer.Typer()

SKIPPED_IMAGES = 3
"""Exit code of a run that skipped images it could not decode."""

_PEOPLE = {"centres": "by centres and edges", "edges": "by edges", "none": "none, parts only"}
"""How a bundle groups parts into people."""


class Format(str, Enum):
    """Format of the file that ``run --parts`` writes."""

    jsonl = "jsonl"
    coco = "coco"
    posetrack18 = "posetrack18"


class Rotate(str, Enum):
    """Clockwise rotation in degrees."""

    none = "0"
    clockwise = "90"
    upside_down = "180"
    against_the_clock = "270"


class Draw(str, Enum):
    """Content of an overlay or window."""

    people = "people"
    parts = "parts"
    maps = "maps"


def _number(value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # Typer's range check accepts NaN
        raise typer.BadParameter("NaN is not a number.")
    return value


@app.command(rich_help_panel=BOARD)
def run(
    source: Annotated[
        str, typer.Argument(help="Video file, image folder, camera number, RTSP address or GStreamer pipeline.")
    ],
    model: Annotated[str, typer.Option(help="Shipped model or bundle folder.")] = "edge",
    parts: Annotated[
        str | None, typer.Option(help="File for the results (JSON lines); '-' for standard output.")
    ] = None,
    form: Annotated[
        Format,
        typer.Option("--format", help="Format of the --parts file: JSON lines, COCO or PoseTrack18 JSON."),
    ] = Format.jsonl,
    overlay: Annotated[
        str | None,
        typer.Option(help="Video of the frames with results drawn on them; for images also an image or a folder."),
    ] = None,
    window: Annotated[bool, typer.Option("--window", help="Show the overlay in a window.")] = False,
    draw: Annotated[
        Draw, typer.Option(help="Overlay content: people (one colour each), parts, or the network's maps.")
    ] = Draw.people,
    blur_faces: Annotated[bool, typer.Option("--blur-faces", help="Blur heads in the overlay and the window.")] = False,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, callback=_number, help="Lowest score of a reported person. Default: the model's."),
    ] = None,
    min_joints: Annotated[int, typer.Option(min=0, max=17, help="Fewest found joints of a reported person.")] = 0,
    seed: Annotated[
        Path | None, typer.Option(help="COCO or PoseTrack18 JSON; the people on its first image seed the memory.")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    rotate: Annotated[Rotate, typer.Option(help="Rotate frames clockwise by this many degrees.")] = Rotate.none,
    every_frame: Annotated[
        bool,
        typer.Option(
            "--every-frame", help="Process every camera frame, however late, instead of skipping to the newest."
        ),
    ] = False,
    give_up_after: Annotated[
        float, typer.Option(min=1, help="End the run after a camera has sent no frame for this many seconds.")
    ] = 60.0,
    recursive: Annotated[bool, typer.Option("--recursive", help="Include images in subfolders.")] = False,
    sequence: Annotated[
        bool | None,
        typer.Option(
            "--sequence/--independent",
            help="Treat a folder's images as consecutive frames, or as independent images. Default: guess from names "
            "and sizes.",
        ),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Skip images that cannot be decoded; exit code 3 if any were skipped.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    threads: Threads = None,
    backend: Backend = "auto",
    provider: Provider = "cpu",
    engines: Engines = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build TensorRT engines first if there are no valid ones.")
    ] = False,
    cuda_graphs: CudaGraphs = True,
) -> None:
    """Detect people and their parts in a video, an image folder or a camera stream."""
    import cv2

    from runtime.backends import AUTO, choose_backend
    from runtime.live import LiveOptions
    from runtime.overlay import Painter
    from runtime.run import run as run_source
    from runtime.session import Session
    from runtime.sinks import WindowSink
    from runtime.sources import SourceOptions, open_source, without_password
    from stm_skeletons.bundle import Bundle

    _check_distinct([source, seed], [parts, overlay])
    _check_outputs(parts, form, draw, blur_faces, overlay is not None or window)
    options = backend_options(backend, provider, threads, engines, cuda_graphs, rebuild)
    broken: list[StmError] = []
    report = _ignore if quiet else say
    skip = broken.append if skip_broken else None
    asked = SourceOptions(LiveOptions(every_frame, give_up_after, say=report), recursive, skip, sequence, report)
    with ExitStack() as stack:
        opened = open_source(source, asked)
        stack.callback(opened.close)
        painter = Painter(draw.value, blur_faces)
        sinks: list[Sink] = []
        if window:
            sinks.append(WindowSink(painter))
        if parts is not None:
            sinks.append(_parts_sink(parts, form, opened, source, force))
        if overlay is not None:
            sinks.append(_overlay_sink(overlay, opened, painter, force))
        if rebuild:
            command("build")(model, engines=engines, unless_fitting=True)
        opened_bundle = Bundle.open(model)
        session = stack.enter_context(Session.open(opened_bundle, options, min_score, min_joints))
        painter.source_of_maps = session
        _check_people(session, form, min_score, min_joints)
        if threads is not None:
            cv2.setNumThreads(threads)
        if seed is not None:
            _seed(session, seed, opened, int(rotate.value))
        on_frame = stack.enter_context(_progress(opened, max_frames, quiet, print_people=not sinks))
        summary = run_source(opened, session, sinks, max_frames, on_frame, int(rotate.value))
    if not quiet:
        outputs = [name for name in (parts, overlay) if name is not None and name != "-"]
        chosen = _backend_note(choose_backend(options, opened_bundle)) if options.backend == AUTO else ""
        say(_summary_line(summary, without_password(source), outputs, chosen))
    if summary.broken is not None:
        raise summary.broken
    if broken:
        say(f"skipped {len(broken)} images that cannot be decoded; the first: {broken[0]}")
        raise typer.Exit(SKIPPED_IMAGES)


def backend_options(
    backend: str, provider: str, threads: int | None, engines: Path | None, cuda_graphs: bool, rebuild: bool = False
) -> "BackendOptions":
    """Return the backend options. Raises BackendError for options that the chosen backend does not use."""
    from runtime.backends import BackendOptions

    if backend in ("openvino", "tensorrt") and provider != "cpu":
        device = "CPUs" if backend == "openvino" else "GPUs"
        raise BackendError(
            f"--provider applies to --backend onnxruntime only; --backend {backend} always uses {device}"
        )
    if backend != "tensorrt" and (rebuild or engines is not None):
        raise BackendError("--engines and --rebuild require --backend tensorrt")
    if backend != "tensorrt" and provider != "cuda" and not cuda_graphs:
        raise BackendError("--no-cuda-graphs requires --backend tensorrt or --provider cuda")
    return BackendOptions(backend, provider, threads, engines, cuda_graphs)


def _check_outputs(parts: str | None, form: Format, draw: Draw, blur_faces: bool, drawn: bool) -> None:
    """Raise SinkError for options whose output is missing."""
    if form is not Format.jsonl and parts in (None, "-"):
        raise SinkError(f"--format {form.value} requires --parts FILE: it is written once the run has ended")
    if draw is not Draw.people and not drawn:
        raise SinkError(f"--draw {draw.value} requires --overlay or --window")
    if blur_faces and not drawn:
        raise SinkError("--blur-faces requires --overlay or --window")


def _check_people(session: "Session", form: Format, min_score: float | None, min_joints: int) -> None:
    """Raise BundleError for people options if the bundle has no people."""
    if session.info.grouping != "none":
        return
    asked = {
        f"--format {form.value}": form is not Format.jsonl,
        "--min-score": min_score is not None,
        "--min-joints": min_joints > 0,
    }
    for option, given in asked.items():
        if given:
            raise BundleError(f"{option} needs people, but this model ('{session.info.variant}') reports parts only")


def _parts_sink(parts: str, form: Format, opened: "Source", source: str, force: bool) -> "Sink":
    from runtime.formats import WRITERS, Footage
    from runtime.sinks import DataSetSink, JsonLinesSink, StandardOutputSink

    if form is not Format.jsonl:
        return DataSetSink(parts, WRITERS[form.value], Footage.of(opened, source), force)
    return StandardOutputSink() if parts == "-" else JsonLinesSink(parts, force)


def _overlay_sink(overlay: str, opened: "Source", painter: "Painter", force: bool) -> "Sink":
    """Return the overlay's sink: a video; for images also an image, or a folder if the name has no video suffix."""
    from runtime.images import ImageSource, is_image
    from runtime.sinks import CODECS, OverlayImageSink, OverlaySink

    suffix = Path(overlay).suffix.lower()
    if isinstance(opened, ImageSource) and suffix not in CODECS:
        single = is_image(Path(overlay))
        if single and len(opened.files) > 1:
            raise SinkError(f"{overlay} is one image, but the source has {opened.total}; give a folder or an .mp4 file")
        return OverlayImageSink(overlay, painter, not single, force)
    return OverlaySink(overlay, opened.frames_per_second, painter, force)


def _check_distinct(inputs: list[str | Path | None], outputs: list[str | None]) -> None:
    """Raise SinkError if an output would replace an input or another output."""
    taken = {Path(path).resolve() for path in inputs if path is not None}
    for output in outputs:
        if output is None or output == "-":
            continue
        path = Path(output).resolve()
        if path in taken:
            raise SinkError(f"cannot write {output}: it is also an input or another output; choose another name")
        taken.add(path)


def _seed(session: "Session", path: Path, source: "Source", rotate: int) -> None:
    from runtime.seed_file import load_seed

    found, size = load_seed(path, session.info.skeleton), source.frame_size
    size = size[::-1] if size is not None and rotate in (90, 270) else size
    if found.size is not None and size is not None and found.size != size:
        wanted, given = ("x".join(map(str, each)) for each in (found.size, size))
        raise SeedError(f"{path} annotates an image of {wanted} pixels, but the first frame has {given}")
    session.seed(found.poses)


def _progress(source: "Source", max_frames: int | None, quiet: bool, print_people: bool):
    from runtime.progress import frame_progress, print_frame_people

    known = [count for count in (source.total, max_frames) if count is not None]
    if print_people and not quiet:
        return nullcontext(print_frame_people)
    return frame_progress(min(known) if known else None, quiet)


def _summary_line(summary: "Summary", source: str, written: list[str], backend: str) -> str:
    """Summarise a run on one line."""
    rate, frames = summary.frames / max(summary.seconds, 1e-9), max(summary.frames, 1)
    parts = [
        f"{source}: {summary.frames} frames at {rate:.1f} fps{backend}",
        f"{summary.people / frames:.1f} people and {summary.keypoints / frames:.1f} keypoints per frame",
    ]
    if summary.ages.count:
        half, late = (summary.ages.percentile(percent) * 1000 for percent in (50, 99))
        parts.append(f"{summary.skipped} frames skipped, result age {half:.0f} ms (p99 {late:.0f} ms)")
    if written:
        parts.append(f"wrote {' and '.join(written)}")
    return "; ".join(parts) + (" (stopped early)" if summary.stopped else "")


def _backend_note(options: "BackendOptions") -> str:
    """Describe the automatically chosen backend and the alternatives, to follow "fps"."""
    from runtime.gpu import NoGpu, find_gpu

    if options.provider != "cpu":
        return ""
    name = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[options.backend]
    try:
        gpu = find_gpu().name
    except NoGpu:
        return f" on the CPU with {name} (change with --backend)"
    return f" on the CPU with {name} (to use the {gpu}: --backend tensorrt or --provider cuda)"


def _ignore(_line: str) -> None:
    """Discard a line, for quiet runs."""


@app.command(rich_help_panel=BOARD)
def info(bundle: Annotated[str, typer.Argument(help="Bundle folder or shipped model.")]) -> None:
    """Check a bundle and its engines, and show their contents."""
    from stm_skeletons.bundle import Bundle

    opened = Bundle.open(bundle)
    found = opened.info
    rows = {
        "network": f"{found.variant}, {found.skeleton.name}: {len(found.channels)} maps",
        "input": f"{found.width} x {found.height} pixels (width x height)",
        **({} if found.batch == 1 else {"batch": f"frames of {found.batch} cameras in one run"}),
        "memory": f"{found.slots} slots: first frame, previous frame, others "
        f"{found.every} frame{'s' * (found.every > 1)} apart",
        "peaks": f"at most {found.peaks} per joint; keypoint threshold {found.keypoint_threshold}, "
        f"edge threshold {found.edge_threshold}",
        "people": _PEOPLE[found.grouping]
        + ("" if found.grouping == "none" else f"; threshold {found.person_threshold}"),
        "precision": f"computes in {found.precision}, weights stored in {found.stored_weights}, opset {found.opset}",
        "weights": f"{brief_origin(found.weights_origin)}, SHA-256 {found.weights_sha256[:16]}...",
        "written by": found.created_by,
    }
    for name in found.graphs:
        file = opened.graph_file(name)
        rows[name] = f"{file.stat().st_size / 1e6:.1f} MB, hash ok"
    rows |= _gate_row(opened) | _engine_rows(opened)
    print_table(Table(str(opened.folder), ("", ""), list(rows.items()), left=2))


def _gate_row(bundle: "Bundle") -> dict[str, str]:
    """Gate result of a bundle with lower precision; FP32 has none."""
    from stm_skeletons.gate_file import read_gate

    try:
        gate = read_gate(bundle.folder)
    except BundleError as error:
        return {"gate": str(error)}
    if gate is None:
        return {}
    found = "no keypoints" if gate.f1 is None else f"F1 {gate.f1:.4f}"
    sums = gate.fp16_sums
    more = "" if sums is None or sums.f1 is None else f"; with FP16 accumulation F1 {sums.f1:.4f} over {sums.frames}"
    return {"gate": f"{found} compared with FP32 over {gate.frames} frames of {gate.video}{more}"}


def _engine_rows(bundle: "Bundle") -> dict[str, str]:
    from stm_skeletons.engines import engine_folders, open_engines

    rows: dict[str, str] = {}
    for folder in engine_folders(bundle):
        try:
            engines = open_engines(bundle, folder).info
        except EngineError as error:
            rows[f"engines {folder.name}"] = str(error)
            continue
        sizes = ", ".join(f"{spec.bytes / 1e6:.1f}" for spec in engines.engines.values())
        rows[f"engines {folder.name}"] = (
            f"{engines.precision} for {engines.device or engines.compute_capability} by {engines.package} "
            f"{engines.tensorrt_version}: {sizes} MB, hashes ok"
        )
    return rows


@app.command(rich_help_panel=BOARD)
def doctor(
    bundle: Annotated[
        str | None, typer.Argument(help="Bundle folder whose engines to check. Default: the shipped model.")
    ] = None,
    engines: Annotated[Path | None, typer.Option(help="Folder of the engines. Default: inside the bundle.")] = None,
) -> None:
    """Check what this machine can run and what is missing, without changing anything."""
    from stm_skeletons.library_check import library_problems

    if problems := library_problems():
        print_table(Table("", ("", ""), [("MISSING", problem) for problem in problems], left=2))
        raise BackendError("this machine cannot run the main job; fix the lines marked MISSING")
    from runtime.doctor import examine

    findings = examine(bundle, engines)
    marks = ["ok" if finding.fine else "MISSING" if finding.needed else "-" for finding in findings]
    rows = [(mark, finding.subject, finding.text) for mark, finding in zip(marks, findings, strict=True)]
    print_table(Table("", ("", "", ""), rows, left=3))
    if not all(finding.fine for finding in findings if finding.needed):
        raise BackendError("this machine cannot run the main job; fix the lines marked MISSING")
    print("This machine can run: stm-skeletons run VIDEO --overlay OUT.mp4")
