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

from stm_skeletons.annotation_file import VISIBILITIES, box_corners, invalid_visibility, whole_number
from stm_skeletons.errors import DataError
from stm_skeletons.geometry import MAX_COORDINATE
from stm_skeletons.skeleton import Skeleton
from training.data.annotations import (
    BAD_BOXES,
    BAD_JOINTS,
    OUTSIDE,
    Files,
    ProblemCounts,
    box_polygon,
    count_missing,
    count_outside,
    likely_box,
    read_json,
)
from training.data.joints import joint_columns, select_joints
from training.data.labels import LABELLED, DataSet, ImageFile, LabelledImage, Regions
from training.data.splits import Part


def read_coco(annotations: Path, images: Path, skeleton: Skeleton, part: Part | None = None) -> DataSet:
    """Read the images of a COCO keypoints file that show at least one person with a labelled joint.

    People without labelled joints are kept with their box. Crowds (``iscrowd``) become ignored regions. An image has
    masks only if every person in it has a segmentation.

    Args:
        annotations: the annotation file, such as ``person_keypoints_train2017.json``.
        images: folder that ``file_name`` is relative to.
        skeleton: determines the joints and their order.
        part: images to read; None for all.

    Raises:
        DataError: the file is missing, truncated or inconsistent, has scores instead of visibilities, or most of its
            images are missing.
    """
    content = read_json(annotations)
    names, person = _check(content, annotations)
    try:
        index, sourced = joint_columns(names, skeleton)
    except DataError as error:
        raise DataError(f"{annotations}: {error}") from error
    problems = ProblemCounts()
    if part is not None:
        content = part.choose(content, problems)
    poses = _poses(content["annotations"], person, names, index, annotations, problems)
    coco = _indexed(content)
    entries = [coco.imgs[number] for number in coco.getImgIds(catIds=[person])]
    files = Files()
    missing = [path for entry in entries if (path := images / entry["file_name"]) not in files]
    count_missing(missing, len(entries), images, problems)
    missing_paths = set(missing)
    labelled = []
    for entry in sorted(entries, key=lambda entry: entry["id"]):
        path = images / entry["file_name"]
        if path in missing_paths:
            continue
        people = [annotation for annotation in coco.imgToAnns[entry["id"]] if annotation["category_id"] == person]
        image = _image(path, entry, people, poses, problems)
        if (image.poses[..., 2] == LABELLED).any():
            labelled.append(image)
        else:
            problems.add("images have no labelled joint and are skipped", path)
    return DataSet(annotations.stem, skeleton, sourced, tuple(labelled), problems=problems.lines())


def _image(
    path: Path, entry: dict, people: list[dict], poses: dict[int, NDArray[np.float32]], problems: ProblemCounts
) -> LabelledImage:
    size = (entry["width"], entry["height"])
    single = [annotation for annotation in people if not annotation.get("iscrowd")]
    crowds = [annotation for annotation in people if annotation.get("iscrowd")]
    image_poses = np.array([poses[annotation["id"]] for annotation in single], np.float32).reshape(len(single), -1, 3)
    problems.add(OUTSIDE, path, count_outside(image_poses, size))
    areas = [_area(annotation, size, problems) for annotation in single]
    known = [area for area in areas if area is not None]
    boxes = [_box(annotation, poses[annotation["id"]], size, problems) for annotation in single]
    return LabelledImage(
        ImageFile(path),
        size,
        image_poses,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(single), -1, np.int64),
        _joined(known) if single and len(known) == len(areas) else None,
        _joined([_area(annotation, size, problems) or _box_region(annotation, size) for annotation in crowds]),
        np.array([_covered(annotation) for annotation in single], np.float32),
    )


def _covered(annotation: dict) -> float:
    """COCO's area; NaN if it is missing or implausible."""
    area = annotation.get("area")
    return float(area) if isinstance(area, int | float) and 0 < area <= MAX_COORDINATE**2 else math.nan


def _box(annotation: dict, pose: NDArray[np.float32], size: tuple[int, int], problems: ProblemCounts) -> tuple:
    box = box_corners(annotation.get("bbox"))
    if box is None:
        problems.add(BAD_BOXES, f"annotation {annotation['id']}")
    return box or likely_box(pose, size)


def _box_region(annotation: dict, size: tuple[int, int]) -> Regions:
    return Regions((box_polygon(box_corners(annotation.get("bbox")) or (0, 0, *size)),))


def _joined(areas: list[Regions]) -> Regions:
    return Regions(
        tuple(polygon for area in areas for polygon in area.polygons),
        tuple(code for area in areas for code in area.run_lengths),
    )


