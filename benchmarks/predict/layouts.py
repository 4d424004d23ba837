"""Copies that ONNX Runtime's CPU adds to a graph: it computes convolutions in a blocked layout (NCHWc) of its own.

Where tensors get in and out of that layout they are copied once (ReorderInput, ReorderOutput), and so is what a Reshape
or Squeeze makes of a tensor when it is an output of the graph, which has memory of its own. The rules are those of
onnxruntime/core/optimizer/nchwc_transformer.cc.
"""

from benchmarks.predict.count import Graph, Node, Tensor
from benchmarks.predict.fuse import Kernel

_STAY_BLOCKED = ("Add", "Clip", "Relu", "Sigmoid", "Tanh", "MaxPool", "AveragePool", "GlobalAveragePool")
_ALIGNED = 4
"""Convolutions with another multiple of input channels stay in the plain layout ..."""
_FEW = 16
"""... unless they have fewer than this: an image is read as it is."""


def layout_copies(graph: Graph) -> list[Kernel]:
    """A kernel for each copy."""
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
    reorders = [_copy("Transpose", tensor) for tensor in copied.values()]
    return reorders + [_copy("Identity", tensor) for tensor in graph.viewed_outputs]


def _computes_blocked(node: Node) -> bool:
    if node.op == "Resize":
        return node.operations == 0  # nearest
    return node.op == "Conv" and (_channels(node) % _ALIGNED == 0 or _channels(node) < _FEW)


def _channels(node: Node) -> int:
    return node.reads[0][0].shape[-3]


def _copy(op: str, tensor: Tensor) -> Kernel:
    return Kernel(tensor.name, op, "layout", tensor.dtype.name, 0, 2 * tensor.bytes, 1)
