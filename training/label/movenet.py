"""MoveNet as a teacher: MultiPose finds people, and Thunder refines each of them."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stm_skeletons.errors import WeightsError, one_line
from stm_skeletons.files import sha256
from stm_skeletons.geometry import Letterbox
from stm_skeletons.skeleton import COCO17
from training.label.people_labels import Person, overlap, similarity

_LONGER_SIDE = 384
"""Longer side of MultiPose's input in pixels; the best size for finding people in COCO's images."""
_THUNDER_SIZE = (256, 256)
_AT_MOST = 6
"""Largest number of people that MultiPose finds in an image."""
_HALF = 0.6
"""Length of each of two overlapping halves, as a share of the image's longer side."""
_CUT = 0.02
"""A box this near to the cut edge of a half, as a share of its longer side, is a person who is cut in two."""
_FOUND = 0.1
"""Lowest score of a person of MultiPose. False people become ignore regions, but missed people are learnt as absent."""
_SURE = 0.2
"""Joints of MultiPose with at least this score must be inside Thunder's crop."""
_SAME_BOX, _SAME_POSE = 0.6, 0.5
"""Two detections are the same person if their overlap or their similarity is at least this."""
_OTHER_PERSON = 0.2
"""If Thunder's and MultiPose's poses are less similar than this, Thunder found another person."""
_WARNINGS_AND_WORSE = 3


class MoveNetTeacher:
    """MoveNet MultiPose, optionally refined by MoveNet Thunder.

    MultiPose finds at most six people in an image. If it finds six, it also runs on two overlapping halves of the
    image, which finds most people of small crowds, but not of large ones. With Thunder, each person's joints and scores
    come from Thunder on a square around the person. If Thunder finds another person there, all scores become 0.
    """

    has_memory = False
    skeleton = COCO17

    def __init__(self, multipose: Path, thunder: Path | None = None, threads: int | None = None) -> None:
        """
        Args:
            multipose: MoveNet MultiPose as ONNX.
            thunder: MoveNet Thunder as ONNX; None to keep MultiPose's joints.
            threads: CPU threads; None for ONNX Runtime's default.

        Raises:
            WeightsError: a file is missing, is not ONNX, or is another model.
        """
        self._multipose = _open(multipose, "MultiPose", [1, _AT_MOST, 56], threads)
        self._thunder = None if thunder is None else _open(thunder, "Thunder", [1, 1, 17, 3], threads)
        self.description = {
            "kind": "movenet",
            "multipose_sha256": sha256(multipose),
            "thunder_sha256": None if thunder is None else sha256(thunder),
        }

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        found = self._find(image)
        return found if self._thunder is None else [self._refine(self._thunder, image, person) for person in found]

    def reset(self) -> None:
        """Does nothing: there is no memory."""

    def _find(self, image: NDArray[np.uint8]) -> list[Person]:
        height, width = image.shape[:2]
        detections = self._detect(image)
        for left, top, right, bottom in _halves(width, height) if len(detections) == _AT_MOST else ():
            cuts = np.array([left, top, right, bottom], np.float32)
            reach = _CUT * max(right - left, bottom - top)
            inner = np.array([left > 0, top > 0, right < width, bottom < height])
            for score, person in self._detect(image[top:bottom, left:right]):
                box = person.box + cuts[[0, 1, 0, 1]]
                if not (inner & ((box - cuts) * [1, 1, -1, -1] < reach)).any():
                    detections.append((score, Person(person.pose + np.array([left, top, 0], np.float32), box)))
        detections.sort(key=lambda detection: -detection[0])
        kept: list[Person] = []
        for _, person in detections:
            if not any(_same(person, other) for other in kept):
                kept.append(person)
        return kept

    def _detect(self, view: NDArray[np.uint8]) -> list[tuple[float, Person]]:
        """Scores and people of MultiPose, in pixels of the view."""
        height, width = view.shape[:2]
        scale = _LONGER_SIDE / max(width, height)
        letterbox = Letterbox((width, height), (_sides_of_32(width * scale), _sides_of_32(height * scale)))
        found = _run(self._multipose, view, letterbox)[0]
        found = found[found[:, 55] >= _FOUND]
        joints = found[:, :51].reshape(-1, 17, 3)
        poses = np.concatenate([_to_image(joints[..., 1::-1], letterbox), joints[..., 2:]], axis=-1)
        corners = _to_image(found[:, [52, 51, 54, 53]].reshape(-1, 2, 2), letterbox)
        boxes = np.clip(corners, 0, [width, height]).reshape(-1, 4)
        return [
            (float(score), Person(pose.astype(np.float32), box.astype(np.float32)))
            for score, pose, box in zip(found[:, 55], poses, boxes, strict=True)
            if (box[2:] > box[:2]).all()
        ]

    def _refine(self, thunder: onnxruntime.InferenceSession, image: NDArray[np.uint8], person: Person) -> Person:
        height, width = image.shape[:2]
        points = np.concatenate([person.pose[person.pose[:, 2] >= _SURE, :2], person.box.reshape(2, 2)])
        low, high = points.min(0), points.max(0)
        # A square, clipped to the image.
        centre, half = (low + high) / 2, (high - low).max() / 2
        left, top = np.floor(np.clip(centre - half, 0, [width - 1, height - 1])).astype(int)
        right, bottom = np.ceil(np.clip(centre + half, [left + 1, top + 1], [width, height])).astype(int)
        letterbox = Letterbox((int(right - left), int(bottom - top)), _THUNDER_SIZE)
        joints = _run(thunder, image[top:bottom, left:right], letterbox)[0, 0]
        xy = _to_image(joints[:, 1::-1], letterbox) + np.array([left, top])
        refined = Person(np.concatenate([xy, joints[:, 2:]], axis=1).astype(np.float32), person.box)
        if similarity(refined, person, COCO17) < _OTHER_PERSON:
            return Person(person.pose * np.array([1, 1, 0], np.float32), person.box)
        return refined


