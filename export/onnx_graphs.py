"""Modules to ONNX: opset 17, static shapes, names of the bundle's contract."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxslim
import torch
from torch import Tensor, nn

from export.graphs import MemoryEncoder, QueryEncoder, ReadDecoder
from export.moving_picture import moving_picture
from stm_skeletons.bundle import GraphName, TensorSpec
from stm_skeletons.errors import ExportError
from stm_skeletons.geometry import STRIDE
from training.model import SpaceTimeMemory

OPSET = 17
"""TensorRT 8.6 misreads some graphs of opset 18 without an error."""


@dataclass(frozen=True)
class Traced:
    """A graph as a module with example inputs, all by the names of the contract."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@torch.no_grad()
def trace(model: SpaceTimeMemory, height: int, width: int, slots: int, peaks: int) -> dict[GraphName, Traced]:
    """The three graphs of a network at fixed sizes.

    Inputs are those of a picture that moves, with random maps, as a check on the result wants them: in noise every
    place would match every other, and rounding choose between them.
    """
    random = torch.Generator().manual_seed(0)
    *earlier, frame = map(torch.from_numpy, moving_picture(height, width, slots + 1))
    shape = len(model.config.channels), height // STRIDE, width // STRIDE

    # PyTorch's exporter puts a module and all that is in it back into the mode that the outermost was in.
    query_encoder = QueryEncoder(model).eval()
    features = list(model.encode_query(frame[None]).features)
    query = dict(zip(("query_key", "query_value", *features), query_encoder(frame), strict=True))

    memory_encoder = MemoryEncoder(model).eval()

    def source_of(one: Tensor) -> Tensor:
        encoded = zip(("query_key", "query_value", *features), query_encoder(one), strict=True)
        return {"frame": one, **dict(encoded)}[model.memory_source]

    remembered = [memory_encoder(source_of(one), torch.rand(shape, generator=random)) for one in earlier]
    source, maps = source_of(frame), torch.rand(shape, generator=random)
    memory: dict[str, Tensor] = dict(zip(("memory_key", "memory_value"), memory_encoder(source, maps), strict=True))

    read_decoder = ReadDecoder(model, peaks).eval()
    read_inputs = {
        "memory_keys": torch.stack([key for key, _ in remembered]),
        "memory_values": torch.stack([value for _, value in remembered]),
        "memory_valid": torch.arange(slots).remainder(3).ne(1).float(),
        **{name: query[name] for name in ("query_key", "query_value", *model.decoder_features)},
    }
    return {
        "query_encoder": Traced(query_encoder, {"frame": frame}, query),
        "read_decoder": Traced(read_decoder, read_inputs, read_decoder.named(*read_inputs.values())),
        "memory_encoder": Traced(memory_encoder, {model.memory_source: source, "maps": maps}, memory),
    }


def export_graph(traced: Traced, path: Path) -> None:
    """Write a graph as ONNX and simplify it."""
    with warnings.catch_warnings():
        # The tracing exporter is the one that writes opset 17; the newer one starts at 18 and cannot convert down.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding")
        # Shapes are meant to become constants; whether that was right is measured afterwards.
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
        raise ExportError(f"onnxslim gave no model for {path.name}; install a newer onnxslim")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def tensor_specs(tensors: dict[str, Tensor]) -> tuple[TensorSpec, ...]:
    """Names, types and shapes as the bundle records them."""
    return tuple(
        TensorSpec.model_validate(
            {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": tensor.shape}
        )
        for name, tensor in tensors.items()
    )
