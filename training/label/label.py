"""Labels footage with a teacher network. Writes PoseTrack18's JSON, marked as pseudo labels, and a contact sheet.

Uncertain detections are never labelled as absent. A joint with a score below JOINT_SCORE is unlabelled (0, 0, 0), so
the loss ignores it within the person's box. A person with a score below PERSON_SCORE becomes an ignore region.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from runtime.frames import Frame
from stm_skeletons.annotation_file import PERSON, relative_name
from stm_skeletons.errors import DataError
from stm_skeletons.files import atomic_write, make_folder, partial_path
from training.label.contact_sheet import ContactSheet, Drawing
from training.label.labels_file import Footage, FrameEntry, Labels, PersonEntry, begin, drop_unfinished, save
from training.label.people_labels import Person, Teacher, overlap

JOINT_SCORE = 0.3
"""Lowest score of a labelled joint."""
PERSON_SCORE = 0.2
"""Lowest mean score over all joints of a labelled person; others become ignore regions."""
_SAME_PERSON = 0.3
"""Smallest overlap of a person's boxes in consecutive labelled frames."""
_LOST_AFTER = 10
"""Frames of the source after which a person who was not found gets a new track."""
_SAVE_SECONDS = 30.0


@dataclass(frozen=True)
class Summary:
    """Summary of the written labels."""

    labels: Path
    contact_sheet: Path
    frames: int
    """Labelled frames in the file."""
    added: int
    """Those that were not in it before."""
    people: int
    unsure: int
    """Uncertain people, who became ignore regions."""
    complete: bool
    """Whether the source was labelled to its end."""


def label(
    frames: Iterable[Frame],
    source: Path,
    out: Path,
    teacher: Teacher,
    every: int = 1,
    image_files: Sequence[Path] | None = None,
    stop: Callable[[], bool] = lambda: False,
    first: int = 0,
    on_frame: Callable[[int], object] = lambda _number: None,
) -> Summary:
    """Label a video or a folder of images. Called again, it continues after an interruption.

    Writes ``out``/NAME.json and ``out``/NAME.jpg (the contact sheet), where NAME is the source's name without suffix.
    The JSON is saved every half minute and on every error, with all frames labelled so far. Frames without people are
    labelled frames without annotations. File names in the JSON are relative to ``out`` if the footage is in ``out`` or
    in its parent folder, so that both can be moved together; otherwise they are absolute.

    Args:
        frames: frames of the source from frame ``first`` on, with their numbers; the same when continuing.
        source: the video file, folder of images or image that the frames come from.
        out: folder to write to; created if missing.
        teacher: MoveNetTeacher, RtmTeacher or BundleTeacher. Its memory is reset.
        every: label every nth frame. A teacher with memory sees only these frames.
        image_files: the file of each frame of a folder of images; None for a video.
        stop: called after each frame; True ends the labelling, and the file is marked as incomplete.
        first: number of the first frame to label.
        on_frame: called with the number of each frame that is done.

    Raises:
        DataError: the source does not exist, or the existing file is damaged or from another source, teacher,
            ``every``, ``first`` or program.
        SinkError: the files cannot be written.
    """
    if every < 1:
        raise DataError(f"every is {every}, must be at least 1")
    if not source.exists():
        raise DataError(f"no video or folder {source}; name a file or folder, because training reads it again")
    name = labels_name(source)
    path, sheet_path = out / f"{name}.json", out / f"{name}.jpg"
    files = [source] if image_files is None else list(image_files)
    if out.resolve() == source.resolve() or sheet_path.resolve() in {file.resolve() for file in files}:
        raise DataError(f"the contact sheet in {out} would be one of the images to label; choose another --out")
    footage = Footage(name, [relative_name(out, file) for file in files], image_files is not None)
    labels = begin(path, teacher, every, first, footage)
    make_folder(out)
    partial_path(path)  # raises now, instead of after half a minute, if the file cannot be written
    teacher.reset()
    sheet = ContactSheet()
    saved = time.monotonic()
    stopped, done, before = False, labels.next_frame, len(labels.images)
    labels.complete = False
    try:
        for frame in frames:
            if frame.number % every == 0:
                _label_frame(labels, frame, teacher, footage, frame.number < done)
                sheet.add(frame.number, frame.image)
            labels.next_frame = max(done, frame.number + 1)
            on_frame(frame.number)
            if time.monotonic() - saved >= _SAVE_SECONDS:
                save(path, labels)
                saved = time.monotonic()
            if stopped := stop():
                break
        labels.complete = not stopped
    finally:
        # Also after an error of the source or an interruption: the frames labelled so far are kept.
        drop_unfinished(labels)
        if labels.images:
            save(path, labels)
    if not labels.images:
        raise DataError(f"{source} has no frames to label; check the file and --first-frame")
    with atomic_write(sheet_path) as partial:
        partial.write_bytes(sheet.draw(teacher.skeleton, _drawings(labels, sheet.numbers)))
    return Summary(
        labels=path,
        contact_sheet=sheet_path,
        frames=len(labels.images),
        added=len(labels.images) - before,
        people=len(labels.annotations),
        unsure=sum(len(image.ignore_regions_x) for image in labels.images),
        complete=labels.complete,
    )


