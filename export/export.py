"""Exports weights to a bundle: traces, writes and verifies it; the folder gets its name only if all checks pass."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.calibrate import observe
from export.cpu import for_cpu
from export.gate import FRAMES, GATE_FILES, Gate, check_video, letterboxed, run_gate, write_gate
from export.onnx_graphs import OPSET, Traced, export_graph, tensor_specs, trace
from export.precision import Fp16AccumulationSession, HalfPrecision, check_types, torch_session
from export.quantise import PARTS, Rounding, accept_bytes
from export.storage import round_to_fp16, store_as_fp16
from export.verify import FP16_GRAPH_BOUND, GRAPH_BOUND, check_finite, verify_closed_loop, verify_graph
from runtime.backends import BackendOptions
from runtime.backends.arena import plan_arena
from runtime.backends.openvino import import_openvino
from runtime.machine import has_bf16
from runtime.session import Session
from runtime.session_group import MOST_CAMERAS, SessionGroup
from stm_skeletons import __version__
from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.bundle import (
    FILE_NAME,
    FORMAT,
    GRAPH_NAMES,
    Bundle,
    BundleInfo,
    GraphName,
    GraphSpec,
    Grouping,
    Precision,
    shipped_models,
)
from stm_skeletons.cli.progress import Progress, no_progress
from stm_skeletons.engines import FOLDER as ENGINES_FOLDER
from stm_skeletons.errors import ExportError, SinkError
from stm_skeletons.files import atomic_folder, sha256
from stm_skeletons.geometry import STRIDE
from stm_skeletons.skeleton import Skeleton
from training.data.held_out import held_out_sequences
from training.data.open import open_data
from training.model import SpaceTimeMemory
from training.model.weights import load_weights

CALIBRATION_SEQUENCES, CALIBRATION_LENGTH = 120, 3
"""INT8 calibration on labelled data: number of sequences, and frames per sequence."""
CALIBRATION_FRAMES, SAMPLE_EVERY = 160, 5
"""INT8 calibration on a video: consecutive frames, and every n-th of them is sampled."""
LARGEST = 4096
"""Largest side of the network's input in pixels."""
MOST_SLOTS = 256
Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Options:
    """Options of an export; all sizes are fixed at export."""

    width: int = 448
    """Network input width in pixels; a multiple of 32."""
    height: int = 256
    slots: int = 6
    """Frames in memory: the first, the previous, and a ring of the others; at least 2."""
    every: int = 5
    """Every n-th frame is memorised in the ring (STM: 5)."""
    peaks: int = 30
    """Most peaks reported for each joint, which limits the number of people."""
    batch: int = 1
    """Cameras whose frames the encoders process in one run."""
    compact: bool = False
    """Round the weights to FP16 and store them so; the graphs still compute in FP32. Needs precision "fp32"."""
    precision: Precision = "fp32"
    """"fp16" for GPUs, with islands of FP32; "bf16" and "int8" for CPUs; see BundleInfo."""
    video: str | None = None
    """Real footage of at least 500 frames for the gate; required unless precision is "fp32". INT8 is also calibrated on
    it unless ``calibrate`` is given."""
    calibrate: tuple[str, Path] | None = None
    """Kind and folder of labelled data on whose training split INT8 is calibrated, see training.data.open."""
    person_threshold: float = PERSON_THRESHOLD
    keypoint_threshold: float = 0.3
    edge_threshold: float = 0.15


@dataclass(frozen=True)
class Report:
    """Results of the checks: largest differences between PyTorch and the bundle."""

    bundle: Bundle
    graphs: dict[str, float]
    """For INT8, measured before quantisation."""
    closed_loop: float
    gate: Gate | None
    """None for FP32."""


