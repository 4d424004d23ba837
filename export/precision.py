"""FP16: a half-precision network with islands of FP32 where half precision is not enough.

TensorRT 11 and TensorRT-RTX take every type from the graph, so the graph states them all. Weights and tensors between
layers are FP16. FP32 are: standardisation, attention logits and softmax, ``edge``'s motion and mixing of slots, the
maps' sigmoid and everything after it (peaks, edge scores). Indices are integers.

bf16 is simpler: its graphs are FP32, and the backend runs their convolutions in bf16 (runtime.backends.openvino).
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, shape_inference
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from stm_skeletons.errors import ExportError
from training.model import QueryEncoding, SpaceTimeMemory
from training.model.network import read_memory_in_heads
from training.model.resnet import FrozenBatchNorm2d
from training.model.session import TorchSession

_BATCH_NORM_EPS = 1e-5
"""PyTorch's default, which FrozenBatchNorm2d uses."""
_PRODUCTS = (torch.conv2d, torch.nn.functional.linear, Tensor.matmul, Tensor.__matmul__)
SUMMED_AT_ONCE = 8
"""Products that a tensor core of Ampere (A100) adds before it rounds; Volta and Turing: 4, Hopper: 16 (Fasi et al.,
Numerical behavior of NVIDIA tensor cores, 2021; Khattak and Mikaitis, Accurate models of NVIDIA tensor cores, 2025)."""
_FLOATS: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64"}


