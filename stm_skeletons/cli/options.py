"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from stm_skeletons.errors import RecipeError

Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads. Default: all cores.")]
Backend = Annotated[
    str,
    typer.Option(
        help="Backend: auto (fastest installed CPU backend), onnxruntime, openvino (CPUs; needs the extra 'openvino') "
        "or tensorrt (not yet run on a GPU)."
    ),
]
Provider = Annotated[
    str, typer.Option(help="Execution provider of onnxruntime: cpu, cuda or tensorrt (not yet run on a GPU).")
]
Engines = Annotated[Path | None, typer.Option(help="Folder of the TensorRT engines. Default: inside the bundle.")]
CudaGraphs = Annotated[bool, typer.Option("--cuda-graphs/--no-cuda-graphs", help="Replay GPU work as CUDA graphs.")]
F1Data = Annotated[
    list[str] | None,
    typer.Option(help="Labelled data as KIND=FOLDER, as for eval: also measure F1. Workstations only."),
]


def data_folders(texts: list[str]) -> dict[str, Path]:
    """Map each KIND to its FOLDER. Raises RecipeError if a kind is given twice."""
    folders: dict[str, Path] = {}
    for text in texts:
        kind, folder = name_and_value(text, "--data", "KIND=FOLDER")
        if kind in folders:
            raise RecipeError(f"--data {kind} is given twice; give one folder per kind")
        folders[kind] = Path(folder)
    return folders


def name_and_value(text: str, option: str, form: str) -> tuple[str, str]:
    """Split NAME=VALUE. ``form`` is the expected form for the error message, for example "KIND=FOLDER"."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"'{text}' is not of the form {form}", param_hint=option)
    return name, value
