"""PoseTrack18, PoseTrack21 and own footage: a folder of JSON files, one for each video.

PoseTrack21 writes PoseTrack18's format with ``person_id`` and ``has_labeled_person`` added, which are not needed here;
a frame where only boxes are labelled has ``is_labeled`` false in it. Neither says how large its pictures are.
In own footage ``file_name`` may be a video; then ``frame_id`` is the number of the frame, from 0.
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
from stm_skeletons.geometry import FARTHEST
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import what_is_wrong
from training.data.annotations import (
    BAD_BOXES,
    BAD_JOINTS,
    OUTSIDE,
    Files,
    Tally,
    box_polygon,
    count_outside,
    likely_box,
    read_json,
    tally_missing,
)
from training.data.joints import joint_columns, select_joints
from training.data.labels import DataSet, LabelledPicture, Picture, Regions, Video
from training.data.pictures import read_picture

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
    """The folder's JSON files by name, without hidden ones (such as those still being written)."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def read_posetrack(annotations: Path | Sequence[Path], images: Path, skeleton: Skeleton) -> DataSet:
    """The labelled pictures of all videos, and the videos that have at least two of them.

    Frames with ``is_labeled`` false are left out; where it is not given, a frame counts as labelled. Labelled frames
    that show nobody stay. Ignore regions and crowds become ignored regions. People without keypoints stay, as people
    of whom only the box is known. There are no masks. Where the file does not say how large its pictures are, the first
    that can be read tells for all in its folder.

    Args:
        annotations: a folder of JSON files, or some such files.
        images: folder that ``file_name`` is relative to, such as that of ``images/val/000342_mpii_test/000000.jpg``;
            what is not there is looked for beside the JSON file.
        skeleton: gives the joints wanted and their order.

    Raises:
        DataError: a file is missing, cut short or contradicts itself, the files differ in their joints, or most
            pictures are missing.
    """
    paths = json_files(annotations) if isinstance(annotations, Path) else list(annotations)
    if not paths:
        raise DataError(f"no JSON files in {annotations}")
    tally, files, missing = Tally(), Files(), []
    labelled: list[LabelledPicture] = []
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
            raise DataError(f"{path} has other joints than {paths[0]}; read them as two data sets")
        sourced = source
        pseudo += content.pseudo or content.info.pseudo
        wanted = [(image, _place(image, images, path, files)) for image in content.images if image.is_labeled]
        present = [(image, picture) for image, picture in wanted if picture.path in files]
        missing += [picture.path for _, picture in wanted if picture.path not in files]
        expected += len(wanted)
        of_image = _people(content, person, path)
        of_file = []
        for image, picture in present:
            size = _size(image, picture, sizes)
            if size is None:
                tally.add("pictures left out because they cannot be read and no size is given", picture)
                continue
            regions = _regions(image, path)
            of_file.append(_labelled(picture, size, of_image[image.id], len(person.keypoints), index, regions, tally))
        labelled += of_file
        videos += _videos(path, of_file, tally)
    tally_missing(missing, expected, images, tally)
    if 0 < pseudo < len(paths):
        tally.add("files are labelled by a teacher network, others by people", paths[0].parent, pseudo)
    assert sourced is not None
    name = paths[0].parent.name
    return DataSet(name, skeleton, sourced, tuple(labelled), tuple(videos), pseudo > 0, tally.lines())


def _read(path: Path) -> _File:
    try:
        content = _File.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path} is not in PoseTrack's format: {what_is_wrong(error)}") from error
    images = [image.id for image in content.images]
    _no_duplicate(images, "image", path)
    # Only within a picture: PoseTrack makes these numbers from the picture's and the track's, and they may collide.
    _no_duplicate([(a.image_id, a.id) for a in content.annotations if a.id is not None], "image and annotation", path)
    listed = set(images)
    for annotation in content.annotations:
        if annotation.image_id not in listed:
            raise DataError(f"{path}: an annotation is of image {annotation.image_id}, which the file does not list")
    return content


def _no_duplicate(ids: list, what: str, path: Path) -> None:
    seen = set()
    for number in ids:
        if number in seen:
            raise DataError(f"{path} has two entries of {what} {number}")
        seen.add(number)


def _person(content: _File, path: Path) -> Category:
    with_joints = [category for category in content.categories if category.keypoints]
    if len(with_joints) != 1:
        raise DataError(f"{path} has {len(with_joints)} categories with keypoints, 1 is needed")
    return with_joints[0]


def _people(content: _File, person: Category, path: Path) -> dict[int, list[_Annotation]]:
    """The annotations of people by image."""
    categories = {None, *(category.id for category in content.categories)}
    length = 3 * len(person.keypoints)
    of_image = defaultdict(list)
    for annotation in content.annotations:
        if annotation.category_id not in categories:
            raise DataError(f"{path}: an annotation has category {annotation.category_id}, which it does not list")
        if annotation.keypoints and len(annotation.keypoints) != length:
            raise DataError(
                f"{path}: annotation {annotation.id} of image {annotation.image_id} has {len(annotation.keypoints)} "
                f"numbers for {len(person.keypoints)} joints; x, y, v each are needed"
            )
        if annotation.category_id in (None, person.id):
            of_image[annotation.image_id].append(annotation)
    return of_image


