"""What a bundle's graphs find in a frame, before anybody says whose it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Fixed-size results, coordinates in network pixels. NK joints, NE edges, K peaks, P centres, T slots.

    All zero for networks without keypoint maps; P is 0 for networks without centres.
    """

    peaks: NDArray[np.float32]
    """[NK, K, 3]: x, y, score of each joint's local maxima, best first; score 0 where there are fewer than K."""
    edge_scores: NDArray[np.float32]
    """[NE, K, K]: of the edge from peak i of its first joint to peak j of its second."""
    previous: NDArray[np.float32]
    """[T, NK, K, 2]: x, y of where each peak was in the frame of each slot; where it is now for slots that could not be
    read."""
    centres: NDArray[np.float32]
    """[P, 3]: x, y, score of people's centres, best first; score 0 where there are fewer than P."""
    centre_joints: NDArray[np.float32]
    """[P, NK, 2]: x, y of where each centre expects its person's joints."""
