"""What ONNX operators are (their kind) and how many operations they take.

A multiply-add is two operations, as in all published peak rates. Element-wise operators are one operation an output
element, whatever they compute: on the devices of interest they are bound by bytes.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

Kind = Literal[
    "convolution", "depthwise", "matrix product", "sampling", "resize", "element-wise", "reduction", "layout", "other"
]
Shape = tuple[int, ...]

FREE = frozenset({"Constant", "ConstantOfShape", "Shape", "Size", "Identity"}) | frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "DequantizeLinear"}
)
"""They move nothing: names, shapes, and DequantizeLinear, which the convolution behind it takes in."""

_ELEMENT_WISE = """
    Abs Add And BatchNormalization Cast Ceil Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual
    HardSigmoid HardSwish IsNaN LeakyRelu Less LessOrEqual Log Max Min Mod Mul Neg Not Or Pow PRelu QuantizeLinear
    Reciprocal Relu Round Sigmoid Sign Sin Softplus Sqrt Sub Tanh Where
"""
_KINDS: dict[Kind, str] = {
    "convolution": "Conv ConvTranspose",
    "matrix product": "Gemm MatMul",
    "sampling": "GridSample Gather GatherElements GatherND ScatterElements ScatterND",
    "resize": "Resize Upsample",
    "element-wise": _ELEMENT_WISE,
    "reduction": "ArgMax AveragePool GlobalAveragePool GlobalMaxPool InstanceNormalization LayerNormalization "
    "LogSoftmax MaxPool ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Softmax TopK",
    "layout": "Concat DepthToSpace Expand Pad ReorderOutput Slice SpaceToDepth Split Tile Transpose",
}
_KIND_OF: dict[str, Kind] = {op: kind for kind, ops in _KINDS.items() for op in ops.split()}

LINEAR = 7
"""Operations of a bilinear mean of four values: four multiplications and three additions."""
GRID_POINT = 10
"""Operations of a GridSample for each point of its grid: from [-1, 1] to pixels, floor, and four weights."""
SOFTMAX = 5
"""Operations of a softmax for each element: maximum, difference, exponential, sum, division."""


def kind_of(op: str, weight: Shape | None, group: int) -> Kind:
    """The kind of an operator; ``weight`` and ``group`` are those of a convolution [Cout, Cin / group, ...]."""
    if op == "Conv" and weight is not None and group > 1 and weight[1] == 1:
        return "depthwise"
    return _KIND_OF.get(op, "other")


def count_operations(op: str, inputs: Sequence[Shape], output: Shape, attributes: dict[str, Any]) -> int:
    """Operations of one node.

    Args:
        op: ONNX operator.
        inputs: shapes of its inputs, () for those left out.
        output: shape of its first output.
        attributes: of the node, strings as str.
    """
    elements = math.prod(output)
    read = math.prod(inputs[0]) if inputs else 0
    if op == "Conv":
        return 2 * elements * math.prod(inputs[1][1:])
    if op == "ConvTranspose":
        return 2 * read * math.prod(inputs[1][1:])
    if op == "Gemm":
        return 2 * elements * inputs[0][0 if attributes.get("transA", 0) else 1]
    if op == "MatMul":
        return 2 * elements * inputs[0][-1]
    if op == "GridSample":
        points = math.prod(inputs[1][:-1])
        linear = attributes.get("mode", "linear") in ("linear", "bilinear")
        return elements * (LINEAR if linear else 0) + points * GRID_POINT
    if op in ("Resize", "Upsample"):
        return elements * (0 if attributes.get("mode", "nearest") == "nearest" else LINEAR)
    if op in ("Softmax", "LogSoftmax", "InstanceNormalization", "LayerNormalization"):
        return elements * SOFTMAX
    if op == "TopK":  # a heap of k
        return read * max(1, math.ceil(math.log2(max(2, output[int(attributes.get("axis", -1))]))))
    if op in ("MaxPool", "AveragePool"):
        return elements * math.prod(attributes["kernel_shape"])
    if op.startswith(("Reduce", "Global", "Arg")):
        return read * (2 if op == "ReduceL2" else 1)
    if _KIND_OF.get(op) in ("layout", "sampling"):
        return 0
    return elements * (2 if op == "BatchNormalization" else 1)