def _place(image: _Image, images: Path, path: Path, files: Files) -> Picture:
    place, beside = images / image.file_name, path.parent / image.file_name
    if place not in files and beside in files:
        place = beside
    if place.suffix.lower() not in VIDEO_SUFFIXES:
        return Picture(place)
    if image.frame_id is None or image.frame_id < 0:
        raise DataError(f"{path}: image {image.id} is of a video, but its frame_id is no number from 0")
    return Picture(place, image.frame_id)


def _labelled(
    picture: Picture,
    size: tuple[int, int],
    annotations: list[_Annotation],
    joints: int,
    index: NDArray[np.int64],
    regions: list[NDArray[np.float32]],
    tally: Tally,
) -> LabelledPicture:
    people = [annotation for annotation in annotations if not annotation.iscrowd]
    crowds = [box_corners(annotation.bbox) or (0, 0, *size) for annotation in annotations if annotation.iscrowd]
    values = np.array([person.keypoints or [0] * (3 * joints) for person in people], np.float64)
    poses, bad = select_joints(values.reshape(len(people), joints, 3), index)
    tally.add(BAD_JOINTS, picture, bad.sum())
    tally.add(OUTSIDE, picture, count_outside(poses, size))
    boxes = [_box(person, pose, size, picture, tally) for person, pose in zip(people, poses, strict=True)]
    tracks = [-1 if person.track_id is None else person.track_id for person in people]
    return LabelledPicture(
        picture,
        size,
        poses,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(tracks, np.int64),
        ignored=Regions((*regions, *map(box_polygon, crowds))),
        heads=np.array([_head(person) for person in people], np.float32),
    )


def _head(person: _Annotation) -> float:
    """Size of the head as PoseTrack's own evaluation has it; NaN without a box."""
    box = box_corners(person.bbox_head)
    return 0.6 * math.dist(box[:2], box[2:]) if box else math.nan


def _size(image: _Image, picture: Picture, sizes: dict[Path, tuple[int, int]]) -> tuple[int, int] | None:
    """(width, height); ``sizes`` keeps those of videos, and of folders of pictures, that had to be read."""
    if image.size:
        return image.size
    video = _video_of(picture)
    if video not in sizes:
        try:
            height, width = read_picture(picture).shape[:2]
        except DataError:
            return None
        sizes[video] = (width, height)
    return sizes[video]


def _video_of(picture: Picture) -> Path:
    return picture.path.parent if picture.frame is None else picture.path


def _box(
    person: _Annotation, pose: NDArray[np.float32], size: tuple[int, int], picture: Picture, tally: Tally
) -> tuple[float, float, float, float]:
    box = box_corners(person.bbox)
    if box is None:
        tally.add(BAD_BOXES, picture)
    return box or likely_box(pose, size, box_corners(person.bbox_head))


def _regions(image: _Image, path: Path) -> list[NDArray[np.float32]]:
    """The ignore regions [n, 2] each; a file may give the coordinates of a single one without the outer list."""
    all_x, all_y = image.ignore_regions_x or [], image.ignore_regions_y or []
    if all_x and all_y and not isinstance(all_x[0], list) and not isinstance(all_y[0], list):
        all_x, all_y = [all_x], [all_y]
    wrong = f"{path}: the ignore regions of image {image.id} have not as many x as y"
    if len(all_x) != len(all_y):
        raise DataError(wrong)
    regions = []
    for x, y in zip(all_x, all_y, strict=True):
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise DataError(wrong)
        points = np.array([x, y], np.float64).T
        points = points[(np.abs(points) <= FARTHEST).all(axis=1)]
        if len(points) >= 3:
            regions.append(points.astype(np.float32))
    return regions


def _videos(path: Path, pictures: list[LabelledPicture], tally: Tally) -> list[Video]:
    """The pictures of a file as a video in order; as several, if it names several videos or folders."""
    groups: dict[Path, list[LabelledPicture]] = defaultdict(list)
    for labelled in pictures:
        groups[_video_of(labelled.picture)].append(labelled)
    videos = []
    for place, group in groups.items():
        if len(group) < 2:
            tally.add("videos have a single labelled picture, which is kept as a picture only", path)
            continue
        name = path.stem if len(groups) == 1 else f"{path.stem}/{place.name}"
        numbered = sorted(zip(_numbers(group), range(len(group)), strict=True))
        videos.append(Video(name, tuple(group[i] for _, i in numbered), tuple(number for number, _ in numbered)))
    return videos


def _numbers(group: list[LabelledPicture]) -> list[int]:
    """Frame numbers: of a video's frames their own, else those in the file names, else the order in the file."""
    ends = [re.search(r"\d+$", labelled.picture.path.stem) for labelled in group]
    numbers = [
        labelled.picture.frame if labelled.picture.frame is not None else int(end[0]) if end else None
        for labelled, end in zip(group, ends, strict=True)
    ]
    known = [number for number in numbers if number is not None]
    return known if len(set(known)) == len(group) else list(range(len(group)))
