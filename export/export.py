"""Weights to bundle: trace, write, verify, and only then give the folder its name."""

from dataclasses import dataclass
from pathlib import Path

from export.onnx_graphs import OPSET, export_graph, tensor_specs, trace
from export.storage import round_to_fp16, store_as_fp16
from export.verify import verify_closed_loop, verify_graph
from stm_skeletons import __version__
from stm_skeletons.bundle import FILE_NAME, FORMAT, GRAPH_NAMES, Bundle, BundleInfo, GraphSpec
from stm_skeletons.errors import ExportError
from stm_skeletons.files import sha256, whole_folder
from stm_skeletons.geometry import STRIDE
from training.model.weights import load_weights

LARGEST = 4096
"""Pixels of a side of the network's input."""
MOST_SLOTS = 256


@dataclass(frozen=True)
class Options:
    """Sizes are fixed at export."""

    width: int = 448
    """Network input, pixels; a multiple of 32."""
    height: int = 256
    slots: int = 6
    """Frames in memory: the first, the previous and a ring of the rest; at least 2."""
    every: int = 5
    """Every n-th frame enters the ring (STM: 5)."""
    peaks: int = 30
    """Peaks reported for each joint: the largest number of people."""
    compact: bool = False
    """Round the weights to FP16 and store them so; the graphs still compute in FP32."""
    keypoint_threshold: float = 0.3
    edge_threshold: float = 0.3


@dataclass(frozen=True)
class Report:
    """What the checks measured: the largest differences between PyTorch and the bundle."""

    bundle: Bundle
    graphs: dict[str, float]
    closed_loop: float


def export_bundle(weights: str | Path, out: str | Path, options: Options) -> Report:
    """Write a verified bundle.

    Args:
        weights: a safetensors file of ours.
        out: the bundle's folder; a bundle already there is replaced once the new one has passed.
        options: sizes and thresholds.

    Raises:
        WeightsError: the weights cannot be read.
        ExportError: impossible options, ``out`` holds something else, or a check did not pass; nothing is written.
        SinkError: ``out`` cannot be written.
    """
    _check(options)
    out = Path(out).absolute()
    _check_replaceable(out)
    model, recipe = load_weights(weights)
    if options.compact:
        round_to_fp16(model)
    traced = trace(model, options.height, options.width, options.slots, options.peaks)
    with whole_folder(out) as folder:
        differences = {}
        graphs = {}
        for name, graph in traced.items():
            file = folder / f"{name}.onnx"
            export_graph(graph, file)
            if options.compact:
                store_as_fp16(file)
            differences[name] = verify_graph(name, graph, file)
            graphs[name] = GraphSpec(
                file=file.name,
                sha256=sha256(file),
                inputs=tensor_specs(graph.inputs),
                outputs=tensor_specs(graph.outputs),
            )
        info = BundleInfo(
            format=FORMAT,
            variant=recipe.config.variant,
            skeleton=recipe.config.skeleton,
            channels=recipe.config.channels,
            height=options.height,
            width=options.width,
            slots=options.slots,
            every=options.every,
            peaks=options.peaks,
            keypoint_threshold=options.keypoint_threshold,
            edge_threshold=options.edge_threshold,
            precision="fp32",
            stored_weights="fp16" if options.compact else "fp32",
            opset=OPSET,
            weights_sha256=sha256(Path(weights)),
            weights_origin=recipe.origin,
            created_by=f"stm-skeletons {__version__}",
            graphs=graphs,
        )
        (folder / FILE_NAME).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
        closed_loop = verify_closed_loop(model, Bundle.open(folder))
    return Report(Bundle(out, info), differences, closed_loop)


def _check_replaceable(out: Path) -> None:
    """Only a bundle is replaced, and only one with nothing else in its folder."""
    found = {file.name for file in out.iterdir()} if out.is_dir() else set()
    if found and FILE_NAME not in found:
        raise ExportError(f"{out} is not empty and not a bundle; choose another folder")
    if others := found - {FILE_NAME, *(f"{name}.onnx" for name in GRAPH_NAMES)}:
        raise ExportError(
            f"{out} holds more than a bundle ({', '.join(sorted(others))}); move it, or choose another folder"
        )


def _check(options: Options) -> None:
    for name, value in (("width", options.width), ("height", options.height)):
        if not 32 <= value <= LARGEST or value % 32:
            raise ExportError(f"{name} {value} must be a multiple of 32 up to {LARGEST}; for instance --size 448x256")
    if options.slots > MOST_SLOTS:
        raise ExportError(f"{options.slots} slots are too many; {MOST_SLOTS} are the most")
    if options.slots < 2:
        raise ExportError(f"{options.slots} slots are too few: the first and the previous frame need one each")
    if options.every < 1:
        raise ExportError(f"every {options.every} must be at least 1")
    cells = options.width // STRIDE * (options.height // STRIDE)
    if not 1 <= options.peaks <= min(cells, 3840):
        raise ExportError(
            f"{options.peaks} peaks must lie between 1 and {min(cells, 3840)}, which TensorRT's TopK takes"
        )
