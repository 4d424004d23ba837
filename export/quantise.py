"""INT8: convolutions between explicit quantise and dequantise nodes, their ranges taken from frames of a video.

For GPUs: weights have a scale for every output channel, activations one for the tensor; both symmetric, as TensorRT
wants.
Only what goes into a convolution is rounded; biases, sums, attention and everything else stay FP32, and so do the types
of all tensors between the graphs. Weights are kept in FP32 in front of their nodes, which every TensorRT reads.

Which convolutions are rounded was chosen by what the gate said of ``edge`` with an earlier memory: the dense ones that
follow a ReLU, in the query encoder at stride 32 but not the FPN's input, in the memory encoder at stride 16 (now
resnet50's and stm's only). Loss of F1 over 300 frames (bound 0.005): these 0.004; stride 16 of the query encoder too
0.007; the FPN's input as well 0.008. Over 30 frames the trunk lost 0.02, the FPN, the heads and the memory encoder
together 0.4. So INT8 is for few layers; FP16 is the one to choose.

For CPUs: the whole trunk of ``edge``, activations unsigned and with a zero point, which VNNI instructions want and
ReLU6 makes good use of, and results rounded too, so that ONNX Runtime computes in integers from the stem to the last
block.
The FPN's inputs, keys and what is remembered stay FP32: rounded too, 4 % of the keypoints came or went instead of 3 %.
Scales that make a trunk's channels equally large (Nagel et al. 2019) gained nothing.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import shape_inference
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from export.onnx_graphs import Traced
from stm_skeletons.bundle import GraphName
from stm_skeletons.errors import ExportError
from stm_skeletons.memory_policy import readable_slots, write_slot

CALIBRATION_FRAMES = 160
"""In a row, so that the memory is in it."""
SAMPLE_EVERY = 5
"""Every n-th of them gives its tensors."""
_NEVER = ("/top/", "/clearness/")
"""The FPN's input, and what decides which slot is believed."""
_INTEGER_KINDS = ["Conv", "Add", "Clip"]
_FPN_INPUTS = ("/trunk/lateral", "/trunk/top")
Sample = dict[str, NDArray]


class _Samples(CalibrationDataReader):
    def __init__(self, samples: list[Sample]) -> None:
        self._left: Iterator[Sample] = iter(samples)

    def get_next(self) -> Sample | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._left, None)


@torch.no_grad()
def collect_samples(
    traced: dict[GraphName, Traced], frames: Iterable[NDArray[np.uint8]], slots: int, every: int
) -> dict[GraphName, list[Sample]]:
    """The two encoders' inputs at every SAMPLE_EVERY-th frame while the graphs run on their own predictions.

    Args:
        traced: the FP32 graphs.
        frames: uint8 [H, W, 3] BGR, in a row.
        slots, every: the memory's policy.

    Raises:
        ExportError: fewer than SAMPLE_EVERY frames.
    """
    samples: dict[GraphName, list[Sample]] = {"query_encoder": [], "memory_encoder": []}
    tensors = {name: tensor.clone().zero_() for name, tensor in traced["read_decoder"].inputs.items()}
    for number, frame in enumerate(frames):
        tensors["frame"] = torch.from_numpy(frame)
        tensors["memory_valid"] = torch.tensor(readable_slots(number, slots, every)).float()
        for name in ("query_encoder", "read_decoder", "memory_encoder"):
            inputs = {key: tensors[key] for key in traced[name].inputs}
            tensors |= dict(zip(traced[name].outputs, traced[name].module(*inputs.values()), strict=True))
            if name in samples and (number + 1) % SAMPLE_EVERY == 0:
                samples[name].append({key: tensor.clone().numpy() for key, tensor in inputs.items()})
        slot = write_slot(number, slots, every)
        tensors["memory_keys"][slot] = tensors["memory_key"]
        tensors["memory_values"][slot] = tensors["memory_value"]
    if not samples["query_encoder"]:
        raise ExportError(f"INT8 needs at least {SAMPLE_EVERY} frames to calibrate on; give a longer --video")
    return samples


def quantise(path: Path, samples: list[Sample], largest: int) -> int:
    """Rewrite an FP32 graph in INT8 for GPUs; the number of its convolutions that were quantised.

    Args:
        path: the graph's file.
        samples: its inputs.
        largest: height of the largest features that are rounded.
    """
    chosen = robust_convolutions(onnx.load(path), largest)
    if chosen:
        symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True}
        outputs = {"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": ["Conv"]}
        _quantise(path, samples, chosen, QuantType.QInt8, symmetric | outputs)
    return len(chosen)


def quantise_for_cpu(path: Path, samples: list[Sample]) -> int:
    """Rewrite the FP32 query encoder of ``edge`` in INT8 for CPUs; the number of its nodes that were quantised."""
    chosen = [
        node.name
        for node in onnx.load(path).graph.node
        if node.op_type in _INTEGER_KINDS
        and node.name.startswith("/trunk/")
        and not node.name.startswith(_FPN_INPUTS)
        and node.name != "/trunk/Add"
    ]
    _quantise(path, samples, chosen, QuantType.QUInt8, {})
    return len(chosen)


def _quantise(path: Path, samples: list[Sample], nodes: list[str], activations: QuantType, extra: dict) -> None:
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)  # it recommends a simplification that was done already
    try:
        quantize_static(
            path,
            path,
            _Samples(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_INTEGER_KINDS,
            per_channel=True,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=extra,
        )
    finally:
        logger.setLevel(level)
    model = onnx.load(path)
    used = {"", *(node.domain for node in model.graph.node)}
    opsets = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def robust_convolutions(model: onnx.ModelProto, largest: int) -> list[str]:
    """Names of the convolutions that INT8 is good enough for; see the module's first lines.

    Args:
        model: with static shapes.
        largest: height of the largest features that are rounded.
    """
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    images = [info for info in (*graph.value_info, *graph.output) if _is_image(info)]
    heights = {info.name: info.type.tensor_type.shape.dim[-2].dim_value for info in images}
    rectified = {node.output[0] for node in graph.node if node.op_type in ("Relu", "Clip")}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        and node.input[0] in rectified
        and heights[node.input[0]] <= largest
        and not any(part in node.name for part in _NEVER)
        and all(attribute.i == 1 for attribute in node.attribute if attribute.name == "group")
    ]


def _is_image(info: onnx.ValueInfoProto) -> bool:
    return len(info.type.tensor_type.shape.dim) == 4
