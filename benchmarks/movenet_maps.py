"""MoveNet MultiPose's own heat maps, which ``edge`` is compared with."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

HEAT_MAPS = "StatefulPartitionedCall/Sigmoid_1:0"
"""MoveNet MultiPose's inner tensor [1, 17, H/4, W/4]."""


class MoveNetHeatMaps:
    """They are taken from inside MoveNet's graph."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        model.graph.output.add().name = HEAT_MAPS
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """BGR uint8 [H, W, 3], sides multiples of 32, to [17, H/4, W/4]."""
        (maps,) = self._session.run([HEAT_MAPS], {"input:0": frame[None, :, :, ::-1].astype(np.int32)})
        return np.asarray(maps)[0]
