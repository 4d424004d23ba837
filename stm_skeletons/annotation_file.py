"""Annotation files as COCO and PoseTrack18 write them: JSON with a list of categories, of images and of annotations.

The models have what every reader needs; a reader that needs more of an image or annotation adds it. They take what real
files have: keys of other programs, null for a list, and whole numbers written as 384.0 or "384".
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator

from stm_skeletons.geometry import FARTHEST

PERSON = 1
"""The category of people in the files that we write."""
VISIBILITIES = (0, 1, 2)
"""Of a joint: not labelled; labelled but covered, or just labelled (PoseTrack18); visible."""

T = TypeVar("T")
ListOrNull = Annotated[list[T], BeforeValidator(lambda value: [] if value is None else value)]


class Category(BaseModel):
    """A kind of thing; only people have joints."""

    id: int
    keypoints: ListOrNull[str] = []
    """Names of the joints."""


class Image(BaseModel):
    """A picture, or a frame of a video."""

    id: int
    file_name: str = "?"
    width: int | None = None
    height: int | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) in pixels; None where the file does not tell."""
        size = (self.width or 0, self.height or 0)
        return size if min(size) > 0 else None


class Annotation(BaseModel):
    """A person, or something else, in an image."""

    image_id: int
    category_id: int | None = None
    keypoints: ListOrNull[float] = []
    """x, y and visibility of every joint in a row; empty where only a box is known."""


ImageT = TypeVar("ImageT", bound=Image)
AnnotationT = TypeVar("AnnotationT", bound=Annotation)


class AnnotationFile(BaseModel, Generic[ImageT, AnnotationT]):
    """The whole file."""

    categories: list[Category]
    images: list[ImageT]
    annotations: list[AnnotationT]


def person_category(joints: Iterable[str], edges: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """The category that a file of people is written with; ``edges`` are counted from 0."""
    return {
        "supercategory": "person",
        "id": PERSON,
        "name": "person",
        "keypoints": list(joints),
        "skeleton": [[a + 1, b + 1] for a, b in edges],  # counted from 1
    }


def name_from(folder: Path, file: Path) -> str:
    """What a file in ``folder`` calls another, so that both can move together: its whole path where it lies far away,
    which is neither in ``folder`` nor in the folder around it."""
    file, folder = file.resolve(), folder.resolve()
    if file.is_relative_to(folder.parent):
        return Path(os.path.relpath(file, folder)).as_posix()
    return file.as_posix()


def whole_number(value: Any) -> int | None:
    """The number that is written as 384, 384.0 or "384"; None for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isinstance(value, str) or number == value else None


def box_corners(bbox: Any) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom of a box given as x, y, width, height; None when it is missing or no box."""
    try:
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError, OverflowError):
        return None
    if not (abs(x) <= FARTHEST and abs(y) <= FARTHEST and 0 < width <= FARTHEST and 0 < height <= FARTHEST):
        return None
    return x, y, x + width, y + height


def no_visibility(value: float) -> str:
    """What to say of an annotation whose joints have something else than VISIBILITIES."""
    return (
        f"has {value:g} for a joint's visibility, which is 0, 1 or 2: this looks like detections with scores, not "
        "labels; give a file of labels, or write 2 for joints that are right and 0 for the others"
    )
