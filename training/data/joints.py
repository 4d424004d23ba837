"""Maps a data set's joints to a skeleton's joints by name.

COCO-17 and PoseTrack-15 share 13 joints: nose, and left and right shoulder, elbow, wrist, hip, knee and ankle. These
are copied. PoseTrack does not label COCO's eyes and ears (its files list ears but never label them), and COCO does not
label PoseTrack's head_bottom and head_top. Missing joints are not interpolated: their channels, and the edges that end
in them, are masked out of the loss.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from stm_skeletons.geometry import MAX_COORDINATE
from stm_skeletons.skeleton import KNOWN_JOINTS, Skeleton
from training.data.labels import LABELLED, UNLABELLED

_POSETRACK_ONLY = {"head_bottom", "head_top"}
_NEVER_LABELLED = {"left_ear", "right_ear"}
"""Joints that PoseTrack's files list but never label."""


def joint_columns(names: Sequence[str], skeleton: Skeleton) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The index of each joint of ``skeleton`` among a data set's ``names``.

    Returns:
        index [NK], -1 if the data set does not label the joint; and sourced [NK], whether it does.

    Raises:
        DataError: a name is listed twice or unknown, or the data set labels no joint of the skeleton.
    """
    if unknown := sorted(set(names) - KNOWN_JOINTS):
        raise DataError(f"unknown joints (not in COCO or PoseTrack): {', '.join(unknown)}")
    if len(set(names)) != len(names):
        raise DataError("a joint is listed twice")
    usable = set(names) - (_NEVER_LABELLED if _POSETRACK_ONLY & set(names) else set())
    index = np.array([names.index(joint) if joint in usable else -1 for joint in skeleton.joints], np.int64)
    if (index < 0).all():
        raise DataError(f"no joint of {skeleton.name} is labelled")
    return index, index >= 0


def select_joints(values: NDArray[np.float64], index: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray]:
    """Convert a data set's joints to poses of the skeleton.

    Args:
        values: [P, J, 3]: x, y in image pixels, and COCO's or PoseTrack's visibility (0: unlabelled).
        index: [NK] from joint_columns.

    Returns:
        poses [P, NK, 3], with x = y = 0 for UNLABELLED joints; and for each person [P] the number of joints that became
        UNLABELLED because their coordinates are non-finite or out of range.
    """
    wanted = values[:, index]
    labelled = (wanted[..., 2] != 0) & (index >= 0)
    good = labelled & (np.abs(wanted) <= MAX_COORDINATE).all(axis=-1) & (wanted[..., 2] > 0)
    poses = np.zeros(wanted.shape, np.float32)
    poses[..., 2] = np.where(good, LABELLED, UNLABELLED)
    poses[good, :2] = wanted[good, :2]
    return poses, (labelled & ~good).sum(axis=1)
