"""The people of one frame held against its labels as PoseTrack does: a joint is right within half a head's size.

After poseval (https://github.com/leonid-pishchulin/poseval), assignGTmulti.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.people import People
from training.data.sequence import SequenceFrame
from training.evaluation.oks import box_areas, ignored_points

REACH = 0.5
"""Head sizes within which a joint is right."""
HEAD_OF_BOX = 0.19
"""Size of a head in roots of the area of its person's box, where the data have no box of the head: the median of the
labelled people in two frames of PoseTrack18 (0.17 to 0.20)."""


@dataclass(frozen=True)
class PoseMatches:
    """M people held against P labelled ones, NK joints each."""

    found: NDArray[np.bool_]
    """[M, NK]: joints that count."""
    labelled: NDArray[np.bool_]
    """[P, NK]: joints that are labelled and count."""
    distances: NDArray[np.float64]
    """[M, P, NK] in head sizes; infinite beyond REACH, and where either joint does not count."""
    of_label: NDArray[np.int64]
    """[P]: who each labelled person is; -1 for nobody. Nobody is two."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """[M, NK]: joints that are right, by the label that their person is."""
        right = np.zeros(self.found.shape, bool)
        taken = np.flatnonzero(self.of_label >= 0)
        right[self.of_label[taken]] = np.isfinite(self.distances[self.of_label[taken], taken])
        return right


def match_poses(
    people: People, joints: NDArray[np.bool_], frame: SequenceFrame, sourced: NDArray[np.bool_]
) -> PoseMatches:
    """Match people by the share of a label's joints that they have right: each person goes for the label with the
    largest share, and of those who go for the same label the one with the largest share gets it.

    Joints in ignored regions count on neither side. Labels are joints that are labelled and inside the frame.

    Args:
        people: in network pixels.
        joints: [M, NK] which of their joints are claimed to be there.
        frame: with the labels.
        sourced: [NK] which joints the data label at all; others do not count.
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
        goes_for = share.argmax(axis=1)
        share = np.where(goes_for[:, None] == np.arange(len(labelled)), share, 0)
        of_label = np.where(share.max(axis=0) > 0, share.argmax(axis=0), -1)
    return PoseMatches(found, labelled, distances, of_label)


def head_sizes(frame: SequenceFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[P] in network pixels: 0.6 times the diagonal of the head's box, as poseval has it, or an estimate from the
    person's box (see HEAD_OF_BOX); and [P] which are estimated."""
    boxes = box_areas(frame)
    known = np.full(len(boxes), np.nan) if frame.heads is None else frame.heads.astype(float)
    estimated = np.isnan(known)
    return np.where(estimated, HEAD_OF_BOX * np.sqrt(boxes), known), estimated
