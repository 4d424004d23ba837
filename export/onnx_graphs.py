"""Modules to ONNX: opset 17, static shapes, the bundle's tensor names."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from torch import Tensor, nn

from export.graphs import MemoryEncoder, QueryEncoder, ReadDecoder
from export.synthetic_frames import synthetic_frames
from stm_skeletons.bundle import GraphName, TensorSpec
from stm_skeletons.errors import ExportError
from stm_skeletons.geometry import STRIDE
from training.model import SpaceTimeMemory

OPSET = 17
"""TensorRT 8.6 silently misreads some graphs of opset 18."""


@dataclass(frozen=True)
class Traced:
    """A graph as a module with example inputs and outputs, by the bundle's tensor names."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@torch.no_grad()
def trace(
    model: SpaceTimeMemory, height: int, width: int, slots: int, peaks: int, batch: int = 1
) -> dict[GraphName, Traced]:
    """Trace the three graphs of a network at fixed sizes; the encoders take a batch of ``batch`` frames.

    Inputs are synthetic images with random maps. In noise every place would match every other, and rounding would
    decide between them, so results could not be verified.
    """
    random = torch.Generator().manual_seed(0)
    batched = batch > 1
    images = torch.from_numpy(np.stack(list(synthetic_frames(height, width, batch))))
    rows = torch.rand(batch, len(model.config.channels), height // STRIDE, width // STRIDE, generator=random)
    frame, maps = (images, rows) if batched else (images[0], rows[0])

    # PyTorch's exporter resets a module and its children to the mode of the outermost module.
    query_encoder = QueryEncoder(model, batched).eval()
    features = list(model.encode_query(images[:1]).features)
    query = dict(zip(("query_key", "query_value", *features), query_encoder(frame), strict=True))

    memory_encoder = MemoryEncoder(model, batched).eval()
    source = {"frame": frame, **query}[model.memory_source]
    memory: dict[str, Tensor] = dict(zip(("memory_key", "memory_value"), memory_encoder(source, maps), strict=True))

    read_decoder = ReadDecoder(model, peaks).eval()
    one = {name: tensor[0] if batched else tensor for name, tensor in {**query, **memory}.items()}
    read_inputs = {
        "memory_keys": _noisy(one["memory_key"], slots, random),
        "memory_values": _noisy(one["memory_value"], slots, random),
        "memory_valid": torch.arange(slots).remainder(3).ne(1).float(),
        **{name: one[name] for name in ("query_key", "query_value", *model.decoder_features)},
    }
    return {
        "query_encoder": Traced(query_encoder, {"frame": frame}, query),
        "read_decoder": Traced(read_decoder, read_inputs, read_decoder.named(*read_inputs.values())),
        "memory_encoder": Traced(memory_encoder, {model.memory_source: source, "maps": maps}, memory),
    }


def _noisy(slot: Tensor, slots: int, random: torch.Generator) -> Tensor:
    """Return ``slots`` different slots of the given slot's type and about its scale.

    The noise is small compared with the slot: ``edge``'s keys are unit vectors, and larger noise would demand more of
    FP16 than real frames do.
    """
    noise = slot.float().std() / 4 * torch.randn(slots, *slot.shape, generator=random)
    return slot + noise.to(slot)


def export_graph(traced: Traced, path: Path) -> None:
    """Write a graph as ONNX and simplify it."""
    with warnings.catch_warnings():
        # Only the tracing exporter writes opset 17; the newer one starts at 18 and cannot convert down.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding")
        # Shapes become constants on purpose; verification follows.
        warnings.filterwarnings("ignore", message="(?s).*trace")
        torch.onnx.export(
            traced.module,
            tuple(traced.inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(traced.inputs),
            output_names=list(traced.outputs),
        )
    model = onnxslim.slim(str(path))
    if not isinstance(model, onnx.ModelProto):
        raise ExportError(f"onnxslim returned no model for {path.name}; install a newer onnxslim")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def tensor_specs(tensors: dict[str, Tensor]) -> tuple[TensorSpec, ...]:
    """Return names, types and shapes as recorded in the bundle."""
    return tuple(
        TensorSpec.model_validate(
            {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": tensor.shape}
        )
        for name, tensor in tensors.items()
    )
