"""COCO keypoints: https://cocodataset.org/#format-data, read through pycocotools."""

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask
from pycocotools.coco import COCO

from stm_skeletons.annotation_file import VISIBILITIES, box_corners, no_visibility, whole_number
from stm_skeletons.errors import DataError
from stm_skeletons.geometry import FARTHEST
from stm_skeletons.skeleton import Skeleton
from training.data.annotations import (
    BAD_BOXES,
    BAD_JOINTS,
    OUTSIDE,
    Files,
    Tally,
    box_polygon,
    count_outside,
    likely_box,
    read_json,
    tally_missing,
)
from training.data.joints import joint_columns, select_joints
from training.data.labels import LABELLED, DataSet, LabelledPicture, Picture, Regions
from training.data.splits import Part


def read_coco(annotations: Path, images: Path, skeleton: Skeleton, part: Part | None = None) -> DataSet:
    """The pictures of a COCO keypoints file that show at least one person with a labelled joint.

    People none of whose joints is labelled stay, as people of whom only the box is known. Crowds (``iscrowd``) become
    ignored regions. A picture's masks are None unless every person in it has a segmentation.

    Args:
        annotations: such as ``person_keypoints_train2017.json``.
        images: folder that ``file_name`` is relative to.
        skeleton: gives the joints wanted and their order.
        part: which images to read; None: all.

    Raises:
        DataError: the file is missing, cut short or contradicts itself, has scores instead of visibilities, or most of
            its pictures are missing.
    """
    content = read_json(annotations)
    names, person = _check(content, annotations)
    try:
        index, sourced = joint_columns(names, skeleton)
    except DataError as error:
        raise DataError(f"{annotations}: {error}") from error
    tally = Tally()
    if part is not None:
        content = part.choose(content, tally)
    poses = _poses(content["annotations"], person, names, index, annotations, tally)
    coco = _indexed(content)
    shown = [coco.imgs[number] for number in coco.getImgIds(catIds=[person])]
    files = Files()
    missing = [path for image in shown if (path := images / image["file_name"]) not in files]
    tally_missing(missing, len(shown), images, tally)
    gone = set(missing)
    pictures = []
    for image in sorted(shown, key=lambda image: image["id"]):
        path = images / image["file_name"]
        if path in gone:
            continue
        people = [note for note in coco.imgToAnns[image["id"]] if note["category_id"] == person]
        picture = _picture(path, image, people, poses, tally)
        if (picture.poses[..., 2] == LABELLED).any():
            pictures.append(picture)
        else:
            tally.add("pictures left out because no joint of anybody is labelled", path)
    return DataSet(annotations.stem, skeleton, sourced, tuple(pictures), problems=tally.lines())


def _picture(
    path: Path, image: dict, people: list[dict], poses: dict[int, NDArray[np.float32]], tally: Tally
) -> LabelledPicture:
    size = (image["width"], image["height"])
    single = [note for note in people if not note.get("iscrowd")]
    crowds = [note for note in people if note.get("iscrowd")]
    of_people = np.array([poses[note["id"]] for note in single], np.float32).reshape(len(single), -1, 3)
    tally.add(OUTSIDE, path, count_outside(of_people, size))
    areas = [_area(note, size, tally) for note in single]
    known = [area for area in areas if area is not None]
    return LabelledPicture(
        Picture(path),
        size,
        of_people,
        np.array([_box(note, poses[note["id"]], size, tally) for note in single], np.float32).reshape(-1, 4),
        np.full(len(single), -1, np.int64),
        _joined(known) if single and len(known) == len(areas) else None,
        _joined([_area(note, size, tally) or _boxed(note, size) for note in crowds]),
        np.array([_covered(note) for note in single], np.float32),
    )


def _covered(note: dict) -> float:
    """COCO's area, NaN where there is none that can be one."""
    area = note.get("area")
    return float(area) if isinstance(area, int | float) and 0 < area <= FARTHEST**2 else math.nan


def _box(note: dict, pose: NDArray[np.float32], size: tuple[int, int], tally: Tally) -> tuple:
    box = box_corners(note.get("bbox"))
    if box is None:
        tally.add(BAD_BOXES, f"annotation {note['id']}")
    return box or likely_box(pose, size)


def _boxed(note: dict, size: tuple[int, int]) -> Regions:
    return Regions((box_polygon(box_corners(note.get("bbox")) or (0, 0, *size)),))


def _joined(areas: list[Regions]) -> Regions:
    return Regions(
        tuple(polygon for area in areas for polygon in area.polygons),
        tuple(code for area in areas for code in area.run_lengths),
    )


def _area(note: dict, size: tuple[int, int], tally: Tally) -> Regions | None:
    """An annotation's segmentation; None where there is none, or none that can be used."""
    segmentation = note.get("segmentation")
    if not segmentation:
        return None
    area = _run_length(segmentation, size) if isinstance(segmentation, dict) else _polygons(segmentation)
    if area is None:
        tally.add("segmentations that cannot be used", f"annotation {note['id']}")
    return area


def _polygons(segmentation: Any) -> Regions | None:
    try:
        flat = [np.asarray(polygon, np.float64) for polygon in segmentation]
        if any(polygon.ndim != 1 or len(polygon) % 2 or not (np.abs(polygon) <= FARTHEST).all() for polygon in flat):
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    # Fewer than three corners cover nothing; COCO has a few.
    polygons = tuple(polygon.reshape(-1, 2).astype(np.float32) for polygon in flat if len(polygon) >= 6)
    return Regions(polygons) if polygons else None


