"""F1 of the compared variants, so that a gain in speed shows its cost. Workstations only: needs torch."""

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
    """MoveNet's heat maps behind the interface of a tracker. MoveNet has no memory."""

    def __init__(self, file: Path) -> None:
        self._heat_maps = MoveNetHeatMaps(file)
        self._maps = np.zeros(0, np.float32)

    def reset(self) -> None:
        """Does nothing: there is no memory."""

    def seed(self, _poses: NDArray) -> None:
        """Does nothing: there is no memory."""

    def step(self, frame: NDArray[np.uint8]) -> None:
        """Run on a frame, BGR [H, W, 3] of the network's size."""
        joints = self._heat_maps.maps(frame)
        self._maps = np.zeros((len(COCO17.channels), *joints.shape[1:]), np.float32)
        self._maps[1 : 1 + len(joints)] = joints

    def maps(self) -> NDArray[np.float32]:
        """Maps [C, H/4, W/4] of the latest frame; mask and edges are zero."""
        return self._maps

    def people(self) -> None:
        """None: heat maps alone do not separate people."""


def measure_f1(arms: list[Arm], data: dict[str, Path]) -> dict[str, list[F1]]:
    """F1 of each arm on each kind of data, clean and with a moving occluder, from a cold start.

    Each arm gets its best threshold on these data. The figures are for comparison; do not quote them as accuracy.

    Raises:
        DataError: the data cannot be read.
    """
    found: dict[str, list[F1]] = {}
    for arm in arms:
        candidate = _candidate(arm)
        by_kind = (measure_candidate(candidate, kind, root, None) for kind, root in data.items())
        found[arm.name.text] = [f1 for f1s in by_kind for f1 in f1s]
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
