"""Labels footage with a teacher: PoseTrack18's JSON, marked as pseudo labels, and a picture to judge them by.

What the teacher is unsure of is never written as absent. A joint under JOINT_SCORE is unlabelled (0, 0, 0), so the loss
leaves it out in the person's box; a person under PERSON_SCORE becomes an ignore region.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.optimize import linear_sum_assignment

from runtime.sources import Frame
from stm_skeletons.errors import DataError, SinkError, one_line
from stm_skeletons.files import partial_path, whole_file
from stm_skeletons.strict import what_is_wrong
from training.label.contact_sheet import ContactSheet, Drawing
from training.label.people import Person, Teacher, overlap

JOINT_SCORE = 0.3
"""Joints under this score are unlabelled."""
PERSON_SCORE = 0.2
"""People whose mean score over all joints is lower become ignore regions."""
_SAME_PERSON = 0.3
"""Overlap of the boxes of a person from one labelled frame to the next."""
_LOST_AFTER = 10
"""Frames of the source after which somebody who was not seen is somebody new."""
_SAVE_SECONDS = 30.0


class _Image(BaseModel):
    model_config = ConfigDict(extra="forbid")

    is_labeled: bool = True
    file_name: str
    nframes: int = 0
    frame_id: int
    vid_id: str
    ignore_regions_x: list[list[float]]
    ignore_regions_y: list[list[float]]
    id: int
    width: int
    height: int


class _Annotation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bbox: tuple[float, float, float, float]
    keypoints: list[float]
    scores: list[float]
    num_keypoints: int
    track_id: int
    image_id: int
    category_id: int
    id: int


class _Category(BaseModel):
    model_config = ConfigDict(extra="forbid")

    supercategory: str = "person"
    id: int = 1
    name: str = "person"
    keypoints: list[str]
    skeleton: list[list[int]]
    """Pairs of joints, counted from 1 as COCO does."""


class _Labels(BaseModel):
    """The file; all that the next run needs to continue is in it."""

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
    categories: list[_Category]
    images: list[_Image] = []
    annotations: list[_Annotation] = []


@dataclass(frozen=True)
class _Footage:
    name: str
    files: list[str]
    """As the labels name them: one for each frame of a folder, or the video."""
    images: bool

    def file(self, number: int) -> str | None:
        """The file of a frame; None where there is none."""
        number = number if self.images else 0
        return self.files[number] if number < len(self.files) else None


@dataclass(frozen=True)
class Summary:
    """What was written."""

    labels: Path
    contact_sheet: Path
    frames: int
    """Labelled frames in the file."""
    people: int
    unsure: int
    """People who became ignore regions."""
    complete: bool
    """Whether the source was labelled to its end."""


def label(
    frames: Iterable[Frame],
    source: Path,
    out: Path,
    teacher: Teacher,
    every: int = 1,
    pictures: Sequence[Path] | None = None,
    stop: Callable[[], bool] = lambda: False,
    first: int = 0,
) -> Summary:
    """Label a video or a folder of images; run again, it continues where it was interrupted.

    Writes ``out``/NAME.json and ``out``/NAME.jpg (the contact sheet), NAME being the source's name without suffix. The
    JSON is saved whole every half minute and when anything goes wrong, and holds everything labelled until then. Frames
    in which nobody is seen are labelled frames without annotations. The frames' files are named relative to ``out``
    where they are in ``out`` or in its parent folder, so that both can move together; else by their absolute paths.

    Args:
        frames: of the source, from frame ``first`` on, each with its number; also when continuing.
        source: the video file, folder of images or image that the frames come from.
        out: folder to write to; made where it is missing.
        teacher: MoveNetTeacher or BundleTeacher.
        every: label every n-th frame. A teacher with a memory sees only these.
        pictures: the file of each frame, for images; None for a video.
        stop: asked after each frame; True ends early, and the file says that it is not complete.
        first: number of the first frame that is given; those before it are left out.

    Raises:
        DataError: no such source, or a file of that name is there that is damaged or from another source, teacher,
            ``every``, ``first`` or program.
        SinkError: the files cannot be written.
    """
    if every < 1:
        raise DataError(f"cannot label every {every}-th frame; give 1 or more")
    if not source.exists():
        raise DataError(f"no video or folder {source}; labels need footage that can be read again")
    name = labels_name(source)
    path, sheet_path = out / f"{name}.json", out / f"{name}.jpg"
    files = [source] if pictures is None else list(pictures)
    if out.resolve() == source.resolve() or sheet_path.resolve() in {file.resolve() for file in files}:
        raise DataError(f"the contact sheet in {out} would be among the footage; choose another folder")
    labels = _begin(path, teacher, every, first)
    footage = _Footage(name, [_named(file, out) for file in files], pictures is not None)
    _check_footage(path, labels, footage)
    _make_folder(out)
    partial_path(path)  # that it cannot be written is better said now than after the first half minute
    sheet = ContactSheet()
    saved = time.monotonic()
    stopped, done = False, labels.next_frame
    labels.complete = False
    try:
        for frame in frames:
            if frame.number % every == 0:
                _label_frame(labels, frame, teacher, footage, frame.number < done)
                sheet.add(frame.number, frame.image)
            labels.next_frame = max(done, frame.number + 1)
            if time.monotonic() - saved >= _SAVE_SECONDS:
                _save(path, labels)
                saved = time.monotonic()
            if stopped := stop():
                break
        labels.complete = not stopped
    finally:
        # Also when the source breaks or the user interrupts: what was labelled until then is kept.
        _drop_unfinished(labels)
        if labels.images:
            _save(path, labels)
    if not labels.images:
        raise DataError(f"{source} has no frames to label")
    with whole_file(sheet_path) as partial:
        partial.write_bytes(sheet.draw(teacher.skeleton, _drawings(labels, sheet.numbers)))
    return Summary(
        labels=path,
        contact_sheet=sheet_path,
        frames=len(labels.images),
        people=len(labels.annotations),
        unsure=sum(len(image.ignore_regions_x) for image in labels.images),
        complete=labels.complete,
    )


def _drop_unfinished(labels: _Labels) -> None:
    """Leave out the frame in the middle of which something went wrong."""
    labels.images = [image for image in labels.images if image.id < labels.next_frame]
    labels.annotations = [person for person in labels.annotations if person.image_id < labels.next_frame]
    labels.next_track = 1 + max((person.track_id for person in labels.annotations), default=-1)


def _label_frame(labels: _Labels, frame: Frame, teacher: Teacher, footage: _Footage, again: bool) -> None:
    """``again``: the frame is labelled already; only a teacher with a memory needs to see it."""
    if not again:
        _add(labels, frame, teacher.people(frame.image), footage)
    elif teacher.remembers:
        teacher.people(frame.image)


def _drawings(labels: _Labels, numbers: list[int]) -> dict[int, Drawing]:
    """What is known of these frames, by number."""
    wanted = set(numbers)
    people: dict[int, list[_Annotation]] = {number: [] for number in numbers}
    for annotation in labels.annotations:
        if annotation.image_id in wanted:
            people[annotation.image_id].append(annotation)
    return {
        image.id: Drawing(
            poses=[np.reshape(person.keypoints, (-1, 3)) for person in people[image.id]],
            scores=[float(np.mean(person.scores)) for person in people[image.id]],
            tracks=[person.track_id for person in people[image.id]],
            ignored=[
                np.stack([x, y], axis=1) for x, y in zip(image.ignore_regions_x, image.ignore_regions_y, strict=True)
            ],
        )
        for image in labels.images
        if image.id in wanted
    }


def labels_name(source: Path) -> str:
    """What a source's labels are called, without suffix."""
    return source.resolve().name if source.is_dir() else source.stem


