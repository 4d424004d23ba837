import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_folder import write_coco
from numpy.typing import NDArray

from export import export as export_module
from export import gate as gate_module
from export.engines.build import build_engines
from export.export import Options, export_bundle
from export.gate import F1_LOSS, FP16_SUMS_F1_LOSS, Gate, check_video, letterboxed, run_gate, write_gate
from runtime.machine import has_bf16
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, BundleInfo
from stm_skeletons.errors import ExportError, SourceError
from stm_skeletons.geometry import STRIDE

SMALL = Options(width=160, height=96, slots=4, every=3, peaks=8)
FRAMES = 20


@pytest.fixture(autouse=True)
def short_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 frames take minutes."""
    monkeypatch.setattr(gate_module, "FRAMES", FRAMES)
    monkeypatch.setattr(gate_module, "FP16_SUMS_FRAMES", 5)
    monkeypatch.setattr(gate_module, "WINDOW", 5)
    monkeypatch.setattr(export_module, "FRAMES", FRAMES)
    monkeypatch.setattr(export_module, "CALIBRATION_FRAMES", 20)


@pytest.fixture
def info(edge_bundle: Path) -> BundleInfo:
    return Bundle.open(edge_bundle).info


class Replay:
    """A tracker that returns prepared maps."""

    def __init__(self, maps: list[NDArray[np.float32]]) -> None:
        self._maps = iter(maps)

    def step(self, frame: NDArray[np.uint8]) -> None:  # noqa: ARG002
        self._latest = next(self._maps)

    def maps(self) -> NDArray[np.float32]:
        return self._latest


def video_maps(info: BundleInfo) -> list[NDArray[np.float32]]:
    """Two moving noses of score 0.8 and 0.5 in every frame."""
    frames = []
    for number in range(FRAMES):
        maps = np.zeros((len(info.channels), info.height // STRIDE, info.width // STRIDE), np.float32)
        maps[1, 5, 3 + number % 8], maps[1, 15, 20 + number % 8] = 0.8, 0.5
        frames.append(maps)
    return frames


def compare(info: BundleInfo, other: list[NDArray[np.float32]], truth: list[NDArray[np.float32]] | None = None) -> Gate:
    truth = video_maps(info) if truth is None else truth
    return run_gate(Replay(truth), Replay(other), blank_frames(len(other)), info, "a test", "v.avi")


def blank_frames(count: int) -> Iterator[NDArray[np.uint8]]:
    return iter([np.zeros((96, 160, 3), np.uint8)] * count)


def test_equal_predictions_pass(info: BundleInfo):
    gate = compare(info, video_maps(info))
    assert (gate.f1, gate.keypoints, gate.found, gate.largest_map_difference) == (1, 2 * FRAMES, 2 * FRAMES, 0)
    assert gate.problem is None


def test_f1_loss_is_measured_overall_and_per_window(info: BundleInfo):
    other = video_maps(info)
    for maps in other[15:]:
        maps[1, 15] = 0
    gate = compare(info, other)
    assert (gate.keypoints, gate.found, gate.matched) == (40, 35, 35)
    assert gate.f1 == pytest.approx(70 / 75)
    assert [window.f1 for window in gate.windows] == pytest.approx([1, 1, 1, 10 / 15])
    assert gate.map_differences == pytest.approx([0] * 15 + [0.5] * 5)
    assert gate.problem == f"F1 drops by 0.0667 (bound {F1_LOSS})"


def test_keypoint_too_far_away_does_not_match(info: BundleInfo):
    other = [np.roll(maps, 3, axis=2) for maps in video_maps(info)]  # 12 network pixels
    assert compare(info, other).f1 == 0
    near = [np.roll(maps, 2, axis=2) for maps in video_maps(info)]  # 8 network pixels
    assert compare(info, near).f1 == 1


def test_score_crossing_the_threshold_is_a_miss_but_counts_in_f1_near(info: BundleInfo):
    truth, other = video_maps(info), video_maps(info)
    for ours, theirs in zip(truth, other, strict=True):
        ours[1, 15][ours[1, 15] > 0], theirs[1, 15][theirs[1, 15] > 0] = 0.301, 0.299
    gate = compare(info, other, truth)
    assert gate.f1 == pytest.approx(2 / 3)
    assert gate.f1_near == 1
    assert gate.problem is not None
    assert compare(info, truth, other).f1 == pytest.approx(2 / 3), "in both directions"


def test_fp16_accumulation_must_also_pass_over_fewer_frames(info: BundleInfo, monkeypatch: pytest.MonkeyPatch):
    """TensorRT may choose either accumulation."""
    monkeypatch.setattr(gate_module, "FP16_SUMS_FRAMES", 10)
    truth, other = video_maps(info), video_maps(info)
    for maps in other[:10]:
        maps[1, 15] = 0
    trackers = Replay(truth), Replay(truth), Replay(other)
    gate = run_gate(*trackers[:2], blank_frames(FRAMES), info, "a test", "v.avi", fp16_sums=trackers[2])
    assert gate.fp16_sums is not None
    assert (gate.frames, gate.f1, gate.fp16_sums.frames) == (FRAMES, 1, 10)
    assert gate.fp16_sums.f1 == pytest.approx(2 / 3)
    expected = f"over the first 10 frames, F1 drops by 0.3333 (bound {FP16_SUMS_F1_LOSS})"
    assert gate.problem == f"with FP16 accumulation (which GPUs may use), {expected}"
    assert "with FP16 accumulation: F1 0.6667" in gate.summary
    trackers = Replay(truth), Replay(truth), Replay(truth)
    assert run_gate(*trackers[:2], blank_frames(FRAMES), info, "a test", "v.avi", fp16_sums=trackers[2]).problem is None


def test_non_finite_maps_do_not_pass(info: BundleInfo):
    other = video_maps(info)
    other[7][0, 0, :2] = np.nan, np.inf
    gate = compare(info, other)
    assert gate.not_finite == 2
    assert gate.problem is not None
    assert "NaN" in gate.problem


def test_maps_decide_without_keypoints_and_the_summary_says_so(info: BundleInfo):
    nothing = [np.zeros_like(maps) for maps in video_maps(info)]
    gate = compare(info, [maps + np.float32(0.01) for maps in nothing], nothing)
    assert (gate.keypoints, gate.f1, gate.problem) == (0, None, None)
    assert "only maps were compared" in gate.summary
    far = compare(info, [maps + np.float32(0.1) for maps in nothing], nothing)
    assert far.problem == "a map differs by 0.100 (bound 0.05)"


def test_gate_is_written_as_json_and_image(info: BundleInfo, tmp_path: Path):
    gate = compare(info, video_maps(info))
    write_gate(gate, tmp_path)
    assert Gate.model_validate_json((tmp_path / "gate.json").read_text()) == gate
    assert (tmp_path / "gate.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def test_too_short_video_is_refused(info: BundleInfo, clip: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ExportError, match=r"v\.avi has 3 frames, the gate needs 20"):
        compare(info, video_maps(info)[:3])
    monkeypatch.setattr(gate_module, "FRAMES", 300)
    with pytest.raises(ExportError, match="has 100 frames, the gate needs 300"):
        check_video(str(clip))
    with pytest.raises(SourceError, match="nothing"):
        check_video("nothing.avi")


def test_frames_are_letterboxed_and_start_at_the_given_frame(clip: Path):
    frames = list(letterboxed(str(clip), (160, 96), 0, 8))
    assert [frame.shape for frame in frames] == [(96, 160, 3)] * 8
    assert (frames[0][:, 0] == 114).all()
    assert not np.array_equal(frames[0], frames[7]), "each frame has its own memory"
    np.testing.assert_array_equal(next(letterboxed(str(clip), (160, 96), 7, 1)), frames[7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(SMALL, precision="fp16"), "--precision fp16 needs --video"),
        (replace(SMALL, precision="int8"), "--precision int8 needs --video"),
        (replace(SMALL, video="v.avi"), "--video is not used with --precision fp32"),
        (replace(SMALL, precision="fp16", video="v.avi", compact=True), "--compact requires --precision fp32"),
    ],
)
def test_incompatible_options_are_refused(edge_weights: Path, tmp_path: Path, options: Options, message: str):
    with pytest.raises(ExportError, match=message):
        export_bundle(edge_weights, tmp_path / "b", options)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def accept_any_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights have peaks everywhere, so rounding adds and removes some."""
    monkeypatch.setattr(gate_module, "F1_LOSS", 1.0)
    monkeypatch.setattr(gate_module, "FP16_SUMS_F1_LOSS", 1.0)
    monkeypatch.setattr(gate_module, "BF16_F1_LOSS", 1.0)
    monkeypatch.setattr(gate_module, "INT8_F1_LOSS", 1.0)


