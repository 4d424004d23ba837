"""RTMO and RTMPose as teachers, run by rtmlib (https://github.com/Tau-J/rtmlib), which downloads their weights."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import LibraryError, WeightsError, one_line
from stm_skeletons.files import sha256
from stm_skeletons.skeleton import COCO17
from training.label.people_labels import Person, person_around


@dataclass(frozen=True)
class _Kind:
    mode: str
    """Mode of rtmlib's ``Body``, which selects files and input sizes."""
    one_stage: bool


RTM_TEACHERS = {
    "rtmo-s": _Kind("lightweight", True),
    "rtmo-m": _Kind("balanced", True),
    "rtmo-l": _Kind("performance", True),
    "rtmpose-s": _Kind("lightweight", False),
    "rtmpose-m": _Kind("balanced", False),
    "rtmpose-x": _Kind("performance", False),
}
"""Teachers by name. RTMO finds people with their joints at once; RTMPose runs on each person that YOLOX finds."""
_FOUND = 0.3
"""Lowest score of a person's box. rtmlib's default (0.7) is too high for labels: false people become ignore regions,
but missed people are learnt as absent."""


class RtmTeacher:
    """A network of the RTM family, on the CPU."""

    has_memory = False
    skeleton = COCO17

    def __init__(self, name: str) -> None:
        """
        Args:
            name: a name of RTM_TEACHERS.

        Raises:
            LibraryError: rtmlib is not installed.
            WeightsError: the weights cannot be downloaded or opened.
        """
        kind = RTM_TEACHERS[name]
        try:
            rtmlib: Any = import_module("rtmlib")
        except ModuleNotFoundError as error:
            raise LibraryError(f"teacher {name} needs {error.name}; pip install rtmlib") from error
        try:
            with redirect_stdout(io.StringIO()):  # rtmlib prints what it loads
                body = rtmlib.Body(pose="rtmo" if kind.one_stage else None, mode=kind.mode)
        except Exception as error:  # errors of urllib, zipfile, ONNX Runtime and rtmlib
            raise WeightsError(
                f"rtmlib cannot download or open the weights of {name} ({one_line(error)}); run this once with "
                "internet access, or copy the folder ~/.cache/rtmlib from a machine that has them"
            ) from error
        self._pose = body.pose_model
        self._boxes = None if kind.one_stage else body.det_model
        detector = self._boxes or self._pose
        detector.score_thr = _FOUND
        models = [self._pose, *([self._boxes] if self._boxes else [])]
        self.description = {
            "kind": "rtmlib",
            "name": name,
            "sha256": [sha256(Path(model.onnx_model)) for model in models],
        }

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        height, width = image.shape[:2]
        if self._boxes is None:
            keypoints, scores = self._pose(image)
        else:
            boxes = self._boxes(image)
            if not len(boxes):  # without boxes, rtmlib would use the whole image as a person
                return []
            keypoints, scores = self._pose(image, bboxes=boxes)
        poses = np.concatenate([keypoints, np.clip(scores, 0, 1)[..., None]], axis=-1).astype(np.float32)
        # If there is nobody, RTMO returns one person of zeros.
        return [person_around(pose, (width, height)) for pose in poses if pose[:, 2].any()]

    def reset(self) -> None:
        """Does nothing: there is no memory."""