class HalfPrecision(SpaceTimeMemory):
    """A network in FP16 with the same methods. Logits are FP32, all other float tensors FP16."""

    def __init__(self, model: SpaceTimeMemory) -> None:
        """Copies ``model``. Raises ExportError if a weight is too large for FP16."""
        super().__init__(model.config)
        self.memory_source, self.decoder_features = model.memory_source, model.decoder_features
        self.model = copy.deepcopy(model)
        _fold_batch_norms(self.model)
        _standardise_in_fp32(self.model)
        self.model.attention = read_memory_in_heads  # type: ignore[method-assign]
        self.model.half()
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise ExportError(f"{name} exceeds the range of FP16; export with --precision fp32")
        self.eval()

    def encode_query(self, frame: Tensor) -> QueryEncoding:
        return self.model.encode_query(frame)

    def encode_memory(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encode_memory(source, maps.half())

    def decode(self, read: Tensor, query: QueryEncoding) -> Tensor:
        return self.model.decode(read, query).float()

    def read(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        return self.model.read(query, keys, values, valid)

    def detect(
        self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor, count: int
    ) -> dict[str, Tensor]:
        return self.model.detect(query, keys, values, valid, count)


class AccumulateInFp32(TorchFunctionMode):
    """Within it, products of FP16 tensors (convolutions, matrix products) are summed in FP32 and rounded once.

    This is what a GPU does with FP32 accumulators: FP16 between kernels, FP32 inside one. PyTorch's own FP16 CPU
    kernels differ between processors, and take seconds per frame on processors without FP16 instructions.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func not in _PRODUCTS or args[0].dtype != torch.float16:
            return func(*args, **(kwargs or {}))
        wide = [value.float() if isinstance(value, Tensor) else value for value in args]
        return func(*wide, **(kwargs or {})).half()


class AccumulateInFp16(TorchFunctionMode):
    """Within it, the same sums are rounded to FP16 after every SUMMED_AT_ONCE products.

    This is what a GPU does with FP16 accumulators. TensorRT uses them where they are faster, and a graph cannot forbid
    it. Products are summed in PyTorch's order, the bias last.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func not in _PRODUCTS or args[0].dtype != torch.float16:
            return func(*args, **(kwargs or {}))
        return _rounding_sums(func, *args, **(kwargs or {}))


def _rounding_sums(func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Any) -> Tensor:
    """A convolution, linear layer or matrix product (x, weight: FP16) with FP16 accumulation."""
    if func is torch.conv2d:
        total = _convolution(x, weight, *geometry)
        bias = None if bias is None else bias[:, None, None]
    else:
        total = _product(x.float(), (weight.T if func is torch.nn.functional.linear else weight).float())
    return (total if bias is None else total + bias.float()).half()


def _convolution(
    x: Tensor, weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """x [N, C, H, W], weight [O, C / groups, kh, kw] in FP16 -> [N, O, H', W'] in FP32."""
    meta = torch.nn.functional.conv2d(x.to("meta"), weight.to("meta"), None, stride, padding, dilation, groups)
    columns = torch.nn.functional.unfold(x.float(), weight.shape[2:], dilation, padding, stride)
    kernels = weight.float().reshape(groups, weight.shape[0] // groups, -1)
    return _product(kernels, columns.reshape(len(x), groups, kernels.shape[2], -1)).reshape(meta.shape)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """[..., M, K] and [..., K, N], FP16 numbers in FP32 -> [..., M, N]."""
    total = torch.zeros(()).half()
    for start in range(0, a.shape[-1], SUMMED_AT_ONCE):
        end = start + SUMMED_AT_ONCE
        total = (total + a[..., start:end] @ b[..., start:end, :]).half()
    return total.float()


class HalfPrecisionSession(TorchSession):
    """A ``TorchSession`` of a HalfPrecision network that rounds like a GPU, see AccumulateInFp32."""

    sums: type[TorchFunctionMode] = AccumulateInFp32

    def step(self, frame: NDArray[np.uint8]) -> None:
        with self.sums():
            super().step(frame)


class Fp16AccumulationSession(HalfPrecisionSession):
    """A HalfPrecisionSession that rounds like a GPU with FP16 accumulators, see AccumulateInFp16."""

    sums = AccumulateInFp16


def torch_session(model: SpaceTimeMemory, slots: int, every: int) -> TorchSession:
    """Return the session that runs a network of either precision."""
    kind = HalfPrecisionSession if isinstance(model, HalfPrecision) else TorchSession
    return kind(model, slots, every)


class _StandardInFp32(nn.Module):
    """A batch normalisation without weights on FP16 features: FP32 arithmetic between two casts.

    Mean and variance are not buffers, so they stay FP32 when the network is halved.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        scale = torch.rsqrt(variance + norm.eps)
        self._scale, self._shift = scale[:, None, None], (-mean * scale)[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() * self._scale + self._shift).to(x)


def _standardise_in_fp32(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and not child.affine:
            setattr(module, name, _StandardInFp32(child))
        else:
            _standardise_in_fp32(child)


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold normalisations into the preceding convolutions in FP32, so that weights are rounded only once and a variance
    outside FP16's range does no harm."""
    convolution = None
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d) and isinstance(convolution, nn.Conv2d):
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                child.running_mean,
                child.running_var,
                _BATCH_NORM_EPS,
                child.weight,
                child.bias,
            )
            setattr(module, name, nn.Identity())
        else:
            _fold_batch_norms(child)
        convolution = child


def check_types(path: Path) -> None:
    """Raise ExportError if a node of an FP16 graph mixes float types, which strong typing forbids."""
    if mixed := mixed_float_nodes(onnx.load(path)):
        raise ExportError(f"{path} mixes float types in {', '.join(mixed[:3])}; this is a bug in the network's code")


def mixed_float_nodes(model: onnx.ModelProto) -> list[str]:
    """Return nodes whose float inputs have different types, as "Add /decode/Add (float16, float32)"."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {info.name: info.type.tensor_type.elem_type for info in (*graph.input, *graph.value_info, *graph.output)}
    mixed = []
    for node in graph.node:
        inputs = node.input[:1] if node.op_type == "Resize" else node.input  # its scales are FP32 by ONNX's definition
        floats = sorted({_FLOATS[types[name]] for name in inputs if types.get(name, 0) in _FLOATS})
        if len(floats) > 1:
            mixed.append(f"{node.op_type} {node.name} ({', '.join(floats)})")
    return mixed
