"""Accuracy of what is compared, so that no speed is bought silently. Workstations only: it needs torch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare.arms import Arm
from benchmarks.movenet_maps import MoveNetHeatMaps
from benchmarks.run.bench_report import F1
from benchmarks.workstation.f1 import measure_candidate
from runtime.session import Session
from stm_skeletons.skeleton import COCO17
from training.evaluation.candidates import Candidate
from training.model.session import TorchSession


class _MoveNetTracker:
    """MoveNet's heat maps frame by frame, as a network with a memory that it does not have."""

    def __init__(self, file: Path) -> None:
        self._heat_maps = MoveNetHeatMaps(file)
        self._maps = np.zeros(0, np.float32)

    def reset(self) -> None:
        """There is nothing to forget."""

    def seed(self, _poses: NDArray) -> None:
        """There is nothing to remember."""

    def step(self, frame: NDArray[np.uint8]) -> None:
        """BGR [H, W, 3] of the network's size."""
        joints = self._heat_maps.maps(frame)
        self._maps = np.zeros((len(COCO17.channels), *joints.shape[1:]), np.float32)
        self._maps[1 : 1 + len(joints)] = joints

    def maps(self) -> NDArray[np.float32]:
        """[C, H/4, W/4]; mask and edges are empty."""
        return self._maps

    def people(self) -> None:
        """Heat maps alone tell of nobody."""


def measure_f1(arms: list[Arm], data: dict[str, Path]) -> dict[str, list[F1]]:
    """For each arm its F1 on each kind of data, clean and with a moving occluder, from a cold start.

    Thresholds are the best for each arm on these very data: this compares; it is not to be quoted as accuracy.

    Raises:
        DataError: no such data.
    """
    found: dict[str, list[F1]] = {}
    for arm in arms:
        candidate = _candidate(arm)
        of_each = (measure_candidate(candidate, kind, root, None) for kind, root in data.items())
        found[arm.name.text] = [one for kind in of_each for one in kind]
    return found


def _candidate(arm: Arm) -> Candidate:
    tracker: Any = arm.tracker
    if isinstance(tracker, Session):
        info = tracker.info
        return Candidate(arm.name.text, tracker, info.skeleton, info.channels, info.size)
    if isinstance(tracker, TorchSession):
        config = tracker.network.config
        return Candidate(arm.name.text, tracker, config.skeleton, config.channels, arm.size)
    tracker = _MoveNetTracker(Path(arm.name.path))
    return Candidate(arm.name.text, tracker, COCO17, COCO17.channels, arm.size)
