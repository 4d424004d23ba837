"""The file of pseudo labels in PoseTrack18's format. It holds everything that the next run needs to continue."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stm_skeletons.annotation_file import Annotation, Image, person_category
from stm_skeletons.errors import DataError, one_line
from stm_skeletons.files import atomic_write, read_text
from stm_skeletons.strict import validation_message
from training.label.people_labels import Teacher


class FrameEntry(Image, extra="forbid"):
    """A labelled frame; its ``id`` is the frame number."""

    is_labeled: bool = True
    nframes: int = 0
    frame_id: int
    vid_id: str
    ignore_regions_x: list[list[float]]
    ignore_regions_y: list[list[float]]


class PersonEntry(Annotation, extra="forbid"):
    """A person in a labelled frame."""

    bbox: tuple[float, float, float, float]
    scores: list[float]
    num_keypoints: int
    track_id: int
    id: int


class Labels(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(extra="forbid")

    pseudo: bool
    teacher: dict[str, Any]
    every: int
    first: int = 0
    """First frame to label."""
    complete: bool = False
    """Whether the source was labelled to its end."""
    next_frame: int = 0
    """Frames before this one are done."""
    next_track: int = 0
    categories: list[dict[str, Any]]
    images: list[FrameEntry] = []
    annotations: list[PersonEntry] = []


@dataclass(frozen=True)
class Footage:
    """The footage to label."""

    name: str
    files: list[str]
    """File names for the labels: one for each image of a folder, or the video."""
    images: bool
    """Whether it is a folder of images."""

    def file(self, number: int) -> str | None:
        """The file of a frame; None if there is none."""
        number = number if self.images else 0
        return self.files[number] if number < len(self.files) else None


def begin(path: Path, teacher: Teacher, every: int, first: int, footage: Footage) -> Labels:
    """The labels to continue, or empty labels.

    Raises DataError if the existing file is damaged, or of another teacher, ``every``, ``first`` or footage.
    """
    category = person_category(teacher.skeleton.joints, teacher.skeleton.edges)
    if not path.exists():
        return Labels(pseudo=True, teacher=teacher.description, every=every, first=first, categories=[category])
    try:
        labels = Labels.model_validate_json(read_text(path))
    except (OSError, ValueError) as error:
        reason = validation_message(error) if isinstance(error, ValidationError) else error
        raise DataError(
            f"cannot continue {path}, which is not a file of pseudo labels ({one_line(reason)}); "
            "move it away, or choose another --out"
        ) from error
    if labels.teacher != teacher.description or labels.categories != [category]:
        raise DataError(f"{path} is from another teacher; use that one, delete the file, or choose another --out")
    if labels.every != every:
        raise DataError(
            f"{path} has {_every(labels.every)}, not {_every(every)}; "
            f"use --every {labels.every}, delete the file, or choose another --out"
        )
    if labels.first != first:
        raise DataError(
            f"{path} begins with frame {labels.first}, not {first}; use --first-frame {labels.first}, delete the file, "
            "or choose another --out"
        )
    for image in labels.images:
        if footage.file(image.frame_id) != image.file_name:
            raise DataError(
                f"{path} labels other footage ({image.file_name}), or images were added or removed since; "
                "delete the file, or choose another --out"
            )
    return labels


def _every(number: int) -> str:
    """1 is "every frame", 2 is "every 2nd frame", 11 is "every 11th frame"."""
    if number == 1:
        return "every frame"
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"every {number}{suffix} frame"


def drop_unfinished(labels: Labels) -> None:
    """Remove the frame whose labelling was interrupted."""
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
