"""Heat maps of MoveNet MultiPose, as a baseline for ``edge``."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

HEAT_MAPS = "StatefulPartitionedCall/Sigmoid_1:0"
"""Name of MoveNet MultiPose's inner tensor [1, 17, H/4, W/4]."""


class MoveNetHeatMaps:
    """Runs MoveNet MultiPose and returns its heat maps, an inner tensor of its graph."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        model.graph.output.add().name = HEAT_MAPS
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Heat maps [17, H/4, W/4] of a frame, BGR uint8 [H, W, 3] with sides that are multiples of 32."""
        (maps,) = self._session.run([HEAT_MAPS], {"input:0": frame[None, :, :, ::-1].astype(np.int32)})
        return np.asarray(maps)[0]
