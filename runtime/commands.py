"""What a board runs."""

import math
from contextlib import ExitStack, nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_skeletons.cli.found import command
from stm_skeletons.cli.options import Backend, CudaGraphs, Engines, Provider, Threads
from stm_skeletons.cli.say import say
from stm_skeletons.errors import BackendError, BundleError, EngineError, SeedError, SinkError, StmError
from stm_skeletons.libraries import BOARD
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

LEFT_OUT = 3
"""Exit code of a run that left out what it could not decode."""

_PEOPLE = {"centres": "by their centres, and by edges", "edges": "by edges", "none": "none, parts only"}
"""How a bundle tells people apart."""


class Format(str, Enum):
    """Of what ``run --parts`` writes."""

    jsonl = "jsonl"
    coco = "coco"
    posetrack18 = "posetrack18"


class Rotate(str, Enum):
    """Degrees."""

    none = "0"
    clockwise = "90"
    upside_down = "180"
    against_the_clock = "270"


class Draw(str, Enum):
    """What an overlay or window shows."""

    people = "people"
    parts = "parts"
    maps = "maps"


def _number(value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # lies in any range, to Typer
        raise typer.BadParameter("nan is no number.")
    return value


@app.command(rich_help_panel=BOARD)
def run(
    source: Annotated[
        str, typer.Argument(help="Video file, folder of images, camera number, RTSP address or GStreamer pipeline.")
    ],
    model: Annotated[str, typer.Option(help="A shipped model's name, or a bundle's folder.")] = "edge",
    parts: Annotated[str | None, typer.Option(help="Write JSON lines here, '-' for standard output.")] = None,
    form: Annotated[
        Format,
        typer.Option("--format", help="Of --parts FILE: JSON lines, or the people in COCO's or PoseTrack18's JSON."),
    ] = Format.jsonl,
    overlay: Annotated[
        str | None,
        typer.Option(help="Write what was seen, drawn on the frames: a video; of images also an image, or a folder."),
    ] = None,
    window: Annotated[bool, typer.Option("--window", help="Show that video in a window.")] = False,
    draw: Annotated[
        Draw, typer.Option(help="People in colours of their own, parts whosever they are, or the maps behind them.")
    ] = Draw.people,
    blur_faces: Annotated[
        bool, typer.Option("--blur-faces", help="Make heads unrecognisable in what is written or shown.")
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, callback=_number, help="People from this score on; the model's own unless given."),
    ] = None,
    min_joints: Annotated[
        int, typer.Option(min=0, max=17, help="People of whom at least so many joints are found.")
    ] = 0,
    seed: Annotated[
        Path | None, typer.Option(help="COCO or PoseTrack18 JSON: the people annotated on its first image.")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    rotate: Annotated[
        Rotate, typer.Option(help="Turn frames clockwise, for cameras that hang on their side.")
    ] = Rotate.none,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Of a camera all frames in turn, however late, not the newest.")
    ] = False,
    give_up_after: Annotated[
        float, typer.Option(min=1, help="Seconds that a camera may stay away before the run ends.")
    ] = 60.0,
    recursive: Annotated[bool, typer.Option("--recursive", help="Of a folder the images in its folders too.")] = False,
    sequence: Annotated[
        bool | None,
        typer.Option(
            "--sequence/--independent",
            help="Whether a folder's images follow one another in time; guessed from names and sizes unless told.",
        ),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that cannot be decoded; exit code 3 if there are.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but what went wrong.")] = False,
    threads: Threads = None,
    backend: Backend = "auto",
    provider: Provider = "cpu",
    engines: Engines = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build TensorRT engines first unless those there fit.")
    ] = False,
    cuda_graphs: CudaGraphs = True,
) -> None:
    """Find the people in a video, an image folder or a camera, and their body parts."""
    import cv2

    from runtime.backends import AUTO, choose_backend
    from runtime.live import LiveOptions
    from runtime.overlay import Painter
    from runtime.run import run as run_source
    from runtime.session import Session
    from runtime.sinks import WindowSink
    from runtime.sources import SourceOptions, open_source, without_password
    from stm_skeletons.bundle import Bundle

    _keep_apart([source, seed], [parts, overlay])
    _check_outputs(parts, form, draw, blur_faces, overlay is not None or window)
    options = backend_options(backend, provider, threads, engines, cuda_graphs, rebuild)
    broken: list[StmError] = []
    tell = _ignore if quiet else say
    skip = broken.append if skip_broken else None
    asked = SourceOptions(LiveOptions(every_frame, give_up_after, say=tell), recursive, skip, sequence, tell)
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
        talk = stack.enter_context(_progress(opened, max_frames, quiet, print_people=not sinks))
        summary = run_source(opened, session, sinks, max_frames, talk, int(rotate.value))
    if not quiet:
        outputs = [name for name in (parts, overlay) if name is not None and name != "-"]
        chosen = _told_backend(choose_backend(options, opened_bundle)) if options.backend == AUTO else ""
        say(_told(summary, without_password(source), outputs, chosen))
    if summary.broken is not None:
        raise summary.broken
    if broken:
        say(f"{len(broken)} images were left out; the first: {broken[0]}")
        raise typer.Exit(LEFT_OUT)