@pytest.mark.usefixtures("accept_any_loss")
def test_fp16_bundle_runs_and_contains_its_gate(edge_weights: Path, clip: Path, tmp_path: Path):
    report = export_bundle(edge_weights, tmp_path / "b", replace(SMALL, precision="fp16", video=str(clip)))
    bundle = Bundle.open(tmp_path / "b")
    assert (bundle.info.precision, bundle.info.stored_weights) == ("fp16", "fp16")
    assert bundle.info.graphs["read_decoder"].tensor("memory_keys").dtype == "float16"
    assert json.loads((tmp_path / "b" / "gate.json").read_text())["frames"] == FRAMES
    assert report.gate is not None
    assert report.gate.f1 is not None
    assert report.gate.f1 > 0.9
    sums = report.gate.fp16_sums
    assert sums is not None
    assert sums.frames == 5
    assert sums.f1 is not None
    assert 0.8 < sums.f1 < 1


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16 units")
@pytest.mark.usefixtures("accept_any_loss")
def test_bf16_bundle_has_fp32_graphs_and_contains_its_gate(
    edge_weights: Path, edge_bundle: Path, clip: Path, tmp_path: Path
):
    pytest.importorskip("openvino")
    report = export_bundle(edge_weights, tmp_path / "b", replace(SMALL, precision="bf16", video=str(clip)))
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.info.precision == "bf16"
    assert report.closed_loop < 1e-3, "like FP32"
    assert report.gate is not None
    assert report.gate.executed_on == "the bundle in OpenVINO on a CPU"
    assert report.gate.f1 is not None
    assert 0.8 < report.gate.f1 < 1
    with pytest.raises(ExportError, match="has precision bf16, which is for CPUs"):
        build_engines(bundle, "sm86", tmp_path / "engines")


