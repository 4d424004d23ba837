"""Imitates TensorRT 8.6 with FP16 allowed: it may use FP16 wherever a layer is not constrained to FP32.

The real library uses the faster type. This one always uses FP16, so every missing constraint changes the results.
"""

from typing import Any

import onnx
from onnx import TensorProto, helper

_NO_ARITHMETIC = {"Cast", "Constant", "Identity"}


def rounded(model: onnx.ModelProto, types: dict[str, int], layers: list[Any], obeyed: bool) -> onnx.ModelProto:
    """Return the model with every FP32 value that enters or leaves an unconstrained layer rounded through FP16.

    Args:
        model: a model with one layer per node.
        types: element types of its tensors.
        layers: layers in the order of its nodes.
        obeyed: whether the layers' precision is obeyed.
    """
    nodes: list[onnx.NodeProto] = []
    for node, layer in zip(model.graph.node, layers, strict=True):
        own, behind = onnx.NodeProto(), []
        own.CopyFrom(node)
        if node.op_type not in _NO_ARITHMETIC:
            for index in _full(node.input, types) if layer._precision is None or not obeyed else ():
                own.input[index] = f"{node.input[index]}/into/{node.output[0]}"
                nodes += _through_fp16(node.input[index], own.input[index])
            for index in _full(node.output, types):
                if index not in layer._output_types or not obeyed:
                    own.output[index] = f"{node.output[index]}/full"
                    behind += _through_fp16(own.output[index], node.output[index])
        nodes += [own, *behind]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _full(names: Any, types: dict[str, int]) -> list[int]:
    """Indices of FP32 tensors."""
    return [index for index, name in enumerate(names) if types.get(name) == TensorProto.FLOAT]


def _through_fp16(name: str, result: str) -> list[onnx.NodeProto]:
    half = f"{result}/half"
    return [
        helper.make_node("Cast", [name], [half], f"{half}/cast", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [result], f"{result}/cast", to=TensorProto.FLOAT),
    ]
