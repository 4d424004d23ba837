"""Which of a data set's joints is which of a skeleton's: by name, and nothing else.

COCO-17 and PoseTrack-15 have 13 joints in common: the nose, and left and right shoulders, elbows, wrists, hips, knees
and ankles. They mean the same in both and are copied over. COCO's eyes and ears have no source in PoseTrack: its files
list ears, but never label them. PoseTrack's head_bottom and head_top have no source in COCO. Nothing is interpolated
between joints: a channel without a source, and every edge that ends in it, is masked out of the loss.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from stm_skeletons.geometry import FARTHEST
from stm_skeletons.skeleton import KNOWN_JOINTS, Skeleton
from training.data.labels import LABELLED, UNLABELLED

_POSETRACK_ONLY = {"head_bottom", "head_top"}
_NEVER_LABELLED = {"left_ear", "right_ear"}
"""Of the joints that PoseTrack's files list."""


def joint_columns(names: Sequence[str], skeleton: Skeleton) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each joint of ``skeleton`` is among a data set's ``names``.

    Returns:
        index [NK], -1 where the data set has no such joint; and sourced [NK], False there.

    Raises:
        DataError: a name is given twice or is none of COCO's or PoseTrack's, or no joint of the skeleton has a source.
    """
    if unknown := sorted(set(names) - KNOWN_JOINTS):
        raise DataError(f"other joints than COCO's or PoseTrack's: {', '.join(unknown)}")
    if len(set(names)) != len(names):
        raise DataError("a joint is named twice")
    usable = set(names) - (_NEVER_LABELLED if _POSETRACK_ONLY & set(names) else set())
    index = np.array([names.index(joint) if joint in usable else -1 for joint in skeleton.joints], np.int64)
    if (index < 0).all():
        raise DataError(f"none of the joints of {skeleton.name} is labelled")
    return index, index >= 0


def select_joints(values: NDArray[np.float64], index: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray]:
    """A data set's joints as the skeleton's poses.

    Args:
        values: [P, J, 3]: x, y in picture pixels, and what COCO and PoseTrack call visibility: 0 for unlabelled.
        index: [NK] from joint_columns.

    Returns:
        poses [P, NK, 3] with x = y = 0 for UNLABELLED joints; and how many joints of each person [P] were labelled with
        coordinates that are no pixels of any picture (NaN, infinite, too far); these are UNLABELLED now.
    """
    wanted = values[:, index]
    labelled = (wanted[..., 2] != 0) & (index >= 0)
    good = labelled & (np.abs(wanted) <= FARTHEST).all(axis=-1) & (wanted[..., 2] > 0)
    poses = np.zeros(wanted.shape, np.float32)
    poses[..., 2] = np.where(good, LABELLED, UNLABELLED)
    poses[good, :2] = wanted[good, :2]
    return poses, (labelled & ~good).sum(axis=1)
