"""Pixel precision, recall and F1 of maps binarised at 0.5 (paper, Tables 1 and 2); a pixel is a cell of the maps."""

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.maps import SKELETON_CHANNEL
from stm_skeletons.skeleton import Skeleton
from training.evaluation.keypoints import Score, harmonic_mean, ratio

LEVEL = 0.5
"""Cells of maps and of ground truth with at least this value become 1, others 0."""


def count_pixels(maps: NDArray, targets: NDArray, weights: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count cells of a frame.

    Args:
        maps, targets: [C, h, w] predicted and true maps in [0, 1].
        weights: [C, h, w] cells to count.

    Returns:
        [3, C]: cells that are 1 in both, in the prediction, in the ground truth.
    """
    predicted = (maps >= LEVEL) & weights
    labelled = (targets >= LEVEL) & weights
    return np.stack([cells.sum(axis=(1, 2)) for cells in (predicted & labelled, predicted, labelled)])


def channel_groups(skeleton: Skeleton, channels: tuple[str, ...]) -> dict[str, list[int]]:
    """Indices of the channels of each group that the network has: "overall" (all), "mask", "keypoints" and "edges".

    The single map of the original STM is in the group "skeleton" only.
    """
    members = {
        "overall": () if channels == (SKELETON_CHANNEL,) else channels,
        "mask": ("mask",),
        "keypoints": skeleton.joints,
        "edges": skeleton.edge_names,
        SKELETON_CHANNEL: (SKELETON_CHANNEL,),
    }
    groups = {group: [i for i, name in enumerate(channels) if name in names] for group, names in members.items()}
    return {group: indices for group, indices in groups.items() if indices}


def pixel_ratios(counts: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Precision, recall and F1 of counts [..., 3]; NaN for 0 / 0."""
    precision = ratio(counts[..., 0], counts[..., 1])
    recall = ratio(counts[..., 0], counts[..., 2])
    return precision, recall, harmonic_mean(precision, recall)


def pixel_score(counts: NDArray) -> Score:
    """Score of counts [3]."""
    return Score(LEVEL, *(float(number) for number in pixel_ratios(counts)))
