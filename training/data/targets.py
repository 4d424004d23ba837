"""Ground truth of a frame: maps, and which of their cells count.

A cell does not count for a channel when nothing is known there: inside crowds and ignore regions; everywhere, for a
joint that the data set never labels and for its edges; and inside the box of a person one of whose joints is not
labelled, for that joint and its edges. Unlabelled is never taken for absent.
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
        skeleton: gives the order of the frame's joints.
        channels: of the network; all of the skeleton's, some, or the original STM's one.
        sourced: [NK]: joints that the data set labels at all.

    Returns:
        maps [C, h, w] in [0, 1] and weights [C, h, w], True where a cell counts. The mask is segmentation's where the
        data set has one, else the outline of the skeleton.
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
        if frame.mask is None:  # what the outline covers is person for certain
            known[0] &= ~box | (maps[0] > 0)
    known[1 : 1 + joints][~sourced] = False
    known[1 + joints :][edges_of(~sourced, skeleton)] = False
    if frame.mask is not None:
        maps[0] = frame.mask
    if channels == (SKELETON_CHANNEL,):
        # All parts in one map: a cell counts when every part that the data set labels is known there.
        labelled = np.concatenate([[False], sourced, ~edges_of(~sourced, skeleton)])
        return select_channels(maps, skeleton, channels), np.asarray(known[labelled].all(axis=0))[None]
    return select_channels(maps, skeleton, channels), select_channels(known, skeleton, channels)


def cells_inside(corners: NDArray, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """[h, w]: cells that a polygon [n, 2] in network pixels covers or touches."""
    area = np.zeros((size[0], size[1]), np.uint8)
    cv2.fillPoly(area, [np.rint(np.clip(corners / STRIDE - 0.5, -2000, 2000)).astype(np.int32)], 1)
    return area.astype(bool)


def edges_of(joints: NDArray[np.bool_], skeleton: Skeleton) -> NDArray[np.bool_]:
    """[NK] to [NE]: edges one of whose joints is given."""
    pairs = np.array(skeleton.edges)
    return np.asarray(joints[pairs].any(axis=1))
