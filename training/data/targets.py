"""Ground-truth maps of a frame, and the cells that count.

Cells whose truth is unknown do not count: cells in crowds and ignore regions; all cells of joints that the data set
never labels, and of their edges; and cells in the box of a person with an unlabelled joint, for that joint and its
edges. Unlabelled never means absent.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.geometry import STRIDE
from stm_skeletons.maps import SKELETON_CHANNEL, render_maps, select_channels
from stm_skeletons.skeleton import Skeleton
from training.data.labels import LABELLED
from training.data.sequence import SequenceFrame


def make_targets(
    frame: SequenceFrame, skeleton: Skeleton, channels: tuple[str, ...], sourced: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Ground truth of a frame for a network with these channels.

    Args:
        frame: of a sequence.
        skeleton: determines the order of the frame's joints.
        channels: of the network: all or some of the skeleton's, or the single one of the original STM.
        sourced: [NK]: joints that the data set labels.

    Returns:
        maps [C, h, w] in [0, 1] and weights [C, h, w], True for cells that count. The mask is the data set's
        segmentation, or without one the outline of the skeleton.
    """
    height, width = frame.image.shape[:2]
    maps = render_maps(frame.poses, skeleton, (height, width))
    known = np.empty(maps.shape, bool)
    known[:] = ~frame.ignored
    joints = len(skeleton.joints)
    unlabelled = sourced & (frame.poses[..., 2] != LABELLED)
    for person in np.flatnonzero(unlabelled.any(1)):
        box = cells_inside(frame.boxes[person], frame.ignored.shape)
        known[1 : 1 + joints][unlabelled[person]] &= ~box
        known[1 + joints :][edges_of(unlabelled[person], skeleton)] &= ~box
        if frame.mask is None:  # cells under the outline certainly show the person
            known[0] &= ~box | (maps[0] > 0)
    known[1 : 1 + joints][~sourced] = False
    known[1 + joints :][edges_of(~sourced, skeleton)] = False
    if frame.mask is not None:
        maps[0] = frame.mask
    if channels == (SKELETON_CHANNEL,):
        # One map for all parts: a cell counts if every part that the data set labels is known there.
        labelled = np.concatenate([[False], sourced, ~edges_of(~sourced, skeleton)])
        return select_channels(maps, skeleton, channels), np.asarray(known[labelled].all(axis=0))[None]
    return select_channels(maps, skeleton, channels), select_channels(known, skeleton, channels)


def cells_inside(corners: NDArray, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """[h, w]: cells that a polygon [n, 2] in network pixels covers or touches; ``size``: (h, w)."""
    area = np.zeros((size[0], size[1]), np.uint8)
    cv2.fillPoly(area, [np.rint(np.clip(corners / STRIDE - 0.5, -2000, 2000)).astype(np.int32)], 1)
    return area.astype(bool)


def edges_of(joints: NDArray[np.bool_], skeleton: Skeleton) -> NDArray[np.bool_]:
    """[NE]: edges that end in one of the selected joints [NK]."""
    pairs = np.array(skeleton.edges)
    return np.asarray(joints[pairs].any(axis=1))