def export_bundle(weights: str | Path, out: str | Path, options: Options, progress: Progress = no_progress) -> Report:
    """Write a verified bundle.

    Args:
        weights: a safetensors file of this project.
        out: the bundle's folder; an existing bundle is replaced once the new one has passed.
        options: sizes, thresholds and precision.
        progress: shows how far it is.

    Raises:
        WeightsError: the weights cannot be read.
        SourceError: the video cannot be read.
        DataError: the calibration data cannot be read.
        BackendError: the rows of a batch would be misaligned on a GPU.
        ExportError: invalid options, ``out`` contains other files, or a check failed; nothing is written. If the gate
            failed, gate.json and gate.png are left in OUT.rejected; a later success removes them.
        SinkError: ``out`` cannot be written.
    """
    _check(options)
    out = Path(out).absolute()
    _check_replaceable(out)
    model, recipe = load_weights(weights)
    int8 = options.precision == "int8"
    if int8 and recipe.config.variant != "edge":
        raise ExportError(f"--precision int8 supports edge only, not {recipe.config.variant}; use --precision fp32")
    if options.compact:
        round_to_fp16(model)
    progress("tracing the network")
    network = _network(model, options)
    traced = trace(network, options.height, options.width, options.slots, options.peaks, options.batch)
    with atomic_folder(out) as folder:
        differences = {}
        for name, graph in traced.items():
            progress(f"exporting {name}")
            differences[name] = _write_graph(name, graph, folder, options)
        if int8:
            progress("calibrating")
        calibration = _quantise(folder, options, recipe.config.skeleton) if int8 else None
        graphs: dict[GraphName, GraphSpec] = {name: _describe(name, graph, folder) for name, graph in traced.items()}
        info = BundleInfo(
            format=FORMAT,
            variant=recipe.config.variant,
            skeleton=recipe.config.skeleton,
            channels=recipe.config.channels,
            height=options.height,
            width=options.width,
            batch=options.batch,
            slots=options.slots,
            every=options.every,
            peaks=options.peaks,
            grouping=_grouping(traced["read_decoder"]),
            centres=len(traced["read_decoder"].outputs.get("centres", ())),
            person_threshold=options.person_threshold,
            keypoint_threshold=options.keypoint_threshold,
            edge_threshold=options.edge_threshold,
            precision=options.precision,
            stored_weights="fp16" if options.compact or options.precision == "fp16" else "fp32",
            opset=OPSET,
            weights_sha256=sha256(Path(weights)),
            weights_origin=recipe.origin,
            created_by=f"stm-skeletons {__version__}",
            graphs=graphs,
        )
        plan_arena(info, 0, options.batch)  # raises if the rows of a batch would be misaligned on a GPU
        (folder / FILE_NAME).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
        bundle = Bundle.open(folder)
        # FP32 is compared with the trained network, not with its rewritten equivalent.
        # bf16 bundles have FP32 graphs; the gate measures the effect of rounding.
        exact = Bundle(folder, info.model_copy(update={"precision": "fp32"})) if options.precision == "bf16" else bundle
        closed_loop = verify_closed_loop(network if options.precision == "fp16" else model, exact, progress)
        gate = None
        if options.precision != "fp32":
            gate = _pass_gate(model, network, bundle, out, options, calibration, progress)
            write_gate(gate, folder)
    _remove_rejected(out)
    return Report(Bundle(out, info), differences, closed_loop, gate)


def default_threshold(variant: str) -> float:
    """Return the default keypoint threshold.

    For ``edge`` it is that of the shipped bundle, chosen on validation images, so that fine-tuned weights report like
    the model they started from.
    """
    shipped = variant in shipped_models()
    return Bundle.open(variant).info.keypoint_threshold if shipped else Options().keypoint_threshold


def _grouping(decoder: Traced) -> Grouping:
    """How the decoder's outputs let parts be grouped into people."""
    return "centres" if "centres" in decoder.outputs else "edges" if "peaks" in decoder.outputs else "none"


def _network(model: SpaceTimeMemory, options: Options) -> SpaceTimeMemory:
    """The network to trace, in the arithmetic of the target; INT8 is derived from it afterwards."""
    return HalfPrecision(model) if options.precision == "fp16" else for_cpu(model)


def _write_graph(name: GraphName, graph: Traced, folder: Path, options: Options) -> float:
    """Write and verify a graph; return the largest difference from PyTorch."""
    file = folder / f"{name}.onnx"
    export_graph(graph, file)
    if options.compact:
        store_as_fp16(file)
    if options.precision == "fp16":
        check_types(file)
    return verify_graph(name, graph, file, FP16_GRAPH_BOUND if options.precision == "fp16" else GRAPH_BOUND)


