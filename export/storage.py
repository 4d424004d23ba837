"""Stores weights as FP16 in a graph that computes in FP32: half the file size, the same arithmetic.

The runtime folds the casts when it loads the graph. Weights are rounded *before* export, so the graph equals the
verified network exactly.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from training.model import SpaceTimeMemory

_LARGE = 256
"""Smallest number of elements for which a tensor gets a cast node."""


@torch.no_grad()
def round_to_fp16(model: SpaceTimeMemory) -> None:
    """Round every parameter to the nearest FP16 value in place; the type stays FP32."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half())


def store_as_fp16(path: Path) -> None:
    """Rewrite a graph so that each large FP32 weight that FP16 represents exactly is stored as FP16 and cast."""
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _LARGE:
            continue
        full = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = full.astype(np.float16)
        if np.array_equal(half.astype(np.float32), full):
            name = tensor.name
            casts.append(helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_cast", to=TensorProto.FLOAT))
            graph.initializer[index].CopyFrom(numpy_helper.from_array(half, f"{name}_fp16"))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
