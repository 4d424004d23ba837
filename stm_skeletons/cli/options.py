"""Options that several commands have, each told in one way."""

from pathlib import Path
from typing import Annotated

import typer

Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; all cores unless given.")]
Backend = Annotated[str, typer.Option(help="onnxruntime, or tensorrt (not yet run on a GPU).")]
Provider = Annotated[str, typer.Option(help="Of onnxruntime: cpu, cuda or tensorrt (not yet run on a GPU).")]
Engines = Annotated[Path | None, typer.Option(help="Folder of TensorRT engines; inside the bundle unless given.")]
CudaGraphs = Annotated[bool, typer.Option("--cuda-graphs/--no-cuda-graphs", help="Replay recorded work on the GPU.")]
F1Data = Annotated[
    list[str] | None, typer.Option(help="KIND=FOLDER as for eval: F1 beside the speed. Workstations only.")
]