def _begin(path: Path, teacher: Teacher, every: int, first: int) -> _Labels:
    """What was labelled before, or an empty file's contents. Raises DataError."""
    skeleton = teacher.skeleton
    category = _Category(keypoints=list(skeleton.joints), skeleton=[[a + 1, b + 1] for a, b in skeleton.edges])
    if not path.exists():
        return _Labels(pseudo=True, teacher=teacher.description, every=every, first=first, categories=[category])
    try:
        labels = _Labels.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
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
    return labels


def _check_footage(path: Path, labels: _Labels, footage: _Footage) -> None:
    for image in labels.images:
        if footage.file(image.frame_id) != image.file_name:
            raise DataError(
                f"{path} labels other footage ({image.file_name}), or images have come or gone since; "
                "delete it, or choose another folder"
            )


def _named(file: Path, out: Path) -> str:
    file, folder = file.resolve(), out.resolve()
    if file.is_relative_to(folder.parent):
        return Path(os.path.relpath(file, folder)).as_posix()
    return file.as_posix()


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {out}: {error.strerror or error}") from error


def _save(path: Path, labels: _Labels) -> None:
    for image in labels.images:
        image.nframes = labels.next_frame
    text = json.dumps(labels.model_dump(), separators=(",", ":"))
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _add(labels: _Labels, frame: Frame, people: list[Person], footage: _Footage) -> None:
    file = footage.file(frame.number)
    if file is None:
        raise DataError(f"frame {frame.number} of {footage.name} has no file; the folder has changed, start again")
    height, width = frame.image.shape[:2]
    sure = [person for person in people if _is_sure(person)]
    boxes = [_box(person, (width, height)) for person in sure]
    tracks = _tracks(labels, boxes, frame.number)
    regions = [_box(person, (width, height)) for person in people if not _is_sure(person)]
    labels.images.append(
        _Image(
            file_name=file,
            frame_id=frame.number,
            vid_id=footage.name,
            ignore_regions_x=[[left, right, right, left] for left, _, right, _ in regions],
            ignore_regions_y=[[top, top, bottom, bottom] for _, top, _, bottom in regions],
            id=frame.number,
            width=width,
            height=height,
        )
    )
    for person, (left, top, right, bottom), track in zip(sure, boxes, tracks, strict=True):
        keypoints = _keypoints(person, (width, height))
        labels.annotations.append(
            _Annotation(
                bbox=(left, top, round(right - left, 1), round(bottom - top, 1)),
                keypoints=keypoints,
                scores=[round(score, 3) for score in person.pose[:, 2].astype(float).tolist()],
                num_keypoints=int(sum(keypoints[2::3])),
                track_id=track,
                image_id=frame.number,
                category_id=1,
                id=len(labels.annotations) + 1,  # pycocotools takes 0 for nobody
            )
        )


