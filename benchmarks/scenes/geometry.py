"""Geometry of people's boxes and of lines between joints, for measured and composed people."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.tracks import EDGES, JOINTS
from stm_skeletons.skeleton import COCO17

_NUMBER = {joint: i for i, joint in enumerate(JOINTS)}
PAIRS = tuple((_NUMBER[COCO17.edges[edge][0]], _NUMBER[COCO17.edges[edge][1]]) for edge in EDGES)
"""The two joints of each of EDGES, as indices among the 13."""
_POINTS = np.linspace(0, 1, 5)[:, None]


def stray(starts: NDArray, ends: NDArray, limbs: NDArray) -> NDArray[np.float64]:
    """[A, B]: largest distance of points on the lines from starts [A, 2] to ends [B, 2] to the nearest limb [L, 2, 2].

    Infinite without limbs.
    """
    if not len(limbs):
        return np.full((len(starts), len(ends)), np.inf)
    points = starts[:, None, None] * (1 - _POINTS) + ends[None, :, None] * _POINTS
    along = limbs[:, 1] - limbs[:, 0]
    squared = np.maximum((along**2).sum(axis=-1), 1e-9)
    offset = points[..., None, :] - limbs[:, 0]
    position = np.clip((offset * along).sum(axis=-1) / squared, 0, 1)
    distance = np.linalg.norm(offset - position[..., None] * along, axis=-1)
    return distance.min(axis=-1).max(axis=-1)


def box_overlaps(low: NDArray, high: NDArray) -> NDArray[np.float64]:
    """[..., M]: largest IoU of each box with another one; ``low`` and ``high``: corners [..., M, 2]."""
    extent = np.minimum(high[..., :, None, :], high[..., None, :, :]) - np.maximum(
        low[..., :, None, :], low[..., None, :, :]
    )
    shared = np.clip(extent, 0, None).prod(axis=-1)
    area = (high - low).prod(axis=-1)
    iou = shared / np.maximum(area[..., :, None] + area[..., None, :] - shared, 1e-9)
    count = iou.shape[-1]
    iou[..., range(count), range(count)] = 0
    return iou.max(axis=-1, initial=0)
