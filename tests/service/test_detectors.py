"""Several detectors act as one."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.service.config import ModelConfig
from runtime.service.detectors import Detectors
from runtime.service.status import Board
from stm_skeletons.bundle import Bundle


def detectors(bundle: Path, cameras: int, **model: Any) -> Detectors:
    wakeup = threading.Condition()
    return Detectors(Bundle.open(bundle), ModelConfig(**model), 3, Board(), wakeup, lambda _line: None, cameras)


def channels(*names: str) -> list[Any]:
    return [SimpleNamespace(config=SimpleNamespace(name=name)) for name in names]


@pytest.mark.parametrize(("threads", "cameras", "count"), [(2, 1, 1), (2, 4, 2), (4, 3, 3), (1, 4, 1), (8, 2, 2)])
def test_cpu_runs_one_detector_per_thread_with_a_camera(edge_bundle: Path, threads: int, cameras: int, count: int):
    assert len(detectors(edge_bundle, cameras, threads=threads).each) == count


def test_batches_and_gpus_use_one_detector(edge_batch_bundle: Path, edge_bundle: Path):
    assert len(detectors(edge_batch_bundle, 8, threads=8).each) == 1
    assert len(detectors(edge_bundle, 8, threads=8, backend="onnxruntime", provider="cuda").each) == 1


def test_cameras_are_divided_evenly_and_keep_their_detector(edge_bundle: Path):
    both = detectors(edge_bundle, 4, threads=2)
    names = [[channel.config.name for channel in share] for share in both._divided(channels("a", "b", "c", "d"))]
    assert names == [["a", "c"], ["b", "d"]]
    names = [[channel.config.name for channel in share] for share in both._divided(channels("d", "c", "a", "e"))]
    assert names == [["c", "a"], ["d", "e"]]
