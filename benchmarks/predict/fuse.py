"""Nodes to kernels: what a device runs at once, and so reads and writes once."""

from collections import Counter
from dataclasses import dataclass

from benchmarks.predict.count import Graph, Node
from benchmarks.predict.operations import Kind

_CARRIERS: tuple[Kind, ...] = ("convolution", "depthwise", "matrix product")


@dataclass(frozen=True)
class Fusion:
    """What is fused.

    epilogue: element-wise operators that run inside the convolution or matrix product before them, or None for all.
    chains: kinds of nodes that are one kernel with those of these kinds before them.
    """

    epilogue: frozenset[str] | None
    chains: frozenset[Kind]


TENSORRT = Fusion(epilogue=None, chains=frozenset({"element-wise", "layout", "reduction", "sampling"}))
"""As the names of layers of engines show that TensorRT-RTX 1.7 has built (benchmarks.engine_table --layers): for
``edge`` it has 168 kernels, this rule 209: where a place is refined below its cell, many small steps read the same, and
it takes them for kernels of their own. Older TensorRT fuses less."""
ONNX_RUNTIME_CPU = Fusion(epilogue=frozenset({"Add", "BatchNormalization", "Clip", "Relu"}), chains=frozenset())
"""Its NCHWc convolutions take a batch norm, a residual sum and an activation; nothing else is fused."""


@dataclass(frozen=True)
class Kernel:
    """Nodes that run as one. Kind, operator and precision are the first node's; bytes are what passes its outside."""

    name: str
    op: str
    kind: Kind
    precision: str
    operations: int
    bytes: int
    nodes: int


def fuse(graph: Graph, fusion: Fusion) -> list[Kernel]:
    """Kernels of a graph.

    A node joins the kernel that makes one of its inputs if nobody else reads that input: an element-wise node a
    convolution's or matrix product's, if the shape stays the same and the operator is in ``fusion.epilogue``; a node of
    ``fusion.chains`` any that ends with one of these kinds. So a kernel is a tree with one way out, and none waits for
    another that waits for it.
    """
    readers = Counter(tensor.name for node in graph.nodes for tensor in {t.name: t for t, _ in node.reads}.values())
    readers.update(graph.outputs)
    groups: list[list[Node]] = []
    maker: dict[str, list[Node]] = {}
    for node in graph.nodes:
        joined = _joined(node, maker, readers, fusion)
        group = joined[0] if joined else []
        for other in joined[1:]:  # a tree whose branches meet here
            group += other
            groups = [one for one in groups if one is not other]
            maker.update({tensor.name: group for one in other for tensor in one.writes})
        if not joined:
            groups.append(group)
        group.append(node)
        maker.update({tensor.name: group for tensor in node.writes})
    return [_kernel(group, readers) for group in groups]


def _joined(node: Node, maker: dict[str, list[Node]], readers: Counter[str], fusion: Fusion) -> list[list[Node]]:
    """The kernels that the node becomes part of: one with a convolution or matrix product, or any number of chains."""
    found: list[list[Node]] = []
    for tensor, _ in node.reads:
        group = maker.get(tensor.name)
        if group is not None and readers[tensor.name] == 1 and not any(group is one for one in found):
            same = tensor.elements == node.writes[0].elements
            if group[0].kind in _CARRIERS:
                epilogue = fusion.epilogue is None or node.op in fusion.epilogue
                if node.kind == "element-wise" and same and epilogue:
                    return [group]
            elif node.kind in fusion.chains and group[-1].kind in fusion.chains:
                found.append(group)
    return found


def _kernel(group: list[Node], readers: Counter[str]) -> Kernel:
    made = {tensor.name for node in group for tensor in node.writes}
    # What two nodes of a kernel read is read once, in the larger of their parts.
    reads: dict[str, int] = {}
    inside: Counter[str] = Counter()
    for node in group:
        for tensor, count in {tensor.name: (tensor, count) for tensor, count in node.reads}.values():
            inside[tensor.name] += 1
            if tensor.name not in made:
                reads[tensor.name] = max(count, reads.get(tensor.name, 0))
    written = [tensor for node in group for tensor in node.writes if readers[tensor.name] > inside[tensor.name]]
    # A last tensor that nobody reads is written all the same.
    total = sum(reads.values()) + sum(tensor.bytes for tensor in written or group[-1].writes)
    first = group[0]
    operations = sum(node.operations for node in group)
    return Kernel(first.name, first.op, first.kind, first.precision, operations, total, len(group))