def _label_frame(labels: Labels, frame: Frame, teacher: Teacher, footage: Footage, again: bool) -> None:
    """Label a frame. If it ``again`` comes after an interruption, only a teacher with memory needs to see it."""
    if not again:
        _add(labels, frame, teacher.people(frame.image), footage)
    elif teacher.has_memory:
        teacher.people(frame.image)


def _drawings(labels: Labels, numbers: list[int]) -> dict[int, Drawing]:
    """The labels of these frames by frame number."""
    wanted = set(numbers)
    people: dict[int, list[PersonEntry]] = {number: [] for number in numbers}
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
    """Name of a source's label file, without suffix."""
    return source.resolve().name if source.is_dir() else source.stem


def _add(labels: Labels, frame: Frame, people: list[Person], footage: Footage) -> None:
    file = footage.file(frame.number)
    if file is None:
        raise DataError(
            f"frame {frame.number} of {footage.name} has no file, because the folder has changed; run the command again"
        )
    height, width = frame.image.shape[:2]
    sure = [person for person in people if _is_sure(person)]
    boxes = [_box(person, (width, height)) for person in sure]
    tracks = _tracks(labels, boxes, frame.number)
    regions = [_box(person, (width, height)) for person in people if not _is_sure(person)]
    labels.images.append(
        FrameEntry(
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
            PersonEntry(
                bbox=(left, top, round(right - left, 1), round(bottom - top, 1)),
                keypoints=keypoints,
                scores=[round(score, 3) for score in person.pose[:, 2].astype(float).tolist()],
                num_keypoints=int(sum(keypoints[2::3])),
                track_id=track,
                image_id=frame.number,
                category_id=PERSON,
                id=len(labels.annotations) + 1,  # pycocotools uses 0 for unmatched
            )
        )


def _is_sure(person: Person) -> bool:
    return float(person.pose[:, 2].mean()) >= PERSON_SCORE


def _labelled(person: Person, size: tuple[int, int]) -> NDArray[np.bool_]:
    """[NK]: joints with a sufficient score inside the image."""
    xy = person.pose[:, :2]
    return (person.pose[:, 2] >= JOINT_SCORE) & (xy >= 0).all(1) & (xy <= np.array(size)).all(1)


def _keypoints(person: Person, size: tuple[int, int]) -> list[float]:
    pose = np.where(_labelled(person, size)[:, None], person.pose.astype(float), 0)
    pose[:, 2] = pose[:, 2] > 0
    return pose.round(1).ravel().tolist()


def _box(person: Person, size: tuple[int, int]) -> list[float]:
    """Left, top, right, bottom, clipped to the image and around all labelled joints."""
    points = np.concatenate([person.box.reshape(2, 2), person.pose[_labelled(person, size), :2]]).astype(float)
    return np.clip([points.min(0), points.max(0)], 0, size).round(1).ravel().tolist()


def _tracks(labels: Labels, boxes: list[list[float]], frame: int) -> list[int]:
    """Each person's track: the recent one whose last box overlaps most, or a new one.

    It depends only on the file, so a continued run gives the same tracks as an uninterrupted one.
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
