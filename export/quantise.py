"""INT8 for CPUs: the trunk of ``edge`` between explicit quantise and dequantise nodes, ranges from frames of a video.

Weights have a scale for every output channel. Activations are unsigned and have a zero point, which VNNI instructions
want and ReLU6 makes good use of; results are rounded too, so that ONNX Runtime computes in integers from the stem to
the last block.
The FPN's inputs, keys and what is remembered stay FP32: rounded too, 4 % of the keypoints came or went instead of 3 %.
Scales that make a trunk's channels equally large (Nagel et al. 2019) gained nothing.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from stm_skeletons.errors import ExportError

CALIBRATION_FRAMES = 160
"""In a row, as a camera gives them."""
SAMPLE_EVERY = 5
"""Every n-th of them gives its tensors."""
_INTEGER_KINDS = ["Conv", "Add", "Clip"]
_FPN_INPUTS = ("/trunk/lateral", "/trunk/top")
Sample = dict[str, NDArray]


class _Samples(CalibrationDataReader):
    def __init__(self, samples: list[Sample]) -> None:
        self._left: Iterator[Sample] = iter(samples)

    def get_next(self) -> Sample | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._left, None)


def quantise(path: Path, frames: Sequence[NDArray[np.uint8]]) -> int:
    """Rewrite the FP32 query encoder of ``edge`` in INT8; the number of its nodes that were quantised.

    Args:
        path: the graph's file.
        frames: uint8 [H, W, 3] BGR, of which every SAMPLE_EVERY-th counts.

    Raises:
        ExportError: fewer than SAMPLE_EVERY frames.
    """
    samples = [{"frame": frame} for frame in frames[SAMPLE_EVERY - 1 :: SAMPLE_EVERY]]
    if not samples:
        raise ExportError(f"INT8 needs at least {SAMPLE_EVERY} frames to calibrate on; give a longer --video")
    chosen = [
        node.name
        for node in onnx.load(path).graph.node
        if node.op_type in _INTEGER_KINDS
        and node.name.startswith("/trunk/")
        and not node.name.startswith(_FPN_INPUTS)
        and node.name != "/trunk/Add"
    ]
    _quantise(path, samples, chosen)
    return len(chosen)


def _quantise(path: Path, samples: list[Sample], nodes: list[str]) -> None:
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
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
            calibrate_method=CalibrationMethod.MinMax,
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