def test_bf16_is_refused_without_bf16_units(edge_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("export.export.has_bf16", lambda: False)
    with pytest.raises(ExportError, match="this processor has no bf16 units, so the bundle cannot be verified here"):
        export_bundle(edge_weights, tmp_path / "b", replace(SMALL, precision="bf16", video="v.avi"))
    assert list(tmp_path.iterdir()) == []


def test_engines_and_gate_of_a_replaced_bundle_are_deleted(edge_weights: Path, edge_bundle: Path, tmp_path: Path):
    bundle = tmp_path / "b"
    shutil.copytree(edge_bundle, bundle)
    (bundle / "engines" / "sm86").mkdir(parents=True)
    (bundle / "gate.json").write_text("{}")
    (bundle / "gate.png").write_text("")
    rejected = tmp_path / "b.rejected"
    rejected.mkdir()
    for name in ("gate.json", "gate.png"):
        (rejected / name).write_text("of an earlier attempt")
    export_bundle(edge_weights, bundle, SMALL)
    assert not rejected.exists()
    expected = {"bundle.json", *(f"{name}.onnx" for name in GRAPH_NAMES)}
    assert {path.name for path in bundle.iterdir()} == expected, "the old gate does not describe the new bundle"


@pytest.mark.slow
def test_rejected_bundle_leaves_only_its_gate(
    edge_weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gate_module, "F1_LOSS", -1.0)
    options = replace(SMALL, precision="fp16", video=str(clip))
    with pytest.raises(ExportError, match=r"FP16 failed the gate over 20 frames.*b\.rejected"):
        export_bundle(edge_weights, tmp_path / "b", options)
    assert [path.name for path in tmp_path.iterdir()] == ["b.rejected"]
    assert sorted(path.name for path in (tmp_path / "b.rejected").iterdir()) == ["gate.json", "gate.png"]


@pytest.mark.slow
def test_bundle_that_does_not_write_its_memory_is_refused(
    edge_weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("runtime.backends.onnxruntime.OnnxRuntimeBackend.memorise", lambda _backend, _slot: None)
    with pytest.raises(ExportError, match="key of frame 0 in the closed loop"):
        export_bundle(edge_weights, tmp_path / "b", replace(SMALL, precision="fp16", video=str(clip)))
    assert list(tmp_path.iterdir()) == []


def test_only_the_training_part_of_a_split_data_set_is_used(tmp_path: Path):
    """The gate and INT8 calibration never use the validation and test parts."""
    parts = {"train": [1, 4], "validation": [0, 2], "test": [3, 5]}
    write_coco(tmp_path, parts, {i: 40 * i for i in range(6)})
    seen = [int(frame[32, 32, 0]) for frame in letterboxed(str(tmp_path / "images"), (64, 64), 0, 10)]
    assert seen == [40, 160]
