"""Kernels of an ONNX graph: operations and bytes of what a GPU runs at once.

A multiply-add is two operations, as in published peak rates; of everything but convolutions and matrix products an
output element is one. Nodes are put together about as TensorRT does.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import helper, shape_inference

from stm_skeletons.errors import BenchmarkError, one_line

Kind = Literal["tensor", "depthwise", "other"]
"""What computes it: tensor cores (convolutions, matrix products), or the CUDA cores."""
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
"""They move nothing."""
_CARRIERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_KEEP_APART = {"MaxPool", "AveragePool", "Resize", "TopK"}
"""Kernels of their own; all else joins what it follows."""
_TAKE_PART = {"Gather", "GatherElements", "GatherND", "Slice", "Split"}
"""They read as many elements of their first input as they write."""


@dataclass(frozen=True)
class Kernel:
    """Nodes that run as one."""

    kind: Kind
    half: bool
    """In FP16, not FP32."""
    operations: int
    bytes: int
    """That it reads and writes."""


def kernels(model: onnx.ModelProto) -> list[Kernel]:
    """Of a graph whose shapes are all static. Raises BenchmarkError."""
    return _Graph(model).kernels()


class _Graph:
    """What is known of a graph's tensors, and its nodes that cost something."""

    def __init__(self, model: onnx.ModelProto) -> None:
        try:
            graph = shape_inference.infer_shapes(model, strict_mode=True).graph
        except Exception as error:  # onnx raises its own types from C++
            raise BenchmarkError(f"onnx cannot infer the shapes of {model.graph.name}: {one_line(error)}") from error
        self._outputs = [output.name for output in graph.output]
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._take(value.name, value.type.tensor_type)
        for one in graph.initializer:
            self._shapes[one.name] = tuple(one.dims)
            self._types[one.name] = np.dtype(helper.tensor_dtype_to_np_dtype(one.data_type))
        # What follows from initialisers alone is worked out when a graph is loaded, and costs nothing.
        constants = {initialiser.name for initialiser in graph.initializer}
        self._made_as: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            known = all(name in constants for name in self._inputs(node))
            if known:
                constants.update(node.output)
            if node.op_type in _VIEWS and not known:
                self._made_as[node.output[0]] = self._inputs(node)[0]
            elif not known:
                self._nodes.append(node)
        self._readers = Counter(name for node in self._nodes for name in set(self._inputs(node)))
        self._readers.update(self._made_as.get(name, name) for name in self._outputs)

    def kernels(self) -> list[Kernel]:
        """A node joins what makes its input, if nobody else reads that."""
        maker: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            group: list[onnx.NodeProto] = []
            for name in self._inputs(node):
                before = maker.get(name)
                if before and self._readers[name] == 1 and _joins(node, before, group):
                    group[:0] = before
            group.append(node)
            maker.update({name: group for one in group for name in one.output})
        return [self._kernel(group) for group in {id(group): group for group in maker.values()}.values()]

    def _take(self, name: str, kind: onnx.TypeProto.Tensor) -> None:
        if not all(size.HasField("dim_value") for size in kind.shape.dim):
            raise BenchmarkError(f"{name} has no static shape; only graphs with static shapes can be counted")
        self._shapes[name] = tuple(size.dim_value for size in kind.shape.dim)
        self._types[name] = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))

    def _inputs(self, node: onnx.NodeProto) -> list[str]:
        """Names under which they were made."""
        return [self._made_as.get(name, name) for name in node.input if name]

    def _bytes(self, name: str) -> int:
        return math.prod(self._shapes[name]) * self._types[name].itemsize

    def _kernel(self, group: list[onnx.NodeProto]) -> Kernel:
        made = {name for node in group for name in node.output if name}
        inside = Counter(name for node in group for name in set(self._inputs(node)))
        reads: dict[str, int] = {}
        for node in group:
            for number, name in enumerate(self._inputs(node)):
                if name not in made:
                    part = node.op_type in _TAKE_PART and number == 0
                    size = sum(self._bytes(one) for one in node.output) if part else self._bytes(name)
                    reads[name] = max(size, reads.get(name, 0))
        written = sum(self._bytes(name) for name in made if self._readers[name] > inside[name])
        first = next((node for node in group if node.op_type in _CARRIERS), group[-1])
        return Kernel(
            self._kind(first),
            bool(self._types[first.output[0]] == np.float16),
            sum(map(self._operations, group)),
            sum(reads.values()) + written,
        )

    def _kind(self, node: onnx.NodeProto) -> Kind:
        if node.op_type not in _CARRIERS:
            return "other"
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        return "depthwise" if groups > 1 and self._shapes[node.input[1]][1] == 1 else "tensor"

    def _operations(self, node: onnx.NodeProto) -> int:
        elements = math.prod(self._shapes[node.output[0]])
        shapes = [self._shapes[name] for name in node.input if name]
        if node.op_type == "Conv":
            return 2 * elements * math.prod(shapes[1][1:])
        if node.op_type == "ConvTranspose":
            return 2 * math.prod(shapes[0]) * math.prod(shapes[1][1:])
        if node.op_type == "MatMul":
            return 2 * elements * shapes[0][-1]
        if node.op_type == "Gemm":
            turned = any(one.name == "transA" and one.i for one in node.attribute)
            return 2 * elements * shapes[0][0 if turned else 1]
        return elements


def _joins(node: onnx.NodeProto, before: list[onnx.NodeProto], group: list[onnx.NodeProto]) -> bool:
    """Whether a node runs with what makes its input, and with others that it has joined."""
    if any(node is one for one in before) or any(one is before[-1] for one in group):
        return False
    if node.op_type in _CARRIERS | _KEEP_APART or before[-1].op_type in _KEEP_APART:
        return False
    carriers = sum(one.op_type in _CARRIERS for one in (*before, *group))
    return carriers == 0 or (carriers == 1 and node.op_type not in _TAKE_PART)
