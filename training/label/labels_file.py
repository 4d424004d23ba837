"""The file of pseudo labels in PoseTrack18's format; all that the next run needs to continue is in it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stm_skeletons.annotation_file import Annotation, Image, person_category
from stm_skeletons.errors import DataError, one_line
from stm_skeletons.files import atomic_write, read_text
from stm_skeletons.strict import what_is_wrong
from training.label.people_labels import Teacher


class LabelledImage(Image, extra="forbid"):
    """A labelled frame; its ``id`` is its number, too."""

    is_labeled: bool = True
    nframes: int = 0
    frame_id: int
    vid_id: str
    ignore_regions_x: list[list[float]]
    ignore_regions_y: list[list[float]]


class LabelledPerson(Annotation, extra="forbid"):
    """Somebody in a labelled frame."""

    bbox: tuple[float, float, float, float]
    scores: list[float]
    num_keypoints: int
    track_id: int
    id: int


class Labels(BaseModel):
    """The contents of the file."""

    model_config = ConfigDict(extra="forbid")

    pseudo: bool
    teacher: dict[str, Any]
    every: int
    first: int = 0
    """Frames before this one are left out."""
    complete: bool = False
    """Whether the source was labelled to its end."""
    next_frame: int = 0
    """Frames before this one are done."""
    next_track: int = 0
    categories: list[dict[str, Any]]
    images: list[LabelledImage] = []
    annotations: list[LabelledPerson] = []


@dataclass(frozen=True)
class Footage:
    """What is labelled."""

    name: str
    files: list[str]
    """As the labels name them: one for each frame of a folder, or the video."""
    images: bool

    def file(self, number: int) -> str | None:
        """The file of a frame; None where there is none."""
        number = number if self.images else 0
        return self.files[number] if number < len(self.files) else None


def begin(path: Path, teacher: Teacher, every: int, first: int, footage: Footage) -> Labels:
    """What was labelled before, or an empty file's contents.

    Raises DataError when the file there is damaged, or of another teacher, ``every``, ``first`` or footage.
    """
    category = person_category(teacher.skeleton.joints, teacher.skeleton.edges)
    if not path.exists():
        return Labels(pseudo=True, teacher=teacher.description, every=every, first=first, categories=[category])
    try:
        labels = Labels.model_validate_json(read_text(path))
    except (OSError, ValueError) as error:
        reason = what_is_wrong(error) if isinstance(error, ValidationError) else error
        raise DataError(
            f"{path} is there and not a file of pseudo labels to continue ({one_line(reason)}); "
            "move it away, or choose another folder"
        ) from error
    if labels.teacher != teacher.description or labels.categories != [category]:
        raise DataError(f"{path} was labelled by another teacher; use that one, delete it, or choose another folder")
    if labels.every != every:
        raise DataError(
            f"{path} has every {labels.every}-th frame, not every {every}-th; "
            f"go on with {labels.every}, delete it, or choose another folder"
        )
    if labels.first != first:
        raise DataError(
            f"{path} begins with frame {labels.first}, not {first}; go on with {labels.first}, delete it, or choose "
            "another folder"
        )
    for image in labels.images:
        if footage.file(image.frame_id) != image.file_name:
            raise DataError(
                f"{path} labels other footage ({image.file_name}), or images have come or gone since; "
                "delete it, or choose another folder"
            )
    return labels


def drop_unfinished(labels: Labels) -> None:
    """Leave out the frame in the middle of which something went wrong."""
    labels.images = [image for image in labels.images if image.id < labels.next_frame]
    labels.annotations = [person for person in labels.annotations if person.image_id < labels.next_frame]
    labels.next_track = 1 + max((person.track_id for person in labels.annotations), default=-1)


def save(path: Path, labels: Labels) -> None:
    """Write the whole file. Raises SinkError."""
    for image in labels.images:
        image.nframes = labels.next_frame
    text = json.dumps(labels.model_dump(), separators=(",", ":"))
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
