"""The commands ``export`` and ``init``."""

from enum import Enum
from pathlib import Path
from typing import Annotated, get_args

import typer

from stm_skeletons.cli.options import name_and_value
from stm_skeletons.cli.progress import show_progress
from stm_skeletons.libraries import need, panel
from stm_skeletons.origin import brief_origin
from stm_skeletons.variants import Variant
from training.commands import parse_size

app = typer.Typer()
_PANEL = panel("Weights and bundles", "torch", "safetensors", "onnx", "onnxslim")


class Precision(str, Enum):
    """Arithmetic of a bundle's graphs."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@app.command(rich_help_panel=_PANEL)
def export(
    weights: Annotated[Path, typer.Argument(help="Weights file of this project (.safetensors).")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    size: Annotated[
        str | None,
        typer.Option(help="Network input size as WIDTHxHEIGHT, multiples of 32. Default: as trained, else 448x256."),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(help="Memory slots: the first frame, the previous frame and a ring. Default: as trained, else 6."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(help="Memorise every Nth frame in the ring. Default: as trained, else 5.")
    ] = None,
    peaks: Annotated[int, typer.Option(help="Largest number of peaks per joint, and so of people.")] = 30,
    batch: Annotated[
        int, typer.Option(help="Number of cameras whose frames the encoders process together, on one GPU.")
    ] = 1,
    compact: Annotated[
        bool | None,
        typer.Option(
            help="Round weights to FP16 and store them so; compute stays FP32. Default: on for edge in fp32, else off."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Lowest score of a reported keypoint. Default: the shipped model's for edge, else 0.3."
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Arithmetic: fp16 for GPUs, bf16 for CPUs with bf16 units (OpenVINO), int8 for CPUs with VNNI. All "
            "but fp32 must match fp32's keypoints on --video."
        ),
    ] = Precision.fp32,
    video: Annotated[
        str | None,
        typer.Option(help="Video or image folder with at least 500 frames of real footage; required except for fp32."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="Labelled data as KIND=FOLDER: calibrate int8 on their training split instead of on --video."
        ),
    ] = None,
) -> None:
    """Export weights to a verified bundle of three ONNX graphs."""
    need("export", "torch", "safetensors", "onnx", "onnxslim", "matplotlib", "scipy")
    from export.export import Options, default_threshold, export_bundle
    from training.model.weights import load_provenance

    pixels = None if size is None else parse_size(size)
    provenance = load_provenance(weights)
    width, height = pixels or provenance.size
    trained_slots, trained_every = provenance.memory
    options = Options(
        width,
        height,
        trained_slots if slots is None else slots,
        trained_every if every is None else every,
        peaks,
        batch,
        precision is Precision.fp32 and provenance.config.variant == "edge" if compact is None else compact,
        precision=precision.value,
        video=video,
        calibrate=None if calibrate is None else _kind_and_folder(calibrate),
        keypoint_threshold=default_threshold(provenance.config.variant) if threshold is None else threshold,
    )
    with show_progress() as progress:
        report = export_bundle(weights, out, options, progress)
    for name, difference in report.graphs.items():
        print(f"{name}: differs from PyTorch by at most {difference:.1e}")
    print(f"closed loop: maps and memory differ from PyTorch by at most {report.closed_loop:.1e}")
    if report.gate is not None:
        print(f"gate: {report.gate.summary}")
    print(
        f"wrote {out}: {width}x{height}, {options.slots} slots, every {options.every}, keypoint threshold "
        f"{options.keypoint_threshold:g}"
    )


def _kind_and_folder(text: str) -> tuple[str, Path]:
    kind, folder = name_and_value(text, "--calibrate", "KIND=FOLDER")
    return kind, Path(folder)


@app.command(rich_help_panel=_PANEL)
def init(
    variant: Annotated[str, typer.Argument(help=f"Network: {', '.join(get_args(Variant))}.")],
    out: Annotated[Path, typer.Option(help="Weights file to write (.safetensors).")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Source of the weights. For edge: a bundle's folder, 'edge' (the shipped model), or MoveNet "
            "MultiPose's .onnx. For resnet50 and stm: STM's official .pth. Default: random weights.",
        ),
    ] = None,
    skeleton: Annotated[str, typer.Option(help="Skeleton: coco17 or posetrack15.")] = "coco17",
    edges_only: Annotated[bool, typer.Option("--edges-only", help="Leave out keypoint maps (resnet50 only).")] = False,
    random_seed: Annotated[int, typer.Option(help="Seed of randomly initialised layers.")] = 0,
) -> None:
    """Create starting weights for training and export: from a bundle, from another project's weights, or at random."""
    need("train", "torch", "safetensors", *(["onnx"] if variant == "edge" and source else []))
    from stm_skeletons.bundle import shipped_models
    from training.model.init import init_weights, network

    config = network(variant, skeleton, edges_only)
    with show_progress() as progress:
        if source is not None and (source.is_dir() or str(source) in shipped_models()):
            need("init --from BUNDLE", "onnx", "onnxslim")
            from export.recover import recover_weights

            origin = recover_weights(config, out, source, progress)
        else:
            progress(f"making weights of {variant}")
            origin = init_weights(config, out, source, random_seed)
    print(f"wrote {out}: weights of {variant}, {brief_origin(origin)}")
