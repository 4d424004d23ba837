"""Copies that ONNX Runtime's CPU adds to a graph: it computes convolutions in a blocked layout (NCHWc) of its own.

Where tensors get in and out of that layout they are copied once (ReorderInput, ReorderOutput), and so is what a Reshape
or Squeeze makes of a tensor when it is an output of the graph, which has memory of its own. The rules are those of
onnxruntime/core/optimizer/nchwc_transformer.cc.
"""

import tempfile
from pathlib import Path

import onnx
import onnxruntime

from benchmarks.predict.count import Graph, Node, Tensor
from benchmarks.predict.fuse import Kernel
from benchmarks.predict.micro import MICROS, REORDER, SMALL, model

_STAY_BLOCKED = ("Add", "Clip", "Relu", "Sigmoid", "Tanh", "MaxPool", "AveragePool", "GlobalAveragePool")
_ALIGNED = 4
"""Convolutions with another multiple of input channels stay in the plain layout ..."""
_FEW = 16
"""... unless they have fewer than this: an image is read as it is."""


def has_blocked_layout() -> bool:
    """Whether ONNX Runtime makes such copies on this processor (not on every one), seen in what it makes of a graph."""
    proto, _ = model(MICROS["convolution"](SMALL), 1)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # that the file is for this processor alone
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return any(node.op_type == REORDER for node in onnx.load(file).graph.node)


def layout_copies(graph: Graph, blocked_layout: bool = True) -> list[Kernel]:
    """A kernel for each copy; without a blocked layout only those of the outputs are left."""
    reorders = _reorders(graph) if blocked_layout else []
    return reorders + [_copy("Identity", tensor) for tensor in graph.viewed_outputs]


def _reorders(graph: Graph) -> list[Kernel]:
    blocked: set[str] = set()
    copied: dict[str, Tensor] = {}
    """By name; a tensor is copied once, whoever needs it in the other layout."""
    for node in graph.nodes:
        data = [tensor for tensor, _ in node.reads if not tensor.constant]
        if _computes_blocked(node):
            first = node.reads[0][0]
            if first.name not in blocked and _channels(node) >= _FEW:
                copied[first.name] = first
            inside = True
        else:
            inside = node.op in _STAY_BLOCKED and bool(data) and all(one.name in blocked for one in data)
            if not inside:
                copied.update({one.name: one for one in data if one.name in blocked})
        if inside:
            blocked.update(tensor.name for tensor in node.writes)
    made = {tensor.name: tensor for node in graph.nodes for tensor in node.writes}
    copied.update({name: made[name] for name in graph.outputs & blocked})
    return [_copy(REORDER, tensor) for tensor in copied.values()]


def _computes_blocked(node: Node) -> bool:
    if node.op == "Resize":
        return node.operations == 0  # nearest
    return node.op == "Conv" and (_channels(node) % _ALIGNED == 0 or _channels(node) < _FEW)


def _channels(node: Node) -> int:
    return node.reads[0][0].shape[-3]


def _copy(op: str, tensor: Tensor) -> Kernel:
    return Kernel(tensor.name, op, "layout", tensor.dtype.name, 0, 2 * tensor.bytes, 1)
