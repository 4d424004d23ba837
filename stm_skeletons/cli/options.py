"""Options that several commands have, each told in one way."""

from pathlib import Path
from typing import Annotated

import typer

from stm_skeletons.errors import RecipeError

Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; all cores unless given.")]
Backend = Annotated[
    str,
    typer.Option(
        help="auto (the fastest CPU backend that is installed), onnxruntime, openvino (CPUs; extra [openvino]) or "
        "tensorrt (not yet run on a GPU)."
    ),
]
Provider = Annotated[str, typer.Option(help="Of onnxruntime: cpu, cuda or tensorrt (not yet run on a GPU).")]
Engines = Annotated[Path | None, typer.Option(help="Folder of TensorRT engines; inside the bundle unless given.")]
CudaGraphs = Annotated[bool, typer.Option("--cuda-graphs/--no-cuda-graphs", help="Replay recorded work on the GPU.")]
F1Data = Annotated[
    list[str] | None, typer.Option(help="KIND=FOLDER as for eval: F1 beside the speed. Workstations only.")
]


def data_folders(texts: list[str]) -> dict[str, Path]:
    """By kind, of KIND=FOLDER. Raises RecipeError for a kind that is given twice."""
    folders: dict[str, Path] = {}
    for text in texts:
        kind, folder = name_and_value(text, "--data", "KIND=FOLDER")
        if kind in folders:
            raise RecipeError(f"--data {kind} is given twice; one folder for each kind")
        folders[kind] = Path(folder)
    return folders


def name_and_value(text: str, option: str, form: str) -> tuple[str, str]:
    """Both sides of NAME=VALUE, which ``form`` is for the reader."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"'{text}' is not {form}", param_hint=option)
    return name, value
