"""INT8 for CPUs: convolutions of ``edge`` between explicit quantise and dequantise nodes.

Weights have one scale per output channel. Activations are unsigned with a zero point, as VNNI instructions require; the
ends of their range replace ReLU and ReLU6. Rounding weights shifts a layer's mean output, which its bias corrects
(Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019). The camera's bytes enter
the first convolution unchanged.

These parts stay FP32, because they move keypoints most and save least: the FPN with its inputs at strides 4 and 8, the
keypoint head, centres, keys, clearness, and the memorised values.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper, numpy_helper

from export.calibrate import Observation
from stm_skeletons.bundle import GraphName

PARTS: dict[GraphName, tuple[str, ...]] = {
    "query_encoder": ("/trunk/stem/", "/trunk/blocks.", "/trunk/last/", "/trunk/top/", "/context/"),
    "read_decoder": (
        *(f"/mask_and_edge_head/{part}" for part in ("features/", "joints/", "context/", "blocks.", "predict/")),
        *(f"/fusion/{part}/" for part in ("seen", "read", "context", "block", "shares")),
    ),
    "memory_encoder": ("/memory_encoder/maps/",),
}
"""Name prefixes of the convolutions and sums that are quantised."""
_GREY = 127
"""The byte that represents 0: the trunk expects -1 to 1."""
_LARGEST_WEIGHT = 127
_TINY = 1e-12


def accept_bytes(path: Path) -> None:
    """Rewrite a query encoder so that only a scale lies between the frame's bytes and the first convolution.

    The convolution's weights absorb the order of colours and the zero point.
    """
    model = onnx.load(path)
    graph = model.graph
    chain = [next(node for node in graph.node if "frame" in node.input)]
    while chain[-1].op_type != "Conv":
        chain.append(next(node for node in graph.node if chain[-1].output[0] in node.input))
    *before, stem = chain
    by_kind = {node.op_type: node for node in before}
    scale, offset = (_array(graph, by_kind[kind].input[1]) for kind in ("Mul", "Sub"))
    weight, bias = (_array(graph, name) for name in stem.input[1:])
    weight = weight[:, ::-1]
    _set(graph, stem.input[1], weight)
    _set(graph, stem.input[2], bias + (_GREY * scale - offset) * weight.sum((1, 2, 3)))
    batched, planes = by_kind["Unsqueeze"], by_kind["Transpose"]
    batched.input[0], planes.input[0] = "frame", batched.output[0]
    _set(graph, "frame_scale", scale)
    _set(graph, "frame_zero", np.uint8(_GREY))
    scaled = helper.make_node("DequantizeLinear", [planes.output[0], "frame_scale", "frame_zero"], ["frame_scaled"])
    stem.input[0] = scaled.output[0]
    kept = [node for node in graph.node if node not in before]
    first = kept.index(stem)
    del graph.node[:]
    graph.node.extend([*kept[:first], batched, planes, scaled, *kept[first:]])
    _save(model, path)


class Rounding:
    """Quantises some convolutions and sums of an FP32 graph to 8 bits."""

    def __init__(self, path: Path, parts: tuple[str, ...]) -> None:
        """``parts``: name prefixes of the nodes to quantise."""
        self._path, self._model = path, onnx.load(path)
        self._graph = self._model.graph
        users: dict[str, list[NodeProto]] = {}
        for node in self._graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
        self._results: dict[str, str] = {}
        """The quantised tensor of each chosen node, by the node's name."""
        for node in self._graph.node:
            if node.op_type in ("Conv", "Add") and node.name.startswith(parts):
                after = users[node.output[0]]
                ends = len(after) == 1 and after[0].op_type in ("Relu", "Clip")
                self._results[node.name] = (after[0] if ends else node).output[0]
        levels = {node.output[0] for node in self._graph.node if node.op_type == "DequantizeLinear"}
        self._rounded = {name: name for name in levels | set(self._results.values())}
        """Names of quantised tensors by their original names."""

    @property
    def tensors(self) -> set[str]:
        """Tensors to calibrate."""
        taken = {name for node in self._graph.node if node.name in self._results for name in _activations(node)}
        return taken | set(self._results.values())

    def write(self, seen: Mapping[str, Observation]) -> None:
        """Rewrite the file. ``seen``: calibration of ``tensors``."""
        results = set(self._results.values())
        nodes = list(self._graph.node)
        del self._graph.node[:]
        for node in nodes:
            if node.name in self._results:
                self._round(node, seen)
            elif not results & set(node.output):  # skip ReLU and ReLU6, replaced by the ends of a range
                self._graph.node.append(node)
        _save(self._model, self._path)

    def _round(self, node: NodeProto, seen: Mapping[str, Observation]) -> None:
        """Add a node with quantised inputs and a quantised result."""
        taken = _activations(node)
        for i, name in enumerate(taken):
            if name not in self._rounded:
                self._rounded[name] = f"{name}_rounded"
                self._add_rounding(name, self._rounded[name], seen[name])
            node.input[i] = self._rounded[name]
        if node.op_type == "Conv":
            self._round_weights(node, seen[taken[0]])
        result = self._results[node.name]
        node.output[0] = f"{result}_exact"
        self._graph.node.append(node)
        self._add_rounding(node.output[0], result, seen[result])

    def _add_rounding(self, exact: str, rounded: str, seen: Observation) -> None:
        levels, scale, zero = (f"{rounded}_{what}" for what in ("levels", "scale", "zero"))
        _set(self._graph, scale, np.float32(seen.scale))
        _set(self._graph, zero, np.uint8(seen.zero))
        self._graph.node.append(helper.make_node("QuantizeLinear", [exact, scale, zero], [levels], f"{levels}/to"))
        self._graph.node.append(
            helper.make_node("DequantizeLinear", [levels, scale, zero], [rounded], f"{levels}/from")
        )

    def _round_weights(self, node: NodeProto, taken: Observation) -> None:
        """Quantise weights to 8 bits with one scale per output channel; the 32-bit bias corrects the mean shift."""
        weight, bias = (_array(self._graph, name) for name in node.input[1:])
        scale = np.maximum(np.abs(weight).max((1, 2, 3)), _TINY) / _LARGEST_WEIGHT
        levels = np.round(weight / scale[:, None, None, None])
        lost = (weight - levels * scale[:, None, None, None]).sum((2, 3), dtype=np.float64)
        shift = lost[:, 0] * taken.means if lost.shape[1] < len(taken.means) else lost @ taken.means
        bias_scale = scale * np.float32(taken.scale)
        biases = np.round((bias + shift) / bias_scale)
        node.input[1] = self._add_levels(node.input[1], levels.astype(np.int8), scale)
        node.input[2] = self._add_levels(node.input[2], biases.astype(np.int32), bias_scale)

    def _add_levels(self, name: str, levels: NDArray, scale: NDArray) -> str:
        """Add a constant with a scale per output channel; return its dequantised name."""
        _set(self._graph, f"{name}_levels", levels)
        _set(self._graph, f"{name}_scale", scale.astype(np.float32))
        inputs = [f"{name}_levels", f"{name}_scale"]
        self._graph.node.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_rounded"], axis=0))
        return f"{name}_rounded"


def _activations(node: NodeProto) -> list[str]:
    """A node's inputs besides weights."""
    return list(node.input[:1] if node.op_type == "Conv" else node.input)


def _array(graph: GraphProto, name: str) -> NDArray:
    """Return a constant."""
    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    node = next(node for node in graph.node if name in node.output)
    return numpy_helper.to_array(node.attribute[0].t)


def _set(graph: GraphProto, name: str, array: NDArray | np.generic) -> None:
    """Add or replace a constant."""
    new = numpy_helper.from_array(np.asarray(array), name)
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(new)
            return
    graph.initializer.append(new)


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Save the graph without unused constants and stale types."""
    graph = model.graph
    del graph.value_info[:]
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        graph.node.remove(node)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
