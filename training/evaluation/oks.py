"""The people of one frame held against its labels, by pycocotools, as COCO does: object keypoint similarity (OKS)."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stm_skeletons.geometry import STRIDE
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton
from training.data.sequence import SequenceFrame

LEVELS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""COCO's: similarities from which on somebody is found."""
MOST = 20
"""People of a frame that count, the surest; COCO's number."""
LOWEST = 0.05
"""Score from which on people count."""
AREA_OF_BOX = 0.53
"""Share of the box that a person covers, where the data do not tell: COCO's mean."""
SIZES = {"any": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""COCO's, by the area of a person in square network pixels."""


@dataclass(frozen=True)
class Matches:
    """The D people of a frame that count, the surest first, each held against the labels at every one of LEVELS."""

    scores: NDArray[np.float64]
    """[D]"""
    right: NDArray[np.bool_]
    """[D, LEVELS]: is somebody who is labelled."""
    ignored: NDArray[np.bool_]
    """[D, LEVELS]: neither right nor wrong."""
    labelled: int
    """How many people, of the size that counts, have a labelled joint inside the frame."""


def match_people(
    people: People, frame: SequenceFrame, skeleton: Skeleton, sourced: NDArray[np.bool_]
) -> dict[str, Matches]:
    """Match by COCO's rule: the surest first, each with the most similar label that is still free. By SIZES: labels of
    another size are neither missed nor found, and people of another size who match nobody are not wrong.

    All joints of a person count, also those that are only placed; a joint of which nothing is known lies at (0, 0), as
    in COCO's files. Labels are joints that are labelled and inside the frame. Not counted wrong: who is matched with
    somebody none of whose joints is (COCO compares with twice the box then), and who lies mostly in ignored regions.

    Args:
        people: in network pixels.
        frame: with the labels.
        skeleton: gives the joints' sigmas.
        sourced: [NK] which joints the data label at all; others are left out.
    """
    kept = people.chosen(people.scores >= np.float32(LOWEST))
    seen = frame.inside & sourced
    labels, areas = np.where(seen[..., None], frame.poses, 0)[:, sourced], person_areas(frame)
    low, high = frame.boxes.min(axis=1), frame.boxes.max(axis=1)
    # Numbers start at 1: COCOeval takes 0 for unmatched.
    truth = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": int(seen[i].sum())}
        | {"keypoints": labels[i].ravel().tolist(), "area": float(areas[i]), "bbox": [*low[i], *(high[i] - low[i])]}
        for i in range(len(labels))
    ]
    scores, keypoints, extents = kept.scores.astype(float).tolist(), kept.keypoints[:, sourced], found_areas(kept)
    found = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "score": scores[i]}
        | {"keypoints": keypoints[i].ravel().tolist(), "area": float(extents[i])}
        for i in range(len(kept))
    ]
    in_ignored, labelled = in_ignored_regions(kept, frame), seen.any(axis=1)
    return {
        size: _matches(matched, in_ignored, int((labelled & (areas >= low) & (areas <= high)).sum()))
        for (size, (low, high)), matched in zip(
            SIZES.items(), _match(truth, found, np.array(skeleton.sigmas)[sourced]), strict=True
        )
    }


def _matches(matched: dict[str, Any] | None, in_ignored: NDArray[np.bool_], labelled: int) -> Matches:
    """Of COCOeval's result; ``in_ignored``: [M] who lies in ignored regions."""
    if matched is None:
        none = np.zeros((0, len(LEVELS)), bool)
        return Matches(np.zeros(0), none, none, labelled)
    order = np.array(matched["dtIds"], int) - 1
    pairs = np.asarray(matched["dtMatches"]).T > 0
    ignored = np.asarray(matched["dtIgnore"]).T > 0
    ignored |= ~pairs & in_ignored[order, None]
    return Matches(np.array(matched["dtScores"], float), pairs & ~ignored, ignored, labelled)


def person_areas(frame: SequenceFrame) -> NDArray[np.float64]:
    """[P] square network pixels: what each person covers as the data tell, else AREA_OF_BOX of the box."""
    known = np.nan if frame.areas is None else frame.areas.astype(float)
    return np.where(np.isnan(known), AREA_OF_BOX * box_areas(frame), known)


def box_areas(frame: SequenceFrame) -> NDArray[np.float64]:
    """[P] square network pixels of each person's box, also where it reaches out of the frame."""
    x, y = np.moveaxis(frame.boxes.astype(float), -1, 0)
    # Half the cross product of the diagonals: moved boxes are parallelograms.
    return np.abs((x[:, 2] - x[:, 0]) * (y[:, 3] - y[:, 1]) - (x[:, 3] - x[:, 1]) * (y[:, 2] - y[:, 0])) / 2


def found_areas(people: People) -> NDArray[np.float64]:
    """[M] square network pixels: of the box around all joints of each person that was found, as COCO has it."""
    xy = people.keypoints[..., :2].astype(float)
    return np.ptp(xy, axis=1).prod(axis=-1)


def in_ignored_regions(people: People, frame: SequenceFrame) -> NDArray[np.bool_]:
    """[M]: whose joints, as far as anything is known of them, lie mostly in the frame's ignored cells."""
    known = people.keypoints[..., 2] > 0
    return (known & ignored_points(people.keypoints[..., :2], frame)).sum(axis=1) > known.sum(axis=1) / 2


def ignored_points(xy: NDArray, frame: SequenceFrame) -> NDArray[np.bool_]:
    """[...]: which of the points [..., 2] in network pixels lie in the frame's ignored cells."""
    height, width = frame.ignored.shape
    column, row = np.moveaxis(np.floor(xy / STRIDE), -1, 0).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    return inside & frame.ignored[np.where(inside, row, 0), np.where(inside, column, 0)]


def _match(truth: list[dict], found: list[dict], sigmas: NDArray) -> list[dict[str, Any] | None]:
    """COCOeval's results for an image with these annotations, by SIZES; None for an empty one."""
    with redirect_stdout(io.StringIO()):
        evaluation: Any = COCOeval(_image(truth), _image(found), "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.params.maxDets = [MOST]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [*map(list, SIZES.values())], [*SIZES]
        evaluation.evaluate()
    return evaluation.evalImgs


def _image(annotations: list[dict]) -> COCO:
    coco: Any = COCO()
    coco.dataset = {"info": {}, "images": [{"id": 1}], "categories": [{"id": 1}], "annotations": annotations}
    coco.createIndex()
    return coco