def _area(annotation: dict, size: tuple[int, int], problems: ProblemCounts) -> Regions | None:
    """An annotation's segmentation; None if it is missing or unusable."""
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    area = _run_length(segmentation, size) if isinstance(segmentation, dict) else _polygons(segmentation)
    if area is None:
        problems.add("segmentations are unusable and ignored", f"annotation {annotation['id']}")
    return area


def _polygons(segmentation: Any) -> Regions | None:
    try:
        flat = [np.asarray(polygon, np.float64) for polygon in segmentation]
        if any(
            polygon.ndim != 1 or len(polygon) % 2 or not (np.abs(polygon) <= MAX_COORDINATE).all() for polygon in flat
        ):
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    # Polygons with fewer than three corners are empty; COCO has a few.
    polygons = tuple(polygon.reshape(-1, 2).astype(np.float32) for polygon in flat if len(polygon) >= 6)
    return Regions(polygons) if polygons else None


def _run_length(code: Any, size: tuple[int, int]) -> Regions | None:
    # pycocotools checks none of this and crashes on some invalid codes.
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
    """Run lengths of a compressed code: five bits per character, with differences from the third run on."""
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
    annotations: list[dict],
    person: int,
    names: list[str],
    index: NDArray[np.int64],
    path: Path,
    problems: ProblemCounts,
) -> dict[int, NDArray[np.float32]]:
    """Pose [NK, 3] of every person by annotation id. All are converted at once, because COCO has 262,000 of them."""
    people = [one for one in annotations if one["category_id"] == person and not one.get("iscrowd")]
    unlabelled = [0] * (3 * len(names))
    for annotation in people:
        numbers = annotation.get("keypoints") or unlabelled
        if not isinstance(numbers, list) or len(numbers) != len(unlabelled):
            raise DataError(
                f"{path}: keypoints of annotation {annotation['id']} must be {len(unlabelled)} numbers: x, y, v for "
                f"each of {len(names)} joints"
            )
    try:
        values = np.array([annotation.get("keypoints") or unlabelled for annotation in people], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        first = next(one["id"] for one in people if not _all_numbers(one.get("keypoints") or []))
        raise DataError(f"{path}: keypoints of annotation {first} must be numbers") from error
    values = values.reshape(len(people), len(names), 3)
    invalid = np.argwhere(~np.isin(values[..., 2], VISIBILITIES))
    if len(invalid):
        i, joint = invalid[0]
        raise DataError(f"{path}: annotation {people[i]['id']} {invalid_visibility(values[i, joint, 2])}")
    poses, bad = select_joints(values, index)
    for i in np.flatnonzero(bad):
        problems.add(BAD_JOINTS, f"annotation {people[i]['id']}", bad[i])
    return {annotation["id"]: pose for annotation, pose in zip(people, poses, strict=True)}


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
    """Validate the content; returns the joint names and the id of their category. Ids and sizes become integers.

    The models of stm_skeletons.annotation_file are not used: pydantic takes a minute for all of COCO, and rejects the
    whole file for one bad box or outline.
    """
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list) or not all(isinstance(entry, dict) for entry in content[key]):
            raise DataError(f"{path} is not in COCO's format: '{key}' must be a list of objects")
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
    for annotation in content["annotations"]:
        image, category = annotation.get("image_id"), annotation.get("category_id")
        annotation["image_id"], annotation["category_id"] = whole_number(image), whole_number(category)
        if annotation["image_id"] not in images:
            raise DataError(f"{path}: annotation {annotation['id']} refers to unknown image {image}")
        if annotation["category_id"] not in categories:
            raise DataError(f"{path}: annotation {annotation['id']} refers to unknown category {category}")
    with_joints = [category for category in content["categories"] if category.get("keypoints")]
    if len(with_joints) != 1:
        raise DataError(
            f"{path} has {len(with_joints)} categories with keypoints, must be 1; use person_keypoints_*.json, "
            "not instances_*.json"
        )
    names = with_joints[0]["keypoints"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: keypoints of category {with_joints[0]['id']} must be a list of names")
    return names, with_joints[0]["id"]


def _ids(entries: list[dict], what: str, path: Path) -> set[int]:
    ids: set[int] = set()
    for position, entry in enumerate(entries):
        number = entry["id"] = whole_number(entry.get("id"))
        if number is None:
            raise DataError(f"{path}: {what} at position {position} of the list has no whole number as id")
        if number in ids:
            raise DataError(f"{path}: {what} {number} is listed twice")
        ids.add(number)
    return ids
