"""Matches the people of a frame with its labels as PoseTrack does: a joint is correct within half a head size.

After assignGTmulti of poseval (https://github.com/leonid-pishchulin/poseval).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.people import People
from training.data.sequence import SequenceFrame
from training.evaluation.oks import box_areas, ignored_points

REACH = 0.5
"""Largest distance of a correct joint in head sizes."""
HEAD_OF_BOX = 0.19
"""Estimated head size relative to the square root of the person's box area, for data without boxes of heads. It is the
median of the labelled people in two frames of PoseTrack18 (0.17 to 0.20)."""


@dataclass(frozen=True)
class PoseMatches:
    """M detected people matched with P labelled people, NK joints each."""

    found: NDArray[np.bool_]
    """[M, NK]: detected joints that count."""
    labelled: NDArray[np.bool_]
    """[P, NK]: labelled joints that count."""
    distances: NDArray[np.float64]
    """[M, P, NK] in head sizes; infinite beyond REACH, and if either joint does not count."""
    of_label: NDArray[np.int64]
    """[P]: index of the person matched with each label, -1 for none. A person is matched with at most one label."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """[M, NK]: joints that are correct with respect to the label of their person."""
        right = np.zeros(self.found.shape, bool)
        matched = np.flatnonzero(self.of_label >= 0)
        right[self.of_label[matched]] = np.isfinite(self.distances[self.of_label[matched], matched])
        return right


def match_poses(
    people: People, joints: NDArray[np.bool_], frame: SequenceFrame, sourced: NDArray[np.bool_]
) -> PoseMatches:
    """Match people with labels by the share of a label's joints that are correct.

    Each person chooses the label with the largest share. Of the people who choose the same label, the one with the
    largest share is matched. Joints in ignored regions do not count, neither detected nor labelled ones. Labels are
    joints that are labelled and inside the frame.

    Args:
        people: in network pixels.
        joints: [M, NK] joints that are reported.
        frame: with the labels.
        sourced: [NK] joints that the data label; others do not count.
    """
    xy, places = people.keypoints[..., :2].astype(float), frame.poses[..., :2].astype(float)
    found = joints & sourced & ~ignored_points(xy, frame)
    labelled = frame.inside & sourced & ~ignored_points(places, frame)
    sizes, _ = head_sizes(frame)
    distances = np.linalg.norm(xy[:, None] - places[None], axis=-1) / np.maximum(sizes, 1e-6)[None, :, None]
    distances = np.where(found[:, None] & labelled[None] & (distances <= REACH), distances, np.inf)
    share = np.isfinite(distances).sum(axis=2) / np.maximum(labelled.sum(axis=1), 1)
    of_label = np.full(len(labelled), -1)
    if share.size:
        choice = share.argmax(axis=1)
        share = np.where(choice[:, None] == np.arange(len(labelled)), share, 0)
        of_label = np.where(share.max(axis=0) > 0, share.argmax(axis=0), -1)
    return PoseMatches(found, labelled, distances, of_label)


def head_sizes(frame: SequenceFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Head sizes [P] in network pixels, and [P] which are estimated.

    A size is 0.6 times the diagonal of the head's box, as in poseval, or an estimate from the person's box (see
    HEAD_OF_BOX).
    """
    boxes = box_areas(frame)
    known = np.full(len(boxes), np.nan) if frame.heads is None else frame.heads.astype(float)
    estimated = np.isnan(known)
    return np.where(estimated, HEAD_OF_BOX * np.sqrt(boxes), known), estimated