def backend_options(
    backend: str, provider: str, threads: int | None, engines: Path | None, cuda_graphs: bool, rebuild: bool = False
) -> "BackendOptions":
    """What a command's options say of the backend; those that the chosen one would not look at are refused."""
    from runtime.backends import BackendOptions

    if backend in ("openvino", "tensorrt") and provider != "cpu":
        device = "CPU" if backend == "openvino" else "GPU"
        raise BackendError(
            f"--provider goes with --backend onnxruntime: of --backend {backend} the device is the {device}"
        )
    if backend != "tensorrt" and (rebuild or engines is not None):
        raise BackendError("--engines and --rebuild go with --backend tensorrt")
    if backend != "tensorrt" and provider != "cuda" and not cuda_graphs:
        raise BackendError("--no-cuda-graphs goes with --backend tensorrt or --provider cuda")
    return BackendOptions(backend, provider, threads, engines, cuda_graphs)


def _check_outputs(parts: str | None, form: Format, draw: Draw, blur_faces: bool, drawn: bool) -> None:
    """What goes with an output is refused without it."""
    if form is not Format.jsonl and parts in (None, "-"):
        raise SinkError(f"--format {form.value} goes with --parts FILE: it is one file, written once the run is over")
    if draw is not Draw.people and not drawn:
        raise SinkError(f"--draw {draw.value} goes with --overlay or --window")
    if blur_faces and not drawn:
        raise SinkError("--blur-faces goes with --overlay or --window: nothing else shows a face")


def _check_people(session: "Session", form: Format, min_score: float | None, min_joints: int) -> None:
    """What is about people is refused of a bundle that gives none."""
    if session.info.grouping != "none":
        return
    asked = {
        f"--format {form.value}": form is not Format.jsonl,
        "--min-score": min_score is not None,
        "--min-joints": min_joints > 0,
    }
    for option, given in asked.items():
        if given:
            raise BundleError(f"{option} is about people, of which this bundle ('{session.info.variant}') gives none")


def _parts_sink(parts: str, form: Format, opened: "Source", source: str, force: bool) -> "Sink":
    from runtime.formats import WRITERS, Footage
    from runtime.sinks import DataSetSink, JsonLinesSink, StandardOutputSink

    if form is not Format.jsonl:
        return DataSetSink(parts, WRITERS[form.value], Footage.of(opened, source), force)
    return StandardOutputSink() if parts == "-" else JsonLinesSink(parts, force)


def _overlay_sink(overlay: str, opened: "Source", painter: "Painter", force: bool) -> "Sink":
    """A video; of images an image or, under a name that is none of a video, a folder of them."""
    from runtime.images import ImageSource, is_image
    from runtime.sinks import CODECS, OverlayImageSink, OverlaySink

    suffix = Path(overlay).suffix.lower()
    if isinstance(opened, ImageSource) and suffix not in CODECS:
        single = is_image(Path(overlay))
        if single and len(opened.files) > 1:
            raise SinkError(f"{overlay} is one image, but there are {opened.total}; name a folder, or a video (.mp4)")
        return OverlayImageSink(overlay, painter, not single, force)
    return OverlaySink(overlay, opened.frames_per_second, painter, force)


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


def _seed(session: "Session", path: Path, source: "Source", rotate: int) -> None:
    from runtime.seed_file import load_seed

    found, size = load_seed(path, session.info.skeleton), source.frame_size
    size = size[::-1] if size is not None and rotate in (90, 270) else size
    if found.size is not None and size is not None and found.size != size:
        wanted, given = ("x".join(map(str, each)) for each in (found.size, size))
        raise SeedError(f"{path} annotates an image of {wanted} pixels, but the first frame has {given}")
    session.seed(found.poses)


def _progress(source: "Source", max_frames: int | None, quiet: bool, print_people: bool):
    from runtime.progress import frame_progress, print_everybody

    known = [count for count in (source.total, max_frames) if count is not None]
    if print_people and not quiet:
        return nullcontext(print_everybody)
    return frame_progress(min(known) if known else None, quiet)


