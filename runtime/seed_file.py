"""Reads seed poses from annotation files in COCO's or PoseTrack18's JSON format."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from stm_skeletons.annotation_file import PERSON, VISIBILITIES, Annotation, AnnotationFile, Image, invalid_visibility
from stm_skeletons.errors import SeedError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.geometry import MAX_COORDINATE
from stm_skeletons.skeleton import KNOWN_JOINTS, Skeleton
from stm_skeletons.strict import validation_message


@dataclass(frozen=True)
class Seed:
    """The people on the first image of an annotation file."""

    poses: NDArray[np.float32]
    """[people, NK, 3]: x, y in pixels of that image, and visibility; joints in the skeleton's order."""
    size: tuple[int, int] | None
    """(width, height) of that image, if the file gives them."""


def load_seed(path: str | Path, skeleton: Skeleton) -> Seed:
    """Read the people annotated on the first image of a file.

    Joints are matched by name; joints that only the skeleton or only the file has are ignored. People without labelled
    joints (crowds, boxes) are ignored.

    Raises:
        SeedError: the file is missing, is not such JSON, has other joints than COCO or PoseTrack18, has scores instead
            of visibilities, or has no person on the first image.
    """
    content = _read(Path(path))
    if not content.images:
        raise SeedError(f"{path} lists no images; the seed poses are those annotated on its first image")
    image = content.images[0]
    categories = {category.id: category.keypoints for category in content.categories}
    poses = []
    for annotation in content.annotations:
        if annotation.image_id != image.id or not annotation.keypoints or not any(annotation.keypoints[2::3]):
            continue
        category = PERSON if annotation.category_id is None else annotation.category_id
        if category not in categories:
            raise SeedError(f"{path}: an annotation has category {category}, which the file does not define")
        poses.append(_pose(annotation.keypoints, categories[category], skeleton, path))
    if not any((pose[:, 2] > 0).any() for pose in poses):
        raise SeedError(f"{path}: no person with labelled joints on the first image ({image.file_name})")
    return Seed(np.array(poses, np.float32), image.size)


def _pose(values: list[float], names: list[str], skeleton: Skeleton, path: str | Path) -> NDArray[np.float32]:
    if unknown := sorted(set(names) - KNOWN_JOINTS):
        raise SeedError(f"{path}: joints unknown in COCO and PoseTrack18: {', '.join(unknown)}")
    if len(set(names)) != len(names):
        raise SeedError(f"{path}: a joint is named twice")
    if len(values) != 3 * len(names):
        raise SeedError(f"{path}: a person has {len(values)} values for {len(names)} joints, must be x, y, v for each")
    if not (np.abs(values) <= MAX_COORDINATE).all():
        raise SeedError(f"{path}: a person has non-finite or out-of-range coordinates")
    if strange := [value for value in values[2::3] if value not in VISIBILITIES]:
        raise SeedError(f"{path}: a person {invalid_visibility(strange[0])}")
    labelled = dict(zip(names, np.reshape(np.array(values, np.float32), (-1, 3)), strict=True))
    return np.array([labelled.get(joint, np.zeros(3, np.float32)) for joint in skeleton.joints], np.float32)


def _read(path: Path) -> AnnotationFile[Image, Annotation]:
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise SeedError(f"cannot read the seed file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SeedError(f"{path} is not JSON ({one_line(error)})") from error
    try:
        return AnnotationFile[Image, Annotation].model_validate(content)
    except ValidationError as error:
        raise SeedError(f"{path} is not in COCO's or PoseTrack18's format: {validation_message(error)}") from error
