"""``bench compare``: parsing of arms, interleaved times, ratios and their intervals, growing memory."""

import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.compare.arms import Arm, open_arm, parse_arm
from benchmarks.compare.compare import Options, compare
from benchmarks.compare.comparison import Comparison, comparison_markdown, write_comparison
from benchmarks.compare.growing import GrowingSession
from benchmarks.compare.interleave import WARM_UP, time_interleaved
from benchmarks.compare.ratios import MIN_FRAMES, ratio
from benchmarks.run.footage import Footage
from stm_skeletons.errors import BenchmarkError
from training.model import ModelConfig, build
from training.model.weights import save_weights


@pytest.mark.parametrize(
    ("text", "kind", "path", "options"),
    [
        ("edge", "bundle", "edge", {}),
        ("some/folder,threads=1,provider=cuda", "bundle", "some/folder", {"threads": 1, "provider": "cuda"}),
        ("edge,provider=cuda,cuda_graphs=no", "bundle", "edge", {"provider": "cuda", "cuda_graphs": False}),
        ("c:\\bundle", "bundle", "c:\\bundle", {}),
        ("movenet:a/b.onnx", "movenet", "a/b.onnx", {}),
        ("growing:w.safetensors,every=5,size=64x32", "growing", "w.safetensors", {"every": 5, "size": "64x32"}),
    ],
)
def test_arms_are_parsed(text: str, kind: str, path: str, options: dict[str, Any]):
    name = parse_arm(text)
    assert (name.kind, name.path, name.options) == (kind, path, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edge,speed=9", "unknown option 'speed'; choose from backend, provider, threads, engines, cuda_graphs"),
        ("edge,threads=two", "threads must be a whole number"),
        ("edge,threads=0", "at least 1"),
        ("edge,cuda_graphs=off", "cuda_graphs must be yes or no"),
        ("edge,provider=", "needs a value"),
        ("movenet:a.onnx,slots=3", "unknown option 'slots'"),
        (",threads=2", "lacks a model or file"),
        ("eager:", "lacks a model or file"),
    ],
)
def test_invalid_arms_are_rejected(text: str, message: str):
    with pytest.raises(BenchmarkError, match=message):
        parse_arm(text)


def test_eager_arm_runs_on_the_given_device_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights = tmp_path / "edge.safetensors"
    save_weights(weights, build(ModelConfig(variant="edge")), "fresh")
    with ExitStack() as stack:
        assert "every 5, cpu" in open_arm(parse_arm(f"eager:{weights},size=64x32"), 1, stack).what
        with pytest.raises(BenchmarkError, match="device must be cpu or cuda"):
            open_arm(parse_arm(f"eager:{weights},device=gpu"), 1, stack)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(BenchmarkError, match="PyTorch finds no GPU"):
            open_arm(parse_arm(f"eager:{weights},device=cuda"), 1, stack)


def test_missing_file_and_other_network_are_rejected(edge_bundle: Path, tmp_path: Path):
    with ExitStack() as stack, pytest.raises(BenchmarkError, match=r"none\.onnx does not exist"):
        open_arm(parse_arm(f"movenet:{tmp_path / 'none.onnx'}"), 1, stack)
    with ExitStack() as stack, pytest.raises(BenchmarkError, match="not MoveNet"):
        open_arm(parse_arm(f"movenet:{edge_bundle / 'query_encoder.onnx'}"), 1, stack)


class Recorder:
    """Makes arms that record the order in which they run."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def arm(self, text: str) -> Arm:
        def step(_frame: object) -> None:
            self.order.append(text)

        return Arm(parse_arm(text), 1, "a test", "", lambda frame: frame, step, (32, 32))


def test_every_arm_gets_every_frame_in_rotating_order(clip: Path):
    recorder = Recorder()
    footage = Footage(str(clip))
    warm, times = time_interleaved([recorder.arm(name) for name in "abc"], footage, 6, threading.Event())
    footage.close()
    assert (warm.shape, times.shape) == ((WARM_UP, 3), (6, 3))
    rounds = ["".join(recorder.order[start : start + 3]) for start in range(0, len(recorder.order), 3)]
    assert rounds[:4] == ["abc", "bca", "cab", "abc"]
    assert len(rounds) == WARM_UP + 6


def test_ratio_is_within_its_interval_despite_drifting_machine_speed():
    random = np.random.default_rng(0)
    machine = 1 + random.random(300).cumsum() % 3  # drifting speed, the same for both
    found = ratio(2 * machine * random.normal(1, 0.02, 300), machine)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.median <= found.high
    assert found.low < 2 < found.high
    assert found.high - found.low < 0.05


@given(st.integers(1, MIN_FRAMES - 1))
def test_too_few_frames_give_no_interval(count: int):
    found = ratio(np.full(count, 3.0), np.ones(count))
    assert (found.median, found.low, found.high) == (3, None, None)


def test_growing_memory_keeps_first_every_nth_and_previous_frame():
    """Checks the number of slots after each frame."""
    torch.manual_seed(0)
    model = build(ModelConfig(variant="edge")).eval()
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    growing = GrowingSession(model, every=3)
    kept = []
    for frame in frames:
        growing.step(frame)
        kept.append(growing._keys.shape[1])
    # After frame n: frame 0, every 3rd, and n itself.
    assert kept == [1, 2, 2, 2, 3, 3, 3, 4]


def test_growing_memory_gives_the_maps_of_a_bank_with_the_same_frames():
    from training.model.session import TorchSession

    torch.manual_seed(0)
    model = build(ModelConfig(variant="edge")).eval()
    frames = np.random.default_rng(1).integers(0, 256, (6, 64, 64, 3), np.uint8)
    growing, bank = GrowingSession(model, every=2), TorchSession(model, slots=8, every=2)
    for frame in frames:
        growing.step(frame)
        bank.step(frame)
        np.testing.assert_allclose(growing.maps(), bank.maps(), atol=1e-5)


def test_comparison_is_written_and_matches_its_schema(edge_bundle: Path, clip: Path, tmp_path: Path):
    arms = (str(edge_bundle), f"{edge_bundle},threads=1")
    found = compare(Options(str(clip), arms, frames=3, threads=2), threading.Event(), lambda _line: None)
    assert found.arms[0].ratio.median == 1
    assert [arm.threads for arm in found.arms] == [2, 1]
    write_comparison(found, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    jsonschema.validate(written, Comparison.model_json_schema())
    assert "not measured" in comparison_markdown(found, plots=False)
    assert str(tmp_path) not in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize("arms", [("edge",), ("edge", "edge"), ("movenet:a.onnx", "movenet:b.onnx")])
def test_arms_with_nothing_to_compare_are_rejected(clip: Path, arms: tuple[str, ...]):
    with pytest.raises(BenchmarkError, match="variant"):
        compare(Options(str(clip), arms, 1), threading.Event(), lambda _line: None)


def test_stop_before_the_start_is_an_interruption(edge_bundle: Path, clip: Path):
    stop = threading.Event()
    stop.set()
    arms = (str(edge_bundle), f"{edge_bundle},threads=1")
    with pytest.raises(KeyboardInterrupt):
        compare(Options(str(clip), arms, 1), stop, lambda _line: None)
