"""Speed as ratios within one run: none may be 30% worse than in reference.json.

The references are those of docs/benchmarks.md; an intended change of speed updates both.
"""

import json
import threading
from pathlib import Path

import pytest

from benchmarks.compare.compare import Options, compare
from benchmarks.run.bench import bench
from benchmarks.run.measure import Length
from benchmarks.run.one_stream import Options as BenchOptions
from runtime.backends import BackendOptions

REFERENCE: dict[str, float] = json.loads(Path(__file__).with_name("reference.json").read_text())
MAX_SLOWDOWN = 1.3


def time_ratio(arm: str, reference: str, clip: Path, frames: int) -> float:
    """Median ratio of the times of two arms, 2 threads each."""
    options = Options(str(clip), (reference, arm), frames, threads=2)
    return compare(options, threading.Event(), lambda _line: None).arms[1].ratio.median


@pytest.mark.slow
def test_edge_compared_with_movenet_alone(shared: Path, clip: Path):
    ratio = time_ratio("edge", f"movenet:{shared / 'teacher' / 'movenet-multipose.onnx'}", clip, 60)
    assert ratio <= MAX_SLOWDOWN * REFERENCE["edge over MoveNet"]


@pytest.mark.slow
def test_resnet50_compared_with_eager_pytorch(resnet_weights: Path, resnet_bundle: Path, clip: Path):
    ratio = time_ratio(str(resnet_bundle), f"eager:{resnet_weights}", clip, 25)
    assert ratio <= MAX_SLOWDOWN * REFERENCE["resnet50 over eager PyTorch"]


@pytest.mark.slow
def test_host_takes_a_small_share_of_a_frame(clip: Path):
    def share() -> float:
        options = BenchOptions(str(clip), backend=BackendOptions(threads=2), length=Length(30))
        stages = bench(options, threading.Event(), lambda _line: None).stages
        host = sum(stages[name].mean for name in ("letterbox", "parts", "people"))
        return host / sum(stage.mean for name, stage in stages.items() if name != "decode")

    # The least of three: other load on the machine slows down host and graphs unequally.
    assert min(share() for _ in range(3)) <= MAX_SLOWDOWN * REFERENCE["host's share of a frame"]
