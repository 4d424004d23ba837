"""Operations and bytes of every node of an ONNX graph, from the graph itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from benchmarks.predict.operations import FREE, Kind, count_operations, kind_of
from stm_skeletons.errors import BenchmarkError, one_line

_TAKES_PART = ("Gather", "GatherElements", "GatherND", "Slice")
"""They read as many elements of their first input as they write, not all of it."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph. ``constant``: known when the graph is loaded."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    constant: bool

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Node:
    """A node that costs something.

    ``reads`` has each tensor with the bytes of it that are read. What only has another name or shape (Reshape,
    Squeeze, DequantizeLinear ...) is left out, and the tensors are those it was made from.
    """

    name: str
    op: str
    kind: Kind
    precision: str
    """Type that it computes in: float32, float16 or int8."""
    operations: int
    reads: tuple[tuple[Tensor, int], ...]
    writes: tuple[Tensor, ...]


@dataclass(frozen=True)
class Graph:
    """The nodes in the order in which they run, and the tensors that leave the graph.

    viewed_outputs: those of them that leave it under another name or shape than they were made in.
    """

    nodes: tuple[Node, ...]
    outputs: frozenset[str]
    viewed_outputs: tuple[Tensor, ...] = ()

    @property
    def operations(self) -> int:
        return sum(node.operations for node in self.nodes)


def count_graph(model: onnx.ModelProto) -> Graph:
    """Count a graph whose shapes are all static.

    What follows from initialisers alone is folded when a graph is loaded: it costs nothing, and its result is a weight
    of the type that it then has (so FP16 weights that are cast to FP32 are read as FP32).

    Raises:
        BenchmarkError: a tensor has no static shape.
    """
    reader = _Reader(model)
    nodes = [node for proto in reader.graph.node if (node := reader.take(proto)) is not None]
    outputs = {output.name: reader.tensors[output.name] for output in reader.graph.output}
    viewed = tuple(tensor for name, tensor in outputs.items() if tensor.name != name)
    return Graph(tuple(nodes), frozenset(tensor.name for tensor in outputs.values()), viewed)


class _Reader:
    """Tensors met so far, while the nodes are gone through in order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        try:
            inferred = shape_inference.infer_shapes(model, strict_mode=True)
        except Exception as error:  # onnx raises its own types from C++
            raise BenchmarkError(f"onnx cannot infer the shapes of {model.graph.name}: {one_line(error)}") from error
        self.graph = inferred.graph
        self._values = {value.name: value for value in (*self.graph.value_info, *self.graph.output)}
        self.tensors: dict[str, Tensor] = {}
        """By name; a tensor that is only another view of one has that one here."""
        for value in self.graph.input:
            self.tensors[value.name] = _tensor(value, constant=False)
        for initialiser in self.graph.initializer:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(initialiser.data_type))
            self.tensors[initialiser.name] = Tensor(initialiser.name, tuple(initialiser.dims), dtype, True)

    def take(self, proto: onnx.NodeProto) -> Node | None:
        """The node, or None where it costs nothing."""
        inputs = [self.tensors[name] for name in proto.input if name]
        constant = all(tensor.constant for tensor in inputs)
        outputs = [self._output(proto, name, constant) for name in proto.output if name]
        # A quantised weight stays one: the convolution takes it in as it is.
        view = inputs and (proto.op_type == "DequantizeLinear" or (proto.op_type in FREE and not constant))
        for name, tensor in zip((name for name in proto.output if name), outputs, strict=True):
            self.tensors[name] = inputs[0] if view else tensor
        if constant or view or proto.op_type in FREE:
            return None
        attributes = {one.name: _plain(one) for one in proto.attribute}
        # Operators' own rules need the shapes that the graph gives them, not those of the tensors behind a Reshape.
        shapes = [self._shape(name) for name in proto.input]
        weight = shapes[1] if proto.op_type == "Conv" else None
        return Node(
            proto.name or outputs[0].name,
            proto.op_type,
            kind_of(proto.op_type, weight, attributes.get("group", 1)),
            _precision(inputs, outputs[0]),
            count_operations(proto.op_type, shapes, outputs[0].shape, attributes),
            _reads(proto.op_type, inputs, outputs),
            tuple(outputs),
        )

    def _output(self, proto: onnx.NodeProto, name: str, constant: bool) -> Tensor:
        if proto.op_type == "Constant":
            array = numpy_helper.to_array(proto.attribute[0].t) if proto.attribute[0].HasField("t") else np.zeros(1)
            return Tensor(name, array.shape, array.dtype, True)
        if name not in self._values:
            raise BenchmarkError(f"the shape of {name} ({proto.op_type}) cannot be inferred; export the bundle again")
        return _tensor(self._values[name], constant)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self._values:
            return _tensor(self._values[name], constant=False).shape
        return self.tensors[name].shape if name else ()


def _tensor(value: onnx.ValueInfoProto, constant: bool) -> Tensor:
    kind = value.type.tensor_type
    if not kind.HasField("shape") or not all(size.HasField("dim_value") for size in kind.shape.dim):
        raise BenchmarkError(f"{value.name} has no static shape; only graphs with static shapes can be counted")
    shape = tuple(size.dim_value for size in kind.shape.dim)
    return Tensor(value.name, shape, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)), constant)


def _plain(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _precision(inputs: Sequence[Tensor], output: Tensor) -> str:
    """Behind DequantizeLinear the inputs are the quantised tensors themselves, so their type is what is computed in."""
    if len(inputs) > 1 and all(tensor.dtype in (np.int8, np.uint8) for tensor in inputs[:2]):
        return "int8"
    return "float16" if output.dtype == np.float16 else "float32"


def _reads(op: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[tuple[Tensor, int], ...]:
    if op in _TAKES_PART:
        return ((inputs[0], sum(tensor.bytes for tensor in outputs)), *((one, one.bytes) for one in inputs[1:]))
    if op == "Split":
        return ((inputs[0], sum(tensor.bytes for tensor in outputs)),)
    return tuple((tensor, tensor.bytes) for tensor in inputs)
