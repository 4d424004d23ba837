"""Annotation files in COCO's and PoseTrack18's JSON format: lists of categories, images and annotations.

The models hold the fields that every reader needs; readers that need more extend them. They accept what real files
contain: unknown keys, null instead of a list, and whole numbers written as 384.0 or "384".
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator

from stm_skeletons.geometry import MAX_COORDINATE

PERSON = 1
"""Category id of people in the files that we write."""
VISIBILITIES = (0, 1, 2)
"""Visibility of a joint: 0 not labelled; 1 labelled but occluded (PoseTrack18: just labelled); 2 visible."""

T = TypeVar("T")
ListOrNull = Annotated[list[T], BeforeValidator(lambda value: [] if value is None else value)]


class Category(BaseModel):
    """An object category; only people have joints."""

    id: int
    keypoints: ListOrNull[str] = []
    """Names of the joints."""


class Image(BaseModel):
    """An image, or a frame of a video."""

    id: int
    file_name: str = "?"
    width: int | None = None
    height: int | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) in pixels; None if the file does not give them."""
        size = (self.width or 0, self.height or 0)
        return size if min(size) > 0 else None


class Annotation(BaseModel):
    """A person or another object in an image."""

    image_id: int
    category_id: int | None = None
    keypoints: ListOrNull[float] = []
    """x, y and visibility of each joint, flattened; empty if only a box is known."""


ImageT = TypeVar("ImageT", bound=Image)
AnnotationT = TypeVar("AnnotationT", bound=Annotation)


class AnnotationFile(BaseModel, Generic[ImageT, AnnotationT]):
    """The contents of an annotation file."""

    categories: list[Category]
    images: list[ImageT]
    annotations: list[AnnotationT]


def person_category(joints: Iterable[str], edges: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """Return the JSON category for people; ``edges`` are counted from 0."""
    return {
        "supercategory": "person",
        "id": PERSON,
        "name": "person",
        "keypoints": list(joints),
        "skeleton": [[a + 1, b + 1] for a, b in edges],  # COCO counts from 1
    }


def relative_name(folder: Path, file: Path) -> str:
    """Return the path by which a file in ``folder`` refers to ``file``.

    Relative if ``file`` lies in ``folder`` or its parent, so that both can be moved together; otherwise absolute.
    """
    file, folder = file.resolve(), folder.resolve()
    if file.is_relative_to(folder.parent):
        return Path(os.path.relpath(file, folder)).as_posix()
    return file.as_posix()


def whole_number(value: Any) -> int | None:
    """Return a whole number written as 384, 384.0 or "384"; None for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isinstance(value, str) or number == value else None


def box_corners(bbox: Any) -> tuple[float, float, float, float] | None:
    """Return left, top, right, bottom of a box given as x, y, width, height; None if it is missing or invalid."""
    try:
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError, OverflowError):
        return None
    if not (
        abs(x) <= MAX_COORDINATE
        and abs(y) <= MAX_COORDINATE
        and 0 < width <= MAX_COORDINATE
        and 0 < height <= MAX_COORDINATE
    ):
        return None
    return x, y, x + width, y + height


def invalid_visibility(value: float) -> str:
    """Return the error text for an annotation with a visibility that is not in VISIBILITIES."""
    return (
        f"has visibility {value:g} for a joint, must be 0, 1 or 2: these look like detections with scores, not labels; "
        "give a file of labels, or write 2 for correct joints and 0 for the others"
    )
