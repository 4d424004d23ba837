"""Ratios within one run, with room for a noisy machine; the figures themselves are in docs/benchmarks.md."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import eager_speed, edge_speed
from benchmarks.ratio import time_in_turn


def test_a_ratio_is_measured():
    def work(count: int):
        return lambda _: np.linalg.svd(np.ones((count, count)))

    ratio = time_in_turn(work(60), work(20), list(range(60)))
    assert ratio.median > 1.5
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.pairs == 50


@pytest.mark.slow
def test_edge_takes_at_most_1_6_times_movenet_alone(shared: Path, clip: Path):
    movenet = shared / "teacher" / "movenet-multipose.onnx"
    ratio = edge_speed.compare("edge", edge_speed.read_frames(clip, 60), movenet, threads=2)
    assert ratio.median <= 1.6, ratio


@pytest.mark.slow
def test_resnet50_beats_eager_pytorch(resnet_weights: Path, resnet_bundle: Path):
    ratio = eager_speed.compare(str(resnet_bundle), str(resnet_weights), frames=40, threads=2)
    assert ratio.median < 1, ratio