def _describe(name: GraphName, graph: Traced, folder: Path) -> GraphSpec:
    file = folder / f"{name}.onnx"
    return GraphSpec(
        file=file.name, sha256=sha256(file), inputs=tensor_specs(graph.inputs), outputs=tensor_specs(graph.outputs)
    )


def _quantise(folder: Path, options: Options, skeleton: Skeleton) -> str:
    """Rewrite the graphs in INT8; return a description of the calibration frames."""
    if options.calibrate is None:
        sequences, sample_every, words = _frames_of_video(options)
    else:
        sequences, sample_every, words = _sequences_of_data(*options.calibrate, options, skeleton)
    accept_bytes(folder / "query_encoder.onnx")
    roundings: dict[GraphName, Rounding] = {
        name: Rounding(folder / f"{name}.onnx", parts) for name, parts in PARTS.items()
    }
    tensors: dict[GraphName, set[str]] = {name: rounding.tensors for name, rounding in roundings.items()}
    seen = observe(folder, sequences, tensors, options.slots, options.every, sample_every)
    if not seen:
        raise ExportError(f"no frames to calibrate INT8 on: {words}; give a longer --video, or --calibrate")
    for name, rounding in roundings.items():
        rounding.write(seen[name])
    return words


def _sequences_of_data(
    kind: str, folder: Path, options: Options, skeleton: Skeleton
) -> tuple[Iterable[list[Frame]], int, str]:
    """Synthetic sequences from labelled training images, made like the held-out ones; the last frame is sampled."""
    data = open_data(kind, folder, "train", skeleton)
    made = held_out_sequences(data, (options.width, options.height), CALIBRATION_LENGTH, CALIBRATION_SEQUENCES)
    sequences = ([frame.image for frame in sequence.frames] for sequence in made)
    what = f"up to {CALIBRATION_SEQUENCES} sequences made of {folder.resolve().name}, {data.name}"
    words = f"the last of {CALIBRATION_LENGTH} frames of {what}"
    return sequences, CALIBRATION_LENGTH, words


def _frames_of_video(options: Options) -> tuple[Iterable[list[Frame]], int, str]:
    """Frames of the gate's video: those after the gate's own if the video is long enough."""
    video, size = str(options.video), (options.width, options.height)
    start = FRAMES
    frames = list(letterboxed(video, size, start, CALIBRATION_FRAMES))
    if len(frames) < CALIBRATION_FRAMES:
        start = 0
        frames = list(letterboxed(video, size, start, CALIBRATION_FRAMES))
    own = "" if start else ", which the gate also uses because the video is short"
    return [frames], SAMPLE_EVERY, f"every {SAMPLE_EVERY}th of frames {start} to {start + len(frames) - 1}{own}"


def _pass_gate(
    model: SpaceTimeMemory,
    network: SpaceTimeMemory,
    bundle: Bundle,
    out: Path,
    options: Options,
    calibration: str | None,
    progress: Progress,
) -> Gate:
    """Run the gate. Raises ExportError if the bundle fails; the measurements are left in OUT.rejected."""
    video, info = str(options.video), bundle.info
    name = info.precision.upper()
    fp32 = torch_session(model, info.slots, info.every)
    backend, title = ("openvino", "OpenVINO") if info.precision == "bf16" else ("onnxruntime", "ONNX Runtime")
    with Session(SessionGroup.open(bundle, 1, BackendOptions(backend))) as session:
        check_finite(session, info.height, info.width, f"the {name} bundle in {title}")
        session.reset()
        if info.precision == "fp16":
            # ONNX Runtime has hardly any FP16 kernels for CPUs: it computes in FP32 and skips the rounding.
            other = torch_session(network, info.slots, info.every)
            sums = Fp16AccumulationSession(network, info.slots, info.every)
            for each, what in ((other, "network"), (sums, "network with FP16 accumulation")):
                check_finite(each, info.height, info.width, f"the {name} {what}")
                each.reset()
            executed_on = (
                "PyTorch on a CPU: FP16 tensors between layers, FP32 accumulation, as on a GPU; not a GPU's own kernels"
            )
        else:
            other, sums, executed_on = session, None, f"the bundle in {title} on a CPU"
        frames = letterboxed(video, info.size, 0, FRAMES)
        gate = run_gate(fp32, other, frames, info, executed_on, video, calibration, progress, sums)
    if gate.problem is not None:
        rejected = _rejected(out)
        try:
            rejected.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot write the folder {rejected}: {error.strerror or error}") from error
        write_gate(gate, rejected)
        raise ExportError(
            f"{name} failed the gate over {gate.frames} frames of {video}: {gate.problem}; see "
            f"{rejected / GATE_FILES[1]}, or export with --precision fp32"
        )
    return gate


