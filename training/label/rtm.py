"""RTMO and RTMPose as teachers, by way of rtmlib (https://github.com/Tau-J/rtmlib), which fetches their weights."""

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
    """Of rtmlib's ``Body``, which knows the files and their sizes."""
    one_stage: bool


RTM_TEACHERS = {
    "rtmo-s": _Kind("lightweight", True),
    "rtmo-m": _Kind("balanced", True),
    "rtmo-l": _Kind("performance", True),
    "rtmpose-s": _Kind("lightweight", False),
    "rtmpose-m": _Kind("balanced", False),
    "rtmpose-x": _Kind("performance", False),
}
"""By name: RTMO finds people and joints at once, RTMPose looks at each person whom YOLOX finds."""
_FOUND = 0.3
"""Score of a person's box from which on it counts; rtmlib's own bound (0.7) is for use, not for labels: mistakes end as
ignore regions, but who is missed is learnt as absent."""


class RtmTeacher:
    """Everybody whom a network of the RTM family finds, on the CPU."""

    remembers = False
    skeleton = COCO17

    def __init__(self, name: str) -> None:
        """
        Args:
            name: of RTM_TEACHERS.

        Raises:
            LibraryError: rtmlib is not installed.
            WeightsError: its weights are not here and cannot be fetched, or cannot be opened.
        """
        kind = RTM_TEACHERS[name]
        try:
            rtmlib: Any = import_module("rtmlib")
        except ModuleNotFoundError as error:
            raise LibraryError(f"teacher {name} needs {error.name}; pip install rtmlib") from error
        try:
            with redirect_stdout(io.StringIO()):  # it prints what it loads
                body = rtmlib.Body(pose="rtmo" if kind.one_stage else None, mode=kind.mode)
        except Exception as error:  # of urllib, zipfile, ONNX Runtime, and its own
            raise WeightsError(
                f"rtmlib cannot get the weights of {name} ({one_line(error)}); run this once where the network is, or "
                "copy its folder ~/.cache/rtmlib from a machine that has them"
            ) from error
        self._pose = body.pose_model
        self._boxes = None if kind.one_stage else body.det_model
        finder = self._boxes or self._pose
        finder.score_thr = _FOUND
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
            if not len(boxes):  # rtmlib would take the whole picture for somebody
                return []
            keypoints, scores = self._pose(image, bboxes=boxes)
        poses = np.concatenate([keypoints, np.clip(scores, 0, 1)[..., None]], axis=-1).astype(np.float32)
        # Where there is nobody, RTMO is made to give one person of zeros.
        return [person_around(pose, (width, height)) for pose in poses if pose[:, 2].any()]

    def forget(self) -> None:
        """Nothing: it looks at each picture alone."""
