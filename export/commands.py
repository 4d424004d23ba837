"""From weights to a bundle, and to the weights that training starts from."""

from enum import Enum
from pathlib import Path
from typing import Annotated, get_args

import typer

from stm_skeletons.cli.options import name_and_value
from stm_skeletons.cli.say import say_once
from stm_skeletons.libraries import need, panel
from stm_skeletons.variants import Variant
from training.commands import parse_size

app = typer.Typer()
_PANEL = panel("Export", "torch", "safetensors", "onnx", "onnxslim")


class Precision(str, Enum):
    """What a bundle's graphs compute in."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@app.command(rich_help_panel=_PANEL)
def export(
    weights: Annotated[Path, typer.Argument(help="Weights (.safetensors) of this project.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    size: Annotated[str, typer.Option(help="Network input, width x height, multiples of 32.")] = "448x256",
    slots: Annotated[
        int | None, typer.Option(help="Frames in memory: the first, the previous and a ring; as trained, else 6.")
    ] = None,
    every: Annotated[int | None, typer.Option(help="The ring takes every n-th frame; as trained, else 5.")] = None,
    peaks: Annotated[int, typer.Option(help="Peaks a joint: the largest number of people.")] = 30,
    batch: Annotated[
        int, typer.Option(help="Cameras whose frames the encoders take in one run; for many cameras on one GPU.")
    ] = 1,
    compact: Annotated[
        bool | None,
        typer.Option(
            help="Round weights to FP16 and store them so, compute stays FP32; edge in fp32 always unless told."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Keypoints are reported from this score on; as the shipped edge, others 0.3."),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp16 is for GPUs, bf16 for CPUs with units for it (by OpenVINO), int8 for CPUs with VNNI; all must "
            "find what fp32 finds in --video."
        ),
    ] = Precision.fp32,
    video: Annotated[
        str | None, typer.Option(help="Footage of at least 500 frames, for all but fp32: video or folder of images.")
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(help="KIND=FOLDER: int8 takes its ranges from the training part of these data, not from --video."),
    ] = None,
) -> None:
    """Turn weights into a verified bundle of three ONNX graphs."""
    need("export", "torch", "safetensors", "onnx", "onnxslim", "matplotlib", "scipy")
    from export.export import Options, default_threshold, export_bundle
    from training.model.weights import load_provenance

    width, height = parse_size(size)
    provenance = load_provenance(weights)
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
    report = export_bundle(weights, out, options, say_once)
    for name, difference in report.graphs.items():
        print(f"{name}: within {difference:.1e} of PyTorch")
    print(f"closed loop: maps and memory within {report.closed_loop:.1e} of PyTorch")
    if report.gate is not None:
        print(f"gate: {report.gate.summary}")
    print(f"wrote {out}: {options.slots} slots, every {options.every}, keypoints from {options.keypoint_threshold:g}")


def _kind_and_folder(text: str) -> tuple[str, Path]:
    kind, folder = name_and_value(text, "--calibrate", "KIND=FOLDER")
    return kind, Path(folder)


@app.command(rich_help_panel=_PANEL)
def init(
    variant: Annotated[str, typer.Argument(help=f"The network: {', '.join(get_args(Variant))}.")],
    out: Annotated[Path, typer.Option(help="Weights file to write (.safetensors).")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="For edge a bundle (a folder, or 'edge': the shipped weights) or MoveNet MultiPose's .onnx; for "
            "resnet50 and stm STM's official .pth.",
        ),
    ] = None,
    skeleton: Annotated[str, typer.Option(help="coco17 or posetrack15.")] = "coco17",
    edges_only: Annotated[bool, typer.Option("--edges-only", help="resnet50 without keypoint maps.")] = False,
    random_seed: Annotated[int, typer.Option(help="For the layers that start at random.")] = 0,
) -> None:
    """Make the starting weights of a network, from a bundle, from other projects' weights or fresh."""
    need("train", "torch", "safetensors", *(["onnx"] if variant == "edge" and source else []))
    from stm_skeletons.bundle import shipped_models
    from training.model.init import init_weights, network

    config = network(variant, skeleton, edges_only)
    if source is not None and (source.is_dir() or str(source) in shipped_models()):
        need("init --from BUNDLE", "onnx", "onnxslim")
        from export.recover import recover_weights

        origin = recover_weights(config, out, source)
    else:
        origin = init_weights(config, out, source, random_seed)
    print(f"wrote {out}: {variant}, {origin}")
