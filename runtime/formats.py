"""Converts JSON lines to data set formats: COCO keypoints, or PoseTrack18 with a track per person.

Both formats have one list of images and one list of people, so they are written once the run has ended; lines are read
one at a time. Joints are matched by name. The files do not contain edges, keypoints without a person, joints outside
the frame, or people without any remaining joint. In addition:

- PoseTrack18 leaves out people without an id. Its tools need a track for everyone; a track for a single frame would
  count as an identity switch in the next frame, and dropping the person there costs no more.
- PoseTrack18 leaves out predicted joints, because its tools count every joint as detected. In COCO, predicted joints
  have v = 1 ("labelled but not visible") and found joints v = 2; its metric uses the positions of all joints.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from runtime.frames import Source
from runtime.images import ImageSource
from stm_skeletons.annotation_file import PERSON, person_category, relative_name
from stm_skeletons.skeleton import COCO17, POSETRACK15

POSETRACK18_JOINTS = ("nose", "head_bottom", "head_top", "left_ear", "right_ear", *COCO17.joints[5:])
"""In PoseTrack18's own order. It never labels the ears."""


@dataclass(frozen=True)
class Footage:
    """Names of the frames."""

    name: str
    """Name of the video or folder, without a suffix."""
    video: Path | None = None
    images: tuple[Path, ...] = ()
    """One for each frame. Without a video and images, frames come from a camera or stream and are not stored."""

    @classmethod
    def of(cls, source: Source, text: str) -> "Footage":
        """Return the footage of a source that was opened by this text."""
        if isinstance(source, ImageSource):
            path = Path(text).resolve()
            return cls(path.name if path.is_dir() else path.stem, images=tuple(source.files))
        if _is_file(text):
            return cls(Path(text).stem, Path(text))
        return cls("camera")  # not its address, which may contain a password

    def frame_name(self, frame: int) -> str:
        """Return a frame's image file name: its own, or the name after the video is split into images."""
        return self.images[frame].name if self.images else f"{self.name}/{frame:06}.jpg"


Writer = Callable[[Path, TextIO, Footage, Path], None]
"""Arguments: file of JSON lines, stream to write to, footage, and final path of the result."""


def write_coco(lines: Path, out: TextIO, footage: Footage, _place: Path) -> None:
    """COCO keypoints (https://cocodataset.org/#format-data) with scores, and ``track_id`` for people who have an id.

    Image ids are frame numbers. Frames of a video are named VIDEO/000000.jpg and so on. ``area`` is the box's area.
    """

    def image(line: dict) -> dict:
        return _image(line, footage.frame_name(line["frame"]))

    def people(line: dict) -> Iterator[dict]:
        for one in line["people"]:
            keypoints, _ = _pose(line, one, COCO17.joints, found=2, placed=1)
            track = {"track_id": one["id"]} if one["id"] else {}
            yield _annotation(line, one, keypoints) | {"area": round(one["box"][2] * one["box"][3], 1)} | track

    info = {"description": f"people found by STM-skeletons in {footage.name}"}
    _write(lines, out, info, person_category(COCO17.joints, COCO17.edges), image, people)


def write_posetrack18(lines: Path, out: TextIO, footage: Footage, place: Path) -> None:
    """PoseTrack18: ``track_id`` is a person's id, ``scores`` are the joints' scores.

    Frames of a video have the video as ``file_name`` and their number as ``frame_id``, as in files of ``stm-skeletons
    label``. File names are relative to the result's folder if the footage is nearby.
    """
    count = sum(1 for _ in _read(lines))
    folder = place.resolve().parent  # of a link's target, which is the file written
    files = [relative_name(folder, image) for image in footage.images]
    video = None if footage.video is None else relative_name(folder, footage.video)

    def image(line: dict) -> dict:
        frame = line["frame"]
        return _image(line, files[frame] if files else video or footage.frame_name(frame)) | {
            "frame_id": frame,
            "nframes": count,
            "vid_id": footage.name,
            "is_labeled": True,
            "ignore_regions_x": [],
            "ignore_regions_y": [],
        }

    def people(line: dict) -> Iterator[dict]:
        for one in line["people"]:
            if one["id"]:
                keypoints, scores = _pose(line, one, POSETRACK18_JOINTS, found=1, placed=0)
                yield _annotation(line, one, keypoints) | {"track_id": one["id"], "scores": scores}

    # PoseTrack18's own edges are COCO's, unchanged, and do not fit its joints.
    index = [POSETRACK18_JOINTS.index(joint) for joint in POSETRACK15.joints]
    category = person_category(POSETRACK18_JOINTS, [(index[a], index[b]) for a, b in POSETRACK15.edges])
    info = {"description": f"people followed by STM-skeletons in {footage.name}", "pseudo": True}
    _write(lines, out, info, category, image, people)


WRITERS: dict[str, Writer] = {"coco": write_coco, "posetrack18": write_posetrack18}


def _write(
    lines: Path,
    out: TextIO,
    info: dict,
    category: dict,
    image: Callable[[dict], dict],
    people: Callable[[dict], Iterator[dict]],
) -> None:
    """Write the file from each line's ``image`` and ``people``; annotations are numbered here."""
    annotations = (one for line in _read(lines) for one in people(line) if one["num_keypoints"])
    out.write(f'{{"info":{_text(info)},\n"categories":[{_text(category)}],\n"images":[')
    _write_list(out, map(image, _read(lines)))
    out.write('],\n"annotations":[')
    # From 1: pycocotools treats id 0 as no match.
    _write_list(out, ({"id": number} | one for number, one in enumerate(annotations, start=1)))
    out.write("]}\n")


def _write_list(out: TextIO, entries: Iterable[dict]) -> None:
    for number, entry in enumerate(entries):
        out.write(("," if number else "") + "\n" + _text(entry))


def _text(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"))


def _read(lines: Path) -> Iterator[dict]:
    with lines.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _image(line: dict, file_name: str) -> dict:
    width, height = line["size"]
    return {"id": line["frame"], "file_name": file_name, "width": width, "height": height}


def _annotation(line: dict, one: dict, keypoints: list[float]) -> dict:
    return {
        "image_id": line["frame"],
        "category_id": PERSON,
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "bbox": one["box"],
        "score": one["score"],
        "iscrowd": 0,
    }


def _pose(line: dict, one: dict, joints: tuple[str, ...], found: int, placed: int) -> tuple[list[float], list[float]]:
    """x, y, v of these joints, flattened, with the given v for found and predicted joints, and scores; 0 if missing."""
    names = list(line["keypoints"])
    known = dict(zip(names, one["keypoints"], strict=True))
    predicted = {names[i] for i in one["predicted"]}
    width, height = line["size"]
    keypoints: list[float] = []
    scores: list[float] = []
    for joint in joints:
        x, y, score = known.get(joint, (0, 0, 0))
        v = placed if joint in predicted else found
        if not v or not (x or y or score) or not (0 <= x <= width and 0 <= y <= height):
            x, y, v, score = 0, 0, 0, 0
        keypoints += (x, y, v)
        scores.append(score)
    return keypoints, scores


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # a pipeline longer than any file name
        return False
