"""Results in the formats of data sets, made of JSON lines: COCO keypoints, or PoseTrack18 with a track for everybody.

Both have one list of images and one of people, so they can be written only once a run is over; lines are read one at a
time, however many there are. Joints are matched by name. What is not in such a file: edges, keypoints of nobody, joints
outside the frame, people of whom no joint is left, and

- in PoseTrack18's, people without an id. Its tools need a track for everybody; a number for one frame alone would count
  as a switch of identity in the next, and leaving the person out of that frame costs no more.
- in PoseTrack18's, joints that were only placed: its tools count every joint there is as found. COCO's v = 1, "labelled
  but not visible", is what they are, and its measure takes the places of all joints; v = 2 are those that were found.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from runtime.frames import Source
from runtime.images import ImageSource
from stm_skeletons.annotation_file import PERSON, name_from, person_category
from stm_skeletons.skeleton import COCO17, POSETRACK15

POSETRACK18_JOINTS = ("nose", "head_bottom", "head_top", "left_ear", "right_ear", *COCO17.joints[5:])
"""In its own order. It never labels the ears."""


@dataclass(frozen=True)
class Footage:
    """What the frames are called that lines tell of."""

    name: str
    """Of the video or folder, without a suffix."""
    video: Path | None = None
    images: tuple[Path, ...] = ()
    """One for each frame. Without video and images nobody keeps the frames: they come from a camera or stream."""

    @classmethod
    def of(cls, source: Source, text: str) -> "Footage":
        """That of a source which was opened by this text."""
        if isinstance(source, ImageSource):
            path = Path(text).resolve()
            return cls(path.name if path.is_dir() else path.stem, images=tuple(source.files))
        if _is_file(text):
            return cls(Path(text).stem, Path(text))
        return cls("camera")  # not its address, which may hold a password

    def cut(self, frame: int) -> str:
        """A frame's file name once the video is cut into images, or an image's own."""
        return self.images[frame].name if self.images else f"{self.name}/{frame:06}.jpg"


Writer = Callable[[Path, TextIO, Footage, Path], None]
"""Takes a file of JSON lines, what to write to, the footage, and where the result is going to be."""


def write_coco(lines: Path, out: TextIO, footage: Footage, _place: Path) -> None:
    """COCO keypoints (https://cocodataset.org/#format-data) with scores, and ``track_id`` for people who have an id.

    Image ids are frame numbers. Frames of a video are called VIDEO/000000.jpg and so on. ``area`` is the box's.
    """

    def image(line: dict) -> dict:
        return _image(line, footage.cut(line["frame"]))

    def people(line: dict) -> Iterator[dict]:
        for one in line["people"]:
            keypoints, _ = _pose(line, one, COCO17.joints, found=2, placed=1)
            track = {"track_id": one["id"]} if one["id"] else {}
            yield _annotation(line, one, keypoints) | {"area": round(one["box"][2] * one["box"][3], 1)} | track

    info = {"description": f"people found by STM-skeletons in {footage.name}"}
    _write(lines, out, info, person_category(COCO17.joints, COCO17.edges), image, people)


def write_posetrack18(lines: Path, out: TextIO, footage: Footage, place: Path) -> None:
    """PoseTrack18: ``track_id`` is a person's id, ``scores`` are those of the joints.

    Frames of a video have the video as ``file_name``, and ``frame_id`` says which they are, as in what
    ``stm-skeletons label`` writes. File names are relative to the result's folder where the footage lies near it.
    """
    count = sum(1 for _ in _read(lines))
    folder = place.resolve().parent  # of a link's target, which is what is written
    files = [name_from(folder, image) for image in footage.images]
    video = None if footage.video is None else name_from(folder, footage.video)

    def image(line: dict) -> dict:
        frame = line["frame"]
        return _image(line, files[frame] if files else video or footage.cut(frame)) | {
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

    # Its own list of edges is COCO's unchanged, which does not fit its joints.
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
    """The file, of what ``image`` and ``people`` make of each line; annotations get their numbers here."""
    annotations = (one for line in _read(lines) for one in people(line) if one["num_keypoints"])
    out.write(f'{{"info":{_text(info)},\n"categories":[{_text(category)}],\n"images":[')
    _write_list(out, map(image, _read(lines)))
    out.write('],\n"annotations":[')
    # pycocotools takes 0 for nobody.
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
    """Of each of these joints x, y, v in a row, v as told for those found and placed, and the scores; 0 if missing."""
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
    except OSError:  # a pipeline longer than any file's name
        return False