def _halves(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom of two overlapping halves of an image."""
    if width >= height:
        part = round(_HALF * width)
        return [(0, 0, part, height), (width - part, 0, width, height)]
    part = round(_HALF * height)
    return [(0, 0, width, part), (0, height - part, width, height)]


def _sides_of_32(side: float) -> int:
    return max(32, round(side / 32) * 32)


def _same(a: Person, b: Person) -> bool:
    return overlap(a.box, b.box) >= _SAME_BOX or similarity(a, b, COCO17) >= _SAME_POSE


def _to_image(xy: NDArray, letterbox: Letterbox) -> NDArray[np.float64]:
    """Converts [..., 2] in shares of the network's input to pixels of the letterboxed image."""
    return letterbox.to_source(xy * np.array(letterbox.network))


def _run(session: onnxruntime.InferenceSession, image: NDArray[np.uint8], letterbox: Letterbox) -> NDArray[np.float32]:
    canvas = np.empty((letterbox.network[1], letterbox.network[0], 3), np.uint8)
    letterbox.apply(image, canvas)
    rgb = canvas[None, :, :, ::-1].astype(np.int32)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: rgb})[0])


def _open(path: Path, name: str, output: list[int], threads: int | None) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise WeightsError(f"no MoveNet {name} at {path}; name its ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _WARNINGS_AND_WORSE
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises types that it does not export
        raise WeightsError(f"{path} is not an ONNX model or is damaged ({one_line(error)}); copy it again") from error
    found = [(node.type, len(node.shape)) for node in session.get_inputs()], [n.shape for n in session.get_outputs()]
    if found != ([("tensor(int32)", 4)], [output]):
        raise WeightsError(f"{path} is not MoveNet {name}: its output is {found[1]}, not {output}; check the path")
    return session
