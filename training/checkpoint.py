"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stm_skeletons.errors import WeightsError
from stm_skeletons.files import atomic_write
from training.recipe import Recipe

_VERSION = 1


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Steps of the optimiser done."""
    best: float = -1.0
    """Best validation F1 so far."""
    best_step: int = 0
    stale: int = 0
    """Validations since then."""
    finished: bool = False


@dataclass
class Checkpoint:
    """A run at one point, written whole or not at all."""

    recipe: dict[str, Any]
    """Resolved."""
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    scheduler: dict[str, Any]
    random: dict[str, Tensor]
    """State of PyTorch's generators, by device; the samples' randomness follows from seed and step."""
    progress: Progress = field(default_factory=Progress)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. Raises SinkError; the one that was there before then stays."""
    content = {**vars(checkpoint), "progress": vars(checkpoint.progress), "version": _VERSION}
    # In memory first: PyTorch's own file writer turns a full disk into an error without a name.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path, recipe: Recipe) -> Checkpoint:
    """Read a checkpoint of this very recipe, without unpickling anything but tensors and plain values.

    Raises WeightsError: missing, damaged, or of another recipe (the first value that differs is named).
    """
    if not path.is_file():
        raise WeightsError(f"no checkpoint {path}; start without --resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version = content.pop("version")
        checkpoint = Checkpoint(**{**content, "progress": Progress(**content["progress"])})
    except Exception as error:  # torch raises its own, pickle's, zip's and OS errors for a bad file
        raise WeightsError(f"{path} is no checkpoint, or it is damaged ({type(error).__name__})") from error
    if version != _VERSION:
        raise WeightsError(f"{path} is a checkpoint of version {version}, this is {_VERSION}; start without --resume")
    if difference := _first_difference(checkpoint.recipe, recipe.resolved()):
        raise WeightsError(f"{path} belongs to another recipe: {difference}; start without --resume, or elsewhere")
    return checkpoint


def _first_difference(saved: Any, wanted: Any, where: str = "") -> str:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in sorted({*saved, *wanted}):
            if found := _first_difference(saved.get(key), wanted.get(key), f"{where}.{key}" if where else key):
                return found
        return ""
    return "" if saved == wanted else f"{where} was {saved}, is {wanted}"
