"""Weights as safetensors: the tensors, and as metadata the network's configuration and where they came from."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stm_skeletons.errors import WeightsError, one_line
from stm_skeletons.files import atomic_write
from stm_skeletons.strict import Strict
from training.model import build
from training.model.config import ModelConfig
from training.model.network import SpaceTimeMemory

_KEY = "stm_skeletons"


class Provenance(Strict):
    """How a network came to be; saved with its weights."""

    config: ModelConfig
    origin: str
    """Source and licence of the weights, in a sentence."""
    training: dict[str, Any]
    """The resolved training recipe; empty for weights that were only converted, but for the memory of a bundle's."""

    @property
    def memory(self) -> tuple[int, int]:
        """Slots, and every how many frames the ring takes one, that the network was trained for; STM's 6 and 5 where it
        was trained to read all earlier frames."""
        memory = self.training.get("memory", {})
        return (memory["slots"], memory["every"]) if memory.get("slots") else (6, 5)


def save_weights(path: str | Path, model: SpaceTimeMemory, origin: str, training: dict[str, Any] | None = None) -> None:
    """Write a network's weights and where they came from, whole or not at all. Raises SinkError."""
    provenance = Provenance(config=model.config, origin=origin, training=training or {})
    # One key: safetensors writes several in no fixed order, and the same weights are to have the same hash.
    metadata = {_KEY: provenance.model_dump_json()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(Path(path)) as partial:
        partial.write_bytes(save(tensors, metadata))  # safetensors' own writer makes files that only the owner reads


def load_weights(path: str | Path) -> tuple[SpaceTimeMemory, Provenance]:
    """The network in a weights file, in evaluation mode on the CPU, and where it came from.

    Raises WeightsError when the file is missing, damaged, not ours, or its tensors are not the network's.
    """
    tensors, provenance = _read(Path(path))
    model = build(provenance.config)
    load_exactly(model, tensors, path)
    return model.eval(), provenance


def load_provenance(path: str | Path) -> Provenance:
    """Where weights came from. Raises WeightsError when the file is missing, damaged or not ours."""
    return _read(Path(path))[1]


def load_mean(paths: Sequence[str | Path]) -> tuple[SpaceTimeMemory, Provenance]:
    """The mean of several networks' weights, as ``load_weights`` gives one's.

    Of networks trained from the same weights in different ways it is often better than each (Wortsman et al., Model
    soups, 2022). Raises WeightsError as ``load_weights``, or when they are not the same network.
    """
    loaded = [load_weights(path) for path in paths]
    (model, first), others = loaded[0], loaded[1:]
    for path, (_, provenance) in zip(paths[1:], others, strict=True):
        if provenance.config != first.config:
            raise WeightsError(f"{paths[0]} and {path} are not the same network; only weights of one can be averaged")
    if others:
        states = [other.state_dict() for other, _ in loaded]
        mean = {
            name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
            for name, tensor in states[0].items()
        }
        model.load_state_dict(mean)
        first = first.model_copy(update={"origin": _joint_origin([provenance.origin for _, provenance in loaded])})
    return model, first


def _joint_origin(origins: list[str]) -> str:
    """What is the same for all, then what is not."""
    stages = [origin.split("; ") for origin in origins]
    same = [alike[0] for alike in takewhile(lambda alike: len(set(alike)) == 1, zip(*stages, strict=False))]
    others = " and ".join(f"({'; '.join(own[len(same) :])})" for own in stages)
    return "; ".join([*same, f"mean of {others}"])


def load_exactly(model: torch.nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Fill a network; every name and shape must agree. Raises WeightsError with the list of what does not."""
    expected = model.state_dict()
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unknown {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        raise WeightsError(f"{source} does not fit the network: {'; '.join(problems)}")
    model.load_state_dict(tensors)


def _read(path: Path) -> tuple[dict[str, Tensor], Provenance]:
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; 'stm-skeletons init' makes one")
    try:
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or it is damaged ({error})") from error
    if _KEY not in metadata:
        raise WeightsError(f"{path} has no recipe: it was not written by this project; 'stm-skeletons init' converts")
    try:
        return tensors, Provenance.model_validate_json(metadata[_KEY])
    except ValidationError as error:
        raise WeightsError(f"{path} has a damaged recipe: {one_line(error)}") from error