def _run_length(code: Any, size: tuple[int, int]) -> Regions | None:
    # pycocotools checks nothing of this, and crashes on some of it.
    height_width = [size[1], size[0]]
    counts = code.get("counts")
    try:
        counts = _counts(counts) if isinstance(counts, str) else counts
        if code.get("size") != height_width or min(counts) < 0 or sum(counts) != size[0] * size[1]:
            return None
        checked: Any = {"size": height_width, "counts": counts}
        return Regions(run_lengths=(mask.frPyObjects(checked, *height_width),))
    except (TypeError, ValueError):
        return None


def _counts(text: str) -> list[int]:
    """The lengths of runs in a compressed code: five bits to a character, from the third on as differences."""
    counts: list[int] = []
    value = bits = 0
    for character in text:
        five = ord(character) - 48
        if not 0 <= five < 64 or bits > 60:
            raise ValueError("not a run-length code")
        value |= (five & 0x1F) << bits
        bits += 5
        if not five & 0x20:
            if five & 0x10:
                value -= 1 << bits
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = bits = 0
    return counts


def _poses(
    notes: list[dict], person: int, names: list[str], index: NDArray[np.int64], path: Path, tally: Tally
) -> dict[int, NDArray[np.float32]]:
    """Pose [NK, 3] of every person by the annotation's id; all at once, for COCO has 262,000 of them."""
    people = [note for note in notes if note["category_id"] == person and not note.get("iscrowd")]
    nothing = [0] * (3 * len(names))
    for note in people:
        numbers = note.get("keypoints") or nothing
        if not isinstance(numbers, list) or len(numbers) != len(nothing):
            raise DataError(
                f"{path}: the keypoints of annotation {note['id']} are not {len(nothing)} numbers: x, y, v for each of "
                f"{len(names)} joints"
            )
    try:
        values = np.array([note.get("keypoints") or nothing for note in people], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        culprit = next(note["id"] for note in people if not _all_numbers(note.get("keypoints") or []))
        raise DataError(f"{path}: the keypoints of annotation {culprit} are not all numbers") from error
    values = values.reshape(len(people), len(names), 3)
    strange = np.argwhere(~np.isin(values[..., 2], VISIBILITIES))
    if len(strange):
        i, joint = strange[0]
        raise DataError(f"{path}: annotation {people[i]['id']} {no_visibility(values[i, joint, 2])}")
    poses, bad = select_joints(values, index)
    for i in np.flatnonzero(bad):
        tally.add(BAD_JOINTS, f"annotation {people[i]['id']}", bad[i])
    return {note["id"]: pose for note, pose in zip(people, poses, strict=True)}


def _all_numbers(values: list) -> bool:
    try:
        return np.array(values, np.float64).ndim == 1
    except (TypeError, ValueError, OverflowError):
        return False


def _indexed(content: dict[str, Any]) -> Any:
    coco: Any = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _check(content: dict[str, Any], path: Path) -> tuple[list[str], int]:
    """Names of the joints and id of the category that has them; ids and sizes become whole numbers.

    By hand, not by the models of stm_skeletons.annotation_file: pydantic takes a minute over all of COCO, and would
    refuse the whole file for a box or an outline that costs one person.
    """
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list) or not all(isinstance(entry, dict) for entry in content[key]):
            raise DataError(f"{path} is not in COCO's format: it has no list '{key}' of objects")
    images = _ids(content["images"], "image", path)
    categories = _ids(content["categories"], "category", path)
    _ids(content["annotations"], "annotation", path)
    for image in content["images"]:
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise DataError(f"{path}: image {image['id']} has no file_name")
        for side in ("width", "height"):
            image[side] = whole_number(image.get(side)) or 0
            if image[side] <= 0:
                raise DataError(f"{path}: image {image['id']} has no width and height in pixels")
    for note in content["annotations"]:
        image, category = note.get("image_id"), note.get("category_id")
        note["image_id"], note["category_id"] = whole_number(image), whole_number(category)
        if note["image_id"] not in images:
            raise DataError(f"{path}: annotation {note['id']} is of image {image}, which the file does not list")
        if note["category_id"] not in categories:
            raise DataError(f"{path}: annotation {note['id']} has category {category}, which the file does not list")
    with_joints = [category for category in content["categories"] if category.get("keypoints")]
    if len(with_joints) != 1:
        raise DataError(
            f"{path} has {len(with_joints)} categories with keypoints, 1 is needed; take person_keypoints_*.json, "
            "not instances_*.json"
        )
    names = with_joints[0]["keypoints"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: the keypoints of category {with_joints[0]['id']} are not a list of names")
    return names, with_joints[0]["id"]


def _ids(entries: list[dict], what: str, path: Path) -> set[int]:
    ids: set[int] = set()
    for position, entry in enumerate(entries):
        number = entry["id"] = whole_number(entry.get("id"))
        if number is None:
            raise DataError(f"{path}: {what} number {position} of the list has no whole number as id")
        if number in ids:
            raise DataError(f"{path} has two entries of {what} {number}")
        ids.add(number)
    return ids