def _told(summary: "Summary", source: str, written: list[str], backend: str) -> str:
    """What was done, in a line."""
    rate, frames = summary.frames / max(summary.seconds, 1e-9), max(summary.frames, 1)
    parts = [
        f"{source}: {summary.frames} frames at {rate:.1f} fps{backend}",
        f"{summary.people / frames:.1f} people and {summary.keypoints / frames:.1f} keypoints a frame",
    ]
    if summary.ages.count:
        half, late = (summary.ages.percentile(percent) * 1000 for percent in (50, 99))
        parts.append(f"{summary.skipped} frames skipped, results {half:.0f} ms old (p99 {late:.0f} ms)")
    if written:
        parts.append(f"wrote {' and '.join(written)}")
    return "; ".join(parts) + (" (stopped early)" if summary.stopped else "")


def _told_backend(options: "BackendOptions") -> str:
    """Behind "fps": what was chosen where nothing was asked for, and what else there is."""
    from runtime.gpu import NoGpu, find_gpu

    if options.provider != "cpu":
        return ""
    name = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[options.backend]
    try:
        gpu = find_gpu().name
    except NoGpu:
        return f" on the CPU by {name} (--backend chooses)"
    return f" on the CPU by {name} (for the {gpu}: --backend tensorrt, or --provider cuda)"


def _ignore(_line: str) -> None:
    """Of a run that shall be quiet."""


@app.command(rich_help_panel=BOARD)
def info(bundle: Annotated[str, typer.Argument(help="A bundle's folder, or a shipped model's name.")]) -> None:
    """Show what a bundle holds, after checking every file of it; its engines too."""
    from stm_skeletons.bundle import Bundle

    opened = Bundle.open(bundle)
    found = opened.info
    rows = {
        "network": f"{found.variant}, {found.skeleton.name}: {len(found.channels)} maps",
        "input": f"{found.width} x {found.height} pixels (width x height)",
        **({} if found.batch == 1 else {"batch": f"the frames of {found.batch} cameras in one run"}),
        "memory": f"{found.slots} slots: first frame, previous frame, others {found.every} apart",
        "peaks": f"at most {found.peaks} a joint; keypoints from {found.keypoint_threshold}, "
        f"edges from {found.edge_threshold}",
        "people": _PEOPLE[found.grouping]
        + ("" if found.grouping == "none" else f"; reported from {found.person_threshold}"),
        "precision": f"computes in {found.precision}, weights stored in {found.stored_weights}, opset {found.opset}",
        "weights": f"{found.weights_origin} (SHA-256 {found.weights_sha256[:16]}...)",
        "written by": found.created_by,
    }
    for name in found.graphs:
        file = opened.graph_file(name)
        rows[name] = f"{file.stat().st_size / 1e6:.1f} MB, hash is right"
    rows |= _gate_row(opened) | _engine_rows(opened)
    print_table(Table(str(opened.folder), ("", ""), list(rows.items()), left=2))


def _gate_row(bundle: "Bundle") -> dict[str, str]:
    """What export measured of a bundle in FP16 or INT8; FP32 has no gate."""
    from stm_skeletons.gate_file import read_gate

    try:
        gate = read_gate(bundle.folder)
    except BundleError as error:
        return {"gate": str(error)}
    if gate is None:
        return {}
    found = "no keypoints to compare" if gate.f1 is None else f"F1 {gate.f1:.4f}"
    sums = gate.fp16_sums
    more = "" if sums is None or sums.f1 is None else f"; with sums in FP16 F1 {sums.f1:.4f} over {sums.frames}"
    return {"gate": f"{found} against FP32 over {gate.frames} frames of {gate.video}{more}"}


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
            f"{engines.tensorrt_version}: {sizes} MB, hashes are right"
        )
    return rows


@app.command(rich_help_panel=BOARD)
def doctor(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle's folder whose engines to look at; the shipped model's without.")
    ] = None,
    engines: Annotated[Path | None, typer.Option(help="Folder of the engines; inside the bundle unless given.")] = None,
) -> None:
    """Say what this machine can run, and what is missing. It changes nothing."""
    from stm_skeletons.library_check import library_problems

    if problems := library_problems():
        print_table(Table("", ("", ""), [("MISSING", problem) for problem in problems], left=2))
        raise BackendError("this machine cannot run the main job; see the lines marked MISSING")
    from runtime.doctor import examine

    findings = examine(bundle, engines)
    marks = ["ok" if finding.fine else "MISSING" if finding.needed else "-" for finding in findings]
    rows = [(mark, finding.subject, finding.text) for mark, finding in zip(marks, findings, strict=True)]
    print_table(Table("", ("", "", ""), rows, left=3))
    if not all(finding.fine for finding in findings if finding.needed):
        raise BackendError("this machine cannot run the main job; see the lines marked MISSING")
    print("This machine can run: stm-skeletons run VIDEO --overlay OUT.mp4")
