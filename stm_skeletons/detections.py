"""What a bundle's graphs detect in a frame, before parts are assigned to people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Fixed-size results in network pixels. NK joints, NE edges, K peaks, P centres, T slots.

    Networks without keypoint maps give zeros; networks without centres have P = 0.
    """

    peaks: NDArray[np.float32]
    """[NK, K, 3]: x, y, score of each joint's local maxima, best first; score 0 for unused entries."""
    edge_scores: NDArray[np.float32]
    """[NE, K, K]: score of the edge from peak i of its first joint to peak j of its second."""
    previous: NDArray[np.float32]
    """[T, NK, K, 2]: x, y of each peak in the frame of each slot; its current position for slots that were not read."""
    centres: NDArray[np.float32]
    """[P, 3]: x, y, score of people's centres, best first; score 0 for unused entries."""
    centre_joints: NDArray[np.float32]
    """[P, NK, 2]: x, y of the joints that each centre predicts."""