def _is_sure(person: Person) -> bool:
    return float(person.pose[:, 2].mean()) >= PERSON_SCORE


def _labelled(person: Person, size: tuple[int, int]) -> NDArray[np.bool_]:
    """[NK]: joints that score enough, and lie in the picture."""
    xy = person.pose[:, :2]
    return (person.pose[:, 2] >= JOINT_SCORE) & (xy >= 0).all(1) & (xy <= np.array(size)).all(1)


def _keypoints(person: Person, size: tuple[int, int]) -> list[float]:
    pose = np.where(_labelled(person, size)[:, None], person.pose.astype(float), 0)
    pose[:, 2] = pose[:, 2] > 0
    return pose.round(1).ravel().tolist()


def _box(person: Person, size: tuple[int, int]) -> list[float]:
    """Left, top, right, bottom, inside the picture and around all labelled joints."""
    points = np.concatenate([person.box.reshape(2, 2), person.pose[_labelled(person, size), :2]]).astype(float)
    return np.clip([points.min(0), points.max(0)], 0, size).round(1).ravel().tolist()


def _tracks(labels: _Labels, boxes: list[list[float]], frame: int) -> list[int]:
    """Each person's track: the one of the latest frames whose last box overlaps most, or a new one.

    It is told from the file alone, so a continued run goes on as if it had not been interrupted.
    """
    latest: dict[int, tuple[float, float, float, float]] = {}
    for annotation in reversed(labels.annotations):
        if annotation.image_id < frame - _LOST_AFTER:
            break
        left, top, width, height = annotation.bbox
        latest.setdefault(annotation.track_id, (left, top, left + width, top + height))
    known = list(latest)
    tracks = [-1] * len(boxes)
    overlaps = np.array([[overlap(box, other) for other in latest.values()] for box in boxes])
    if overlaps.size:
        for i, j in zip(*linear_sum_assignment(np.where(overlaps >= _SAME_PERSON, -overlaps, 0)), strict=True):
            if overlaps[i, j] >= _SAME_PERSON:
                tracks[i] = known[j]
    for i, track in enumerate(tracks):
        if track < 0:
            tracks[i] = labels.next_track
            labels.next_track += 1
    return tracks
