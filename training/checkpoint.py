"""Checkpoints: the complete state of a run, from which it continues exactly."""

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
    """Progress of a run."""

    step: int = 0
    """Completed steps of the optimiser."""
    first: float | None = None
    """Validation F1 before the first step."""
    last: float | None = None
    """The latest validation F1."""
    best: float = -1.0
    """Best validation F1 so far."""
    best_step: int = 0
    stale: int = 0
    """Validations since the best one."""
    finished: bool = False


@dataclass
class Checkpoint:
    """The state of a run."""

    recipe: dict[str, Any]
    """The resolved recipe."""
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    scheduler: dict[str, Any]
    random: dict[str, Tensor]
    """State of PyTorch's generators by device. The samples' randomness depends on seed and step only."""
    progress: Progress = field(default_factory=Progress)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically. Raises SinkError, and keeps the previous checkpoint then."""
    content = {**vars(checkpoint), "progress": vars(checkpoint.progress), "version": _VERSION}
    # To memory first: PyTorch's file writer reports a full disk as an unspecific error.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path, recipe: Recipe) -> Checkpoint:
    """Read a checkpoint of this recipe. Only tensors and plain values are unpickled.

    Raises WeightsError if it is missing, damaged, or of another recipe (the error names the first difference).
    """
    if not path.is_file():
        raise WeightsError(f"checkpoint {path} does not exist; start without --resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version = content.pop("version")
        checkpoint = Checkpoint(**{**content, "progress": Progress(**content["progress"])})
    except Exception as error:  # torch raises its own, pickle's, zip's and OS errors for a bad file
        raise WeightsError(
            f"{path} is not a checkpoint or is damaged ({type(error).__name__}); start with another --out"
        ) from error
    if version != _VERSION:
        raise WeightsError(
            f"{path} is a checkpoint of version {version}, this program reads {_VERSION}; start with another --out"
        )
    if difference := _first_difference(checkpoint.recipe, recipe.resolved()):
        raise WeightsError(f"{path} belongs to another recipe: {difference}; start with another --out")
    return checkpoint


def _first_difference(saved: Any, wanted: Any, where: str = "") -> str:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in sorted({*saved, *wanted}):
            if found := _first_difference(saved.get(key), wanted.get(key), f"{where}.{key}" if where else key):
                return found
        return ""
    return "" if saved == wanted else f"{where} was {saved}, is {wanted}"
