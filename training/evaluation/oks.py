"""Matches the people of a frame with its labels by COCO's object keypoint similarity (OKS), with pycocotools."""

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
"""COCO's similarities from which on a person is correct."""
MOST = 20
"""Number of people of a frame that count, by score; COCO's number."""
LOWEST = 0.05
"""Lowest score of people that count."""
AREA_OF_BOX = 0.53
"""Share of the box that a person covers, for data without areas: COCO's mean."""
SIZES = {"any": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""COCO's sizes by area of a person, in square network pixels."""


@dataclass(frozen=True)
class Matches:
    """The D people of a frame that count, in order of falling score, matched with the labels at each of LEVELS."""

    scores: NDArray[np.float64]
    """[D]"""
    right: NDArray[np.bool_]
    """[D, LEVELS]: matched with a label."""
    ignored: NDArray[np.bool_]
    """[D, LEVELS]: neither correct nor wrong."""
    labelled: int
    """Number of people of this size with a labelled joint inside the frame."""


def match_people(
    people: People, frame: SequenceFrame, skeleton: Skeleton, sourced: NDArray[np.bool_]
) -> dict[str, Matches]:
    """Match people with labels by COCO's rule, for each of SIZES: in order of score, each with the most similar free
    label.

    Labels of another size are neither missed nor found, and unmatched people of another size are not wrong. All joints
    of a person count, including those that were placed without a peak; a joint of unknown position is at (0, 0), as in
    COCO's files. Labels are joints that are labelled and inside the frame. People are not wrong if they match a person
    without labelled joints (COCO compares with twice the box then) or lie mostly in ignored regions.

    Args:
        people: in network pixels.
        frame: with the labels.
        skeleton: determines the joints' sigmas.
        sourced: [NK] joints that the data label; others do not count.
    """
    kept = people.chosen(people.scores >= np.float32(LOWEST))
    counted = frame.inside & sourced
    labels, areas = np.where(counted[..., None], frame.poses, 0)[:, sourced], person_areas(frame)
    low, high = frame.boxes.min(axis=1), frame.boxes.max(axis=1)
    # Ids start at 1, because COCOeval uses 0 for unmatched.
    truth = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": int(counted[i].sum())}
        | {"keypoints": labels[i].ravel().tolist(), "area": float(areas[i]), "bbox": [*low[i], *(high[i] - low[i])]}
        for i in range(len(labels))
    ]
    scores, keypoints, extents = kept.scores.astype(float).tolist(), kept.keypoints[:, sourced], found_areas(kept)
    found = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "score": scores[i]}
        | {"keypoints": keypoints[i].ravel().tolist(), "area": float(extents[i])}
        for i in range(len(kept))
    ]
    in_ignored, labelled = in_ignored_regions(kept, frame), counted.any(axis=1)
    return {
        size: _matches(matched, in_ignored, int((labelled & (areas >= low) & (areas <= high)).sum()))
        for (size, (low, high)), matched in zip(
            SIZES.items(), _match(truth, found, np.array(skeleton.sigmas)[sourced]), strict=True
        )
    }


def _matches(matched: dict[str, Any] | None, in_ignored: NDArray[np.bool_], labelled: int) -> Matches:
    """Matches from COCOeval's result; ``in_ignored``: [M] people in ignored regions."""
    if matched is None:
        none = np.zeros((0, len(LEVELS)), bool)
        return Matches(np.zeros(0), none, none, labelled)
    order = np.array(matched["dtIds"], int) - 1
    pairs = np.asarray(matched["dtMatches"]).T > 0
    ignored = np.asarray(matched["dtIgnore"]).T > 0
    ignored |= ~pairs & in_ignored[order, None]
    return Matches(np.array(matched["dtScores"], float), pairs & ~ignored, ignored, labelled)


def person_areas(frame: SequenceFrame) -> NDArray[np.float64]:
    """[P] in square network pixels: area of each person from the data, else AREA_OF_BOX of the box."""
    known = np.nan if frame.areas is None else frame.areas.astype(float)
    return np.where(np.isnan(known), AREA_OF_BOX * box_areas(frame), known)


def box_areas(frame: SequenceFrame) -> NDArray[np.float64]:
    """[P] in square network pixels: area of each person's box, including parts outside the frame."""
    x, y = np.moveaxis(frame.boxes.astype(float), -1, 0)
    # Half the cross product of the diagonals, because moved boxes are parallelograms.
    return np.abs((x[:, 2] - x[:, 0]) * (y[:, 3] - y[:, 1]) - (x[:, 3] - x[:, 1]) * (y[:, 2] - y[:, 0])) / 2


def found_areas(people: People) -> NDArray[np.float64]:
    """[M] in square network pixels: area of the box around all joints of each detected person, as in COCO."""
    xy = people.keypoints[..., :2].astype(float)
    return np.ptp(xy, axis=1).prod(axis=-1)


def in_ignored_regions(people: People, frame: SequenceFrame) -> NDArray[np.bool_]:
    """[M]: people with most of their known joints in the frame's ignored cells."""
    known = people.keypoints[..., 2] > 0
    return (known & ignored_points(people.keypoints[..., :2], frame)).sum(axis=1) > known.sum(axis=1) / 2


def ignored_points(xy: NDArray, frame: SequenceFrame) -> NDArray[np.bool_]:
    """[...]: points [..., 2] in network pixels that lie in the frame's ignored cells."""
    height, width = frame.ignored.shape
    column, row = np.moveaxis(np.floor(xy / STRIDE), -1, 0).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    return inside & frame.ignored[np.where(inside, row, 0), np.where(inside, column, 0)]


def _match(truth: list[dict], found: list[dict], sigmas: NDArray) -> list[dict[str, Any] | None]:
    """COCOeval's result for these annotations at each of SIZES; None for an empty image."""
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