def _rejected(out: Path) -> Path:
    """Folder for the measurements of a bundle that failed the gate."""
    return out.with_name(f"{out.name}.rejected")


def _remove_rejected(out: Path) -> None:
    """Remove the gate files of an earlier failed attempt, and nothing else."""
    rejected = _rejected(out)
    with suppress(OSError):
        for name in GATE_FILES:
            (rejected / name).unlink(missing_ok=True)
        rejected.rmdir()


def _check_replaceable(out: Path) -> None:
    """Refuse to replace anything but a bundle without other files in its folder."""
    found = {file.name for file in out.iterdir()} if out.is_dir() else set()
    if found and FILE_NAME not in found:
        raise ExportError(f"{out} is not empty and not a bundle; choose another folder")
    ours = {FILE_NAME, ENGINES_FOLDER, *GATE_FILES, *(f"{name}.onnx" for name in GRAPH_NAMES)}
    if others := found - ours:
        raise ExportError(
            f"{out} contains files that are not part of a bundle ({', '.join(sorted(others))}); move them, or choose "
            "another folder"
        )


def _check(options: Options) -> None:
    for name, value in (("width", options.width), ("height", options.height)):
        if not 32 <= value <= LARGEST or value % 32:
            raise ExportError(f"{name} {value} must be a multiple of 32 up to {LARGEST}, for example --size 448x256")
    if options.precision == "int8" and options.batch > 1:
        raise ExportError("--batch cannot be combined with --precision int8: CPUs gain nothing by it; drop --batch")
    if options.precision == "bf16":
        import_openvino()
        if not has_bf16():
            raise ExportError(
                "--precision bf16: this processor has no bf16 units, so the bundle cannot be verified here; export on "
                "a processor with AVX512-BF16, AMX or Arm BF16, or use --precision int8"
            )
    if options.precision != "int8" and options.calibrate is not None:
        raise ExportError("--calibrate requires --precision int8; drop it")
    if options.precision == "fp32" and options.video is not None:
        raise ExportError("--video is not used with --precision fp32, which is verified without footage; drop it")
    if options.precision != "fp32":
        if options.video is None:
            raise ExportError(
                f"--precision {options.precision} needs --video with real footage of at least {FRAMES} frames, to "
                "compare keypoints with FP32"
            )
        if options.compact:
            raise ExportError("--compact requires --precision fp32; fp16 stores small weights anyway")
        check_video(options.video)
    if options.slots > MOST_SLOTS:
        raise ExportError(f"slots is {options.slots}, must be at most {MOST_SLOTS}")
    if options.slots < 2:
        raise ExportError(f"slots is {options.slots}, must be at least 2 (for the first and the previous frame)")
    if not 1 <= options.batch <= MOST_CAMERAS:
        raise ExportError(f"--batch is {options.batch}, must be between 1 and {MOST_CAMERAS}")
    if options.every < 1:
        raise ExportError(f"every is {options.every}, must be at least 1")
    cells = options.width // STRIDE * (options.height // STRIDE)
    if not 1 <= options.peaks <= min(cells, 3840):
        raise ExportError(
            f"peaks is {options.peaks}, must be between 1 and {min(cells, 3840)} (limit of TensorRT's TopK)"
        )
