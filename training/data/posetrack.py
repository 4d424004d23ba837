"""PoseTrack18, PoseTrack21 and your own footage: a folder of JSON files, one for each video.

PoseTrack21 uses PoseTrack18's format plus ``person_id`` and ``has_labeled_person``, which are not needed here. Its
frames with labelled boxes only have ``is_labeled`` false. Neither states the size of the images. In your own footage
``file_name`` may be a video; ``frame_id`` is then the frame number, counted from 0.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from stm_skeletons.annotation_file import Annotation, AnnotationFile, Category, Image, box_corners
from stm_skeletons.errors import DataError
from stm_skeletons.geometry import MAX_COORDINATE
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import validation_message
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
from training.data.images import read_image
from training.data.joints import joint_columns, select_joints
from training.data.labels import DataSet, ImageFile, LabelledImage, Regions, Video

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm"}


class _Image(Image):
    file_name: str = Field(min_length=1)
    is_labeled: bool = True
    frame_id: int | None = None
    ignore_regions_x: list[list[float] | float] | None = None
    ignore_regions_y: list[list[float] | float] | None = None


class _Annotation(Annotation):
    id: int | None = None
    bbox: list[float] | None = None
    bbox_head: list[float] | None = None
    track_id: int | None = None
    iscrowd: bool = False


class _Info(BaseModel):
    pseudo: bool = False


class _File(AnnotationFile[_Image, _Annotation]):
    pseudo: bool = False
    info: _Info = _Info()


def json_files(folder: Path) -> list[Path]:
    """The folder's JSON files in order of name, without hidden files (such as those being written)."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def read_posetrack(annotations: Path | Sequence[Path], images: Path, skeleton: Skeleton) -> DataSet:
    """Read the labelled images of all videos, and the videos with at least two of them.

    Frames with ``is_labeled`` false are skipped; without that key, a frame counts as labelled. Labelled frames without
    people are kept. Ignore regions and crowds become ignored regions. People without keypoints are kept with their box.
    There are no masks. If the file does not state the size of its images, the first readable image of a folder
    determines it.

    Args:
        annotations: a folder of JSON files, or a list of files.
        images: folder that ``file_name`` is relative to, such as the one of ``images/val/000342_mpii_test/000000.jpg``;
            missing files are searched next to the JSON file.
        skeleton: determines the joints and their order.

    Raises:
        DataError: a file is missing, truncated or inconsistent, the files differ in their joints, or most images are
            missing.
    """
    paths = json_files(annotations) if isinstance(annotations, Path) else list(annotations)
    if not paths:
        raise DataError(f"no JSON files in {annotations}")
    problems, files, missing = ProblemCounts(), Files(), []
    labelled: list[LabelledImage] = []
    videos: list[Video] = []
    sizes: dict[Path, tuple[int, int]] = {}
    sourced, expected, pseudo = None, 0, 0
    for path in paths:
        content = _read(path)
        person = _person(content, path)
        try:
            index, source = joint_columns(person.keypoints, skeleton)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        if sourced is not None and (source != sourced).any():
            raise DataError(f"{path} and {paths[0]} label different joints; use them as two data sets")
        sourced = source
        pseudo += content.pseudo or content.info.pseudo
        wanted = [(entry, _image_file(entry, images, path, files)) for entry in content.images if entry.is_labeled]
        present = [(entry, file) for entry, file in wanted if file.path in files]
        missing += [file.path for _, file in wanted if file.path not in files]
        expected += len(wanted)
        people = _people(content, person, path)
        of_file = []
        for entry, file in present:
            size = _size(entry, file, sizes)
            if size is None:
                problems.add("images of unknown size cannot be read and are skipped", file)
                continue
            regions = _regions(entry, path)
            of_file.append(_labelled(file, size, people[entry.id], len(person.keypoints), index, regions, problems))
        labelled += of_file
        videos += _videos(path, of_file, problems)
    count_missing(missing, expected, images, problems)
    if 0 < pseudo < len(paths):
        problems.add("files are labelled by a teacher network, others by people", paths[0].parent, pseudo)
    assert sourced is not None
    name = paths[0].parent.name
    return DataSet(name, skeleton, sourced, tuple(labelled), tuple(videos), pseudo > 0, problems.lines())


def _read(path: Path) -> _File:
    try:
        content = _File.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path} is not in PoseTrack's format: {validation_message(error)}") from error
    images = [image.id for image in content.images]
    _no_duplicate([f"image {number}" for number in images], path)
    # Unique within an image only: PoseTrack derives these ids from image and track, and they may collide.
    identified = [each for each in content.annotations if each.id is not None]
    _no_duplicate([f"annotation {each.id} of image {each.image_id}" for each in identified], path)
    listed = set(images)
    for annotation in content.annotations:
        if annotation.image_id not in listed:
            raise DataError(f"{path}: an annotation refers to unknown image {annotation.image_id}")
    return content


def _no_duplicate(names: list[str], path: Path) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path}: {name} is listed twice")
        seen.add(name)


def _person(content: _File, path: Path) -> Category:
    with_joints = [category for category in content.categories if category.keypoints]
    if len(with_joints) != 1:
        raise DataError(f"{path} has {len(with_joints)} categories with keypoints, must be 1")
    return with_joints[0]


