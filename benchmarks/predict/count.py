"""Counts the operations and bytes of an ONNX graph's kernels, that is, of the nodes that a GPU runs fused.

A multiply-add counts as two operations, as in published peak rates. Other nodes count as one operation for each output
element. Nodes are fused roughly as TensorRT does.
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
"""Unit that computes a kernel: tensor cores (convolutions, matrix products) or CUDA cores (the others)."""
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
"""Nodes that move no data."""
_MATRIX_NODES = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_NEVER_FUSED = {"MaxPool", "AveragePool", "Resize", "TopK"}
"""Nodes that are always separate kernels; other nodes can be fused with the nodes they follow."""
_PARTIAL_READERS = {"Gather", "GatherElements", "GatherND", "Slice", "Split"}
"""Nodes that read only as many elements of their first input as they write."""


@dataclass(frozen=True)
class Kernel:
    """Nodes that run fused."""

    kind: Kind
    half: bool
    """FP16 instead of FP32."""
    operations: int
    bytes: int
    """Bytes read and written."""


def kernels(model: onnx.ModelProto) -> list[Kernel]:
    """Kernels of a graph. Raises BenchmarkError if a shape is not static."""
    return _Graph(model).kernels()


class _Graph:
    """A graph's tensors, and its nodes that take time."""

    def __init__(self, model: onnx.ModelProto) -> None:
        try:
            graph = shape_inference.infer_shapes(model, strict_mode=True).graph
        except Exception as error:  # onnx raises its own types from C++
            raise BenchmarkError(f"onnx cannot infer the shapes of {model.graph.name}: {one_line(error)}") from error
        self._outputs = [output.name for output in graph.output]
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._add_tensor(value.name, value.type.tensor_type)
        for initialiser in graph.initializer:
            self._shapes[initialiser.name] = tuple(initialiser.dims)
            self._types[initialiser.name] = np.dtype(helper.tensor_dtype_to_np_dtype(initialiser.data_type))
        # Nodes that depend on initialisers alone are folded when a graph is loaded and take no time.
        constants = {initialiser.name for initialiser in graph.initializer}
        self._aliases: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            is_constant = all(name in constants for name in self._inputs(node))
            if is_constant:
                constants.update(node.output)
            if node.op_type in _VIEWS and not is_constant:
                self._aliases[node.output[0]] = self._inputs(node)[0]
            elif not is_constant:
                self._nodes.append(node)
        self._readers = Counter(name for node in self._nodes for name in set(self._inputs(node)))
        self._readers.update(self._aliases.get(name, name) for name in self._outputs)

    def kernels(self) -> list[Kernel]:
        """The nodes fused into kernels: a node is fused with the producer of an input that no other node reads."""
        producer: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            group: list[onnx.NodeProto] = []
            for name in self._inputs(node):
                before = producer.get(name)
                if before and self._readers[name] == 1 and _can_fuse(node, before, group):
                    group[:0] = before
            group.append(node)
            producer.update({name: group for member in group for name in member.output})
        return [self._kernel(group) for group in {id(group): group for group in producer.values()}.values()]

    def _add_tensor(self, name: str, kind: onnx.TypeProto.Tensor) -> None:
        if not all(size.HasField("dim_value") for size in kind.shape.dim):
            raise BenchmarkError(f"{name} has no static shape; only graphs with static shapes can be counted")
        self._shapes[name] = tuple(size.dim_value for size in kind.shape.dim)
        self._types[name] = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))

    def _inputs(self, node: onnx.NodeProto) -> list[str]:
        """Names of a node's inputs, with views replaced by the tensor they view."""
        return [self._aliases.get(name, name) for name in node.input if name]

    def _bytes(self, name: str) -> int:
        return math.prod(self._shapes[name]) * self._types[name].itemsize

    def _kernel(self, group: list[onnx.NodeProto]) -> Kernel:
        outputs = {name for node in group for name in node.output if name}
        inner_readers = Counter(name for node in group for name in set(self._inputs(node)))
        reads: dict[str, int] = {}
        for node in group:
            for number, name in enumerate(self._inputs(node)):
                if name not in outputs:
                    partial = node.op_type in _PARTIAL_READERS and number == 0
                    size = sum(self._bytes(output) for output in node.output) if partial else self._bytes(name)
                    reads[name] = max(size, reads.get(name, 0))
        written = sum(self._bytes(name) for name in outputs if self._readers[name] > inner_readers[name])
        main = next((node for node in group if node.op_type in _MATRIX_NODES), group[-1])
        return Kernel(
            self._kind(main),
            bool(self._types[main.output[0]] == np.float16),
            sum(map(self._operations, group)),
            sum(reads.values()) + written,
        )

    def _kind(self, node: onnx.NodeProto) -> Kind:
        if node.op_type not in _MATRIX_NODES:
            return "other"
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
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
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            return 2 * elements * shapes[0][0 if transposed else 1]
        return elements


def _can_fuse(node: onnx.NodeProto, before: list[onnx.NodeProto], group: list[onnx.NodeProto]) -> bool:
    """Whether a node can be fused with ``before``, the kernel of its input, and ``group``, with which it is fused."""
    if any(node is member for member in before) or any(member is before[-1] for member in group):
        return False
    if node.op_type in _MATRIX_NODES | _NEVER_FUSED or before[-1].op_type in _NEVER_FUSED:
        return False
    matrix_nodes = sum(member.op_type in _MATRIX_NODES for member in (*before, *group))
    return matrix_nodes == 0 or (matrix_nodes == 1 and node.op_type not in _PARTIAL_READERS)
