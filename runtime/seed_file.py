"""Seed poses from annotation files in COCO's or PoseTrack18's JSON format."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from stm_skeletons.annotation_file import PERSON, VISIBILITIES, Annotation, AnnotationFile, Image, no_visibility
from stm_skeletons.errors import SeedError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.geometry import FARTHEST
from stm_skeletons.skeleton import KNOWN_JOINTS, Skeleton
from stm_skeletons.strict import what_is_wrong


@dataclass(frozen=True)
class Seed:
    """The people on an annotation file's first image."""

    poses: NDArray[np.float32]
    """[people, NK, 3]: x, y in pixels of that image, visibility; in the order of the wanted skeleton's joints."""
    size: tuple[int, int] | None
    """(width, height) of that image, if the file tells."""


def load_seed(path: str | Path, skeleton: Skeleton) -> Seed:
    """Read the people annotated on a file's first image.

    Joints are matched by name. Joints that the skeleton has and the file has not are left out, and the other way round;
    people without any labelled joint (crowds, boxes) are no poses.

    Raises:
        SeedError: missing file, not such JSON, other joints than COCO's or PoseTrack's, scores instead of
            visibilities, or nobody on the first image.
    """
    content = _read(Path(path))
    if not content.images:
        raise SeedError(f"{path} lists no images; seed poses are those annotated on its first image")
    image = content.images[0]
    categories = {category.id: category.keypoints for category in content.categories}
    poses = []
    for annotation in content.annotations:
        if annotation.image_id != image.id or not annotation.keypoints or not any(annotation.keypoints[2::3]):
            continue
        category = PERSON if annotation.category_id is None else annotation.category_id
        if category not in categories:
            raise SeedError(f"{path}: an annotation has category {category}, which the file does not list")
        poses.append(_pose(annotation.keypoints, categories[category], skeleton, path))
    if not any((pose[:, 2] > 0).any() for pose in poses):
        raise SeedError(f"{path}: nobody with labelled joints on its first image ({image.file_name})")
    return Seed(np.array(poses, np.float32), image.size)


def _pose(values: list[float], names: list[str], skeleton: Skeleton, path: str | Path) -> NDArray[np.float32]:
    if unknown := sorted(set(names) - KNOWN_JOINTS):
        raise SeedError(f"{path} has other joints than COCO or PoseTrack18: {', '.join(unknown)}")
    if len(set(names)) != len(names):
        raise SeedError(f"{path} names a joint twice")
    if len(values) != 3 * len(names):
        raise SeedError(f"{path}: a person has {len(values)} numbers for {len(names)} joints; x, y, v each are needed")
    if not (np.abs(values) <= FARTHEST).all():
        raise SeedError(f"{path}: a person has coordinates that are no pixels of any image")
    if strange := [value for value in values[2::3] if value not in VISIBILITIES]:
        raise SeedError(f"{path}: a person {no_visibility(strange[0])}")
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
        raise SeedError(f"{path} is not in COCO's or PoseTrack18's format: {what_is_wrong(error)}") from error
