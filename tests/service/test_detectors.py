"""Several detectors behave as one."""

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
def test_on_a_cpu_there_is_one_for_each_thread_that_has_a_camera(
    edge_bundle: Path, threads: int, cameras: int, count: int
):
    assert len(detectors(edge_bundle, cameras, threads=threads).each) == count


def test_frames_that_are_taken_together_are_with_one(edge_batch_bundle: Path, edge_bundle: Path):
    assert len(detectors(edge_batch_bundle, 8, threads=8).each) == 1
    assert len(detectors(edge_bundle, 8, threads=8, backend="onnxruntime", provider="cuda").each) == 1


def test_cameras_are_divided_evenly_and_stay_where_they_are(edge_bundle: Path):
    some = detectors(edge_bundle, 4, threads=2)
    names = [[channel.config.name for channel in own] for own in some._divided(channels("a", "b", "c", "d"))]
    assert names == [["a", "c"], ["b", "d"]]
    names = [[channel.config.name for channel in own] for own in some._divided(channels("d", "c", "a", "e"))]
    assert names == [["c", "a"], ["d", "e"]]