def _people(content: _File, person: Category, path: Path) -> dict[int, list[_Annotation]]:
    """The annotations of people by image."""
    categories = {None, *(category.id for category in content.categories)}
    length = 3 * len(person.keypoints)
    of_image = defaultdict(list)
    for annotation in content.annotations:
        if annotation.category_id not in categories:
            raise DataError(f"{path}: an annotation refers to unknown category {annotation.category_id}")
        if annotation.keypoints and len(annotation.keypoints) != length:
            raise DataError(
                f"{path}: annotation {annotation.id} of image {annotation.image_id} has {len(annotation.keypoints)} "
                f"numbers, must be {length}: x, y, v for each of {len(person.keypoints)} joints"
            )
        if annotation.category_id in (None, person.id):
            of_image[annotation.image_id].append(annotation)
    return of_image


def _image_file(entry: _Image, images: Path, path: Path, files: Files) -> ImageFile:
    file, neighbour = images / entry.file_name, path.parent / entry.file_name
    if file not in files and neighbour in files:
        file = neighbour
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        return ImageFile(file)
    if entry.frame_id is None or entry.frame_id < 0:
        raise DataError(f"{path}: frame_id of image {entry.id} must be a frame number from 0, because it is in a video")
    return ImageFile(file, entry.frame_id)


def _labelled(
    file: ImageFile,
    size: tuple[int, int],
    annotations: list[_Annotation],
    joints: int,
    index: NDArray[np.int64],
    regions: list[NDArray[np.float32]],
    problems: ProblemCounts,
) -> LabelledImage:
    people = [annotation for annotation in annotations if not annotation.iscrowd]
    crowds = [box_corners(annotation.bbox) or (0, 0, *size) for annotation in annotations if annotation.iscrowd]
    values = np.array([person.keypoints or [0] * (3 * joints) for person in people], np.float64)
    poses, bad = select_joints(values.reshape(len(people), joints, 3), index)
    problems.add(BAD_JOINTS, file, bad.sum())
    problems.add(OUTSIDE, file, count_outside(poses, size))
    boxes = [_box(person, pose, size, file, problems) for person, pose in zip(people, poses, strict=True)]
    tracks = [-1 if person.track_id is None else person.track_id for person in people]
    return LabelledImage(
        file,
        size,
        poses,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(tracks, np.int64),
        ignored=Regions((*regions, *map(box_polygon, crowds))),
        heads=np.array([_head(person) for person in people], np.float32),
    )


def _head(person: _Annotation) -> float:
    """Size of the head as in PoseTrack's evaluation; NaN without a box."""
    box = box_corners(person.bbox_head)
    return 0.6 * math.dist(box[:2], box[2:]) if box else math.nan


def _size(entry: _Image, file: ImageFile, sizes: dict[Path, tuple[int, int]]) -> tuple[int, int] | None:
    """(width, height); ``sizes`` caches those of videos and folders whose images had to be read."""
    if entry.size:
        return entry.size
    video = _video_of(file)
    if video not in sizes:
        try:
            height, width = read_image(file).shape[:2]
        except DataError:
            return None
        sizes[video] = (width, height)
    return sizes[video]


def _video_of(file: ImageFile) -> Path:
    return file.path.parent if file.frame is None else file.path


def _box(
    person: _Annotation, pose: NDArray[np.float32], size: tuple[int, int], file: ImageFile, problems: ProblemCounts
) -> tuple[float, float, float, float]:
    box = box_corners(person.bbox)
    if box is None:
        problems.add(BAD_BOXES, file)
    return box or likely_box(pose, size, box_corners(person.bbox_head))


def _regions(entry: _Image, path: Path) -> list[NDArray[np.float32]]:
    """The ignore regions, each [n, 2]. A file may list the coordinates of a single region without the outer list."""
    all_x, all_y = entry.ignore_regions_x or [], entry.ignore_regions_y or []
    if all_x and all_y and not isinstance(all_x[0], list) and not isinstance(all_y[0], list):
        all_x, all_y = [all_x], [all_y]
    message = f"{path}: the ignore regions of image {entry.id} must have as many x as y"
    if len(all_x) != len(all_y):
        raise DataError(message)
    regions = []
    for x, y in zip(all_x, all_y, strict=True):
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise DataError(message)
        points = np.array([x, y], np.float64).T
        points = points[(np.abs(points) <= MAX_COORDINATE).all(axis=1)]
        if len(points) >= 3:
            regions.append(points.astype(np.float32))
    return regions


def _videos(path: Path, images: list[LabelledImage], problems: ProblemCounts) -> list[Video]:
    """The images of a file as a video, in order; as several if the file names several videos or folders."""
    groups: dict[Path, list[LabelledImage]] = defaultdict(list)
    for image in images:
        groups[_video_of(image.file)].append(image)
    videos = []
    for source, group in groups.items():
        if len(group) < 2:
            problems.add("videos have only one labelled frame, which is used as a single image", path)
            continue
        name = path.stem if len(groups) == 1 else f"{path.stem}/{source.name}"
        numbered = sorted(zip(_numbers(group), range(len(group)), strict=True))
        videos.append(Video(name, tuple(group[i] for _, i in numbered), tuple(number for number, _ in numbered)))
    return videos


def _numbers(group: list[LabelledImage]) -> list[int]:
    """Frame numbers: those of a video's frames, else those in the file names, else the positions in the file."""
    ends = [re.search(r"\d+$", image.file.path.stem) for image in group]
    numbers = [
        image.file.frame if image.file.frame is not None else int(end[0]) if end else None
        for image, end in zip(group, ends, strict=True)
    ]
    known = [number for number in numbers if number is not None]
    return known if len(set(known)) == len(group) else list(range(len(group)))
