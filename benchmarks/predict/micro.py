"""Tiny ONNX graphs of one operator each, whose speed tells what ONNX Runtime's kernels do on a machine.

Sizes are typical of networks for boards, in a small and a large variant; none is taken from the graphs that are
predicted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
REORDER = "ReorderOutput"
_NCHWC = "com.microsoft.nchwc"
"""Where that operator is from. ONNX Runtime's CPU puts it into graphs itself (layouts.py); a graph may name it too."""
Shape = tuple[int, ...]
Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Micro:
    """One operator at one size.

    shapes: of its data inputs; constants: of weights and parameters behind them; chain: copies run one behind the
    other and not side by side: convolutions, which would otherwise be timed with the change of layout around them, and
    element-wise operators, which in a graph find in the cache what the one before has just written.
    """

    op: str
    shapes: tuple[Shape, ...]
    constants: tuple[np.ndarray, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    chain: bool = False
    whole: int = 0
    """Inputs from this number on are integers below this operator's bound; 0: none."""
    bound: int = 0
    domain: str = ""
    """Of the operator; outputs outside ONNX's own have the shape of the first input."""


def model(micro: Micro, copies: int) -> tuple[onnx.ModelProto, Feeds]:
    """A graph with so many copies of the operator, each with inputs of its own (or the one before's output)."""
    random = np.random.default_rng(0)
    feeds: Feeds = {}
    nodes, outputs = [], []
    constants = [numpy_helper.from_array(array, f"c{i}") for i, array in enumerate(micro.constants)]
    previous = ""
    for copy in range(copies):
        names = []
        for number, shape in enumerate(micro.shapes):
            if number == 0 and micro.chain and previous:
                names.append(previous)
                continue
            name = f"x{copy}_{number}"
            if micro.whole and number >= micro.whole:
                feeds[name] = random.integers(0, micro.bound, shape)
            else:
                feeds[name] = random.random(shape, np.float32)  # positive, so that logarithms are numbers
            names.append(name)
        # TopK has a second output; both are made, as in a graph that asks for both.
        made = [f"y{copy}", f"z{copy}"] if micro.op == "TopK" else [f"y{copy}"]
        names += [constant.name for constant in constants]
        attributes = dict(micro.attributes)
        nodes.append(helper.make_node(micro.op, names, made, name=f"n{copy}", domain=micro.domain, **attributes))
        previous = made[0]
        if not micro.chain or copy == copies - 1:
            outputs += made
    inputs = [helper.make_tensor_value_info(name, _type(array), array.shape) for name, array in feeds.items()]
    if micro.domain:  # onnx cannot infer them
        last = [helper.make_tensor_value_info(name, TensorProto.FLOAT, micro.shapes[0]) for name in outputs]
    else:
        last = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, micro.op, inputs, last, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_NCHWC, 1)]
    made_model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(made_model, strict_mode=True)
    onnx.checker.check_model(inferred)
    return inferred, feeds


def _type(array: np.ndarray) -> int:
    return TensorProto.INT64 if array.dtype == np.int64 else TensorProto.FLOAT


def _same(op: str, inputs: int, chain: bool = True, **attributes: Any) -> Callable[[Shape], Micro]:
    """An operator whose inputs all have the one shape."""
    return lambda shape: Micro(op, (shape,) * inputs, attributes=tuple(attributes.items()), chain=chain)


def _weights(*shape: int) -> np.ndarray:
    fan_in = int(np.prod(shape[1:]))
    return (np.random.default_rng(1).standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def _convolution(shape: Shape) -> Micro:
    return Micro("Conv", (shape,), (_weights(shape[1], shape[1], 1, 1),), chain=True)


def _convolution_3x3(shape: Shape) -> Micro:
    return Micro("Conv", (shape,), (_weights(shape[1], shape[1], 3, 3),), (("pads", [1, 1, 1, 1]),), chain=True)


def _depthwise(shape: Shape) -> Micro:
    attributes = (("group", shape[1]), ("pads", [1, 1, 1, 1]))
    return Micro("Conv", (shape,), (_weights(shape[1], 1, 3, 3),), attributes, chain=True)


def _matrix_product(shape: Shape) -> Micro:
    return Micro("MatMul", ((shape[1] * 2, 64), (64, shape[2] * shape[3])))


def _resize(mode: str) -> Callable[[Shape], Micro]:
    scales = np.array([1, 1, 2, 2], np.float32)
    half_pixel = "asymmetric" if mode == "nearest" else "half_pixel"
    attributes = (("mode", mode), ("coordinate_transformation_mode", half_pixel), ("nearest_mode", "floor"))
    roi = np.zeros(0, np.float32)

    def micro(shape: Shape) -> Micro:
        return Micro("Resize", ((1, shape[1], shape[2] // 2, shape[3] // 2),), (roi, scales), attributes)

    return micro


def _grid_sample(shape: Shape) -> Micro:
    attributes = (("mode", "bilinear"), ("padding_mode", "zeros"), ("align_corners", 0))
    return Micro("GridSample", (shape, (1, shape[2], shape[3], 2)), attributes=attributes)


def _gather(shape: Shape) -> Micro:
    attributes = (("axis", 1),)
    return Micro("Gather", (shape, (shape[1],)), attributes=attributes, whole=1, bound=shape[1])


def _gather_elements(shape: Shape) -> Micro:
    return Micro("GatherElements", (shape, shape), attributes=(("axis", 3),), whole=1, bound=shape[3])


def _reduce_sum(shape: Shape) -> Micro:
    # Along the last axis, as means and norms do; ONNX Runtime is ten times slower along the first of an image.
    return Micro("ReduceSum", (shape,), (np.array([-1]),), (("keepdims", 0),))


def _reorder(shape: Shape) -> Micro:
    return Micro(REORDER, (shape,), attributes=(("channels", shape[1]),), domain=_NCHWC)


def _top_k(shape: Shape) -> Micro:
    return Micro("TopK", ((shape[1] // 4, shape[2] * shape[3]),), (np.array([32]),), (("axis", 1),))


MICROS: dict[str, Callable[[Shape], Micro]] = {
    "convolution": _convolution,
    "depthwise": _depthwise,
    "matrix product": _matrix_product,
    "Add": _same("Add", 2),
    "Clip": _same("Relu", 1),
    "Exp": _same("Sigmoid", 1),
    "Log": _same("Log", 1, chain=False),  # a logarithm of one is soon no number
    "Softmax": _same("Softmax", 1, axis=-1),
    "ReduceSum": _reduce_sum,
    "MaxPool": _same("MaxPool", 1, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "TopK": _top_k,
    "Resize": _resize("linear"),
    "Resize nearest": _resize("nearest"),
    "GridSample": _grid_sample,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Transpose": _same("Transpose", 1, chain=False, perm=[0, 2, 3, 1]),
    REORDER: _reorder,
    "Concat": _same("Concat", 2, chain=False, axis=1),
}
"""What is measured, by name; each is given a shape [1, C, H, W]."""
SMALL: Shape = (1, 128, 12, 16)
LARGE: Shape = (1, 128, 48, 64)
"""98 KB and 1.6 MB in FP32."""

PEAKS: dict[str, Micro] = {
    "matmul": Micro("MatMul", ((1024, 1024), (1024, 1024))),
    "conv": _convolution_3x3(LARGE),
    "cached": Micro("Add", (LARGE, LARGE), chain=True),
    "memory": Micro("Add", ((4096, 8192),) * 2),
}
"""What peak rates are measured with; the last has tensors of 128 MB."""
