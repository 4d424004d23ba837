"""Weights as safetensors: tensors, with the network's configuration and provenance as metadata."""

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
    """Configuration and origin of a network, stored with its weights."""

    config: ModelConfig
    origin: str
    """Source and licence of the weights."""
    training: dict[str, Any]
    """The resolved training recipe. Empty for converted weights; for weights from a bundle, only its memory."""

    @property
    def memory(self) -> tuple[int, int]:
        """``slots`` and ``every`` that the network was trained with; STM's 6 and 5 if it was trained to read all
        earlier frames."""
        memory = self.training.get("memory", {})
        return (memory["slots"], memory["every"]) if memory.get("slots") else (6, 5)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the input that the network was trained with; 448x256 if unknown."""
        data = self.training.get("data", {})
        return data.get("width", 448), data.get("height", 256)


def save_weights(path: str | Path, model: SpaceTimeMemory, origin: str, training: dict[str, Any] | None = None) -> None:
    """Write a network's weights and provenance atomically. Raises SinkError."""
    provenance = Provenance(config=model.config, origin=origin, training=training or {})
    # A single key, because safetensors writes several in arbitrary order, and equal weights should have equal hashes.
    metadata = {_KEY: provenance.model_dump_json()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(Path(path)) as partial:
        partial.write_bytes(save(tensors, metadata))  # safetensors' own writer makes files that only the owner can read


def load_weights(path: str | Path) -> tuple[SpaceTimeMemory, Provenance]:
    """The network of a weights file, in evaluation mode on the CPU, and its provenance.

    Raises WeightsError if the file is missing, damaged, from another program, or its tensors do not fit the network.
    """
    tensors, provenance = _read(Path(path))
    model = build(provenance.config)
    load_exactly(model, tensors, path)
    return model.eval(), provenance


def load_provenance(path: str | Path) -> Provenance:
    """Provenance of a weights file. Raises WeightsError if it is missing, damaged or from another program."""
    return _read(Path(path))[1]


def load_mean(paths: Sequence[str | Path]) -> tuple[SpaceTimeMemory, Provenance]:
    """The network with the mean of several weights files, as ``load_weights``.

    For networks trained from the same weights in different ways, the mean is often better than each of them (Wortsman
    et al., Model soups, 2022). Raises WeightsError as ``load_weights``, or if the networks differ.
    """
    loaded = [load_weights(path) for path in paths]
    (model, first), others = loaded[0], loaded[1:]
    for path, (_, provenance) in zip(paths[1:], others, strict=True):
        if provenance.config != first.config:
            raise WeightsError(f"{paths[0]} and {path} are of different networks, so their mean cannot be computed")
    if others:
        states = [network.state_dict() for network, _ in loaded]
        mean = {
            name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
            for name, tensor in states[0].items()
        }
        model.load_state_dict(mean)
        first = first.model_copy(update={"origin": _joint_origin([provenance.origin for _, provenance in loaded])})
    return model, first


def _joint_origin(origins: list[str]) -> str:
    """The common stages of the origins, then the differing ones."""
    stages = [origin.split("; ") for origin in origins]
    common = [equal[0] for equal in takewhile(lambda equal: len(set(equal)) == 1, zip(*stages, strict=False))]
    others = " and ".join(f"({'; '.join(own[len(common) :])})" for own in stages)
    return "; ".join([*common, f"mean of {others}"])


def load_exactly(model: torch.nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Load tensors into a network. All names and shapes must match; otherwise WeightsError lists the differences."""
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
        raise WeightsError(f"no weights file {path}; make one with 'stm-skeletons init'")
    try:
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file or is damaged ({error})") from error
    if _KEY not in metadata:
        raise WeightsError(
            f"{path} was not written by this project: it has no '{_KEY}' metadata; convert it with 'stm-skeletons init'"
        )
    try:
        return tensors, Provenance.model_validate_json(metadata[_KEY])
    except ValidationError as error:
        raise WeightsError(f"{path} has damaged '{_KEY}' metadata: {one_line(error)}") from error
