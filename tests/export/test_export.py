import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import verify
from export.export import Options, export_bundle
from export.onnx_graphs import trace
from export.verify import GRAPH_BOUND, LOOP_BOUND, verify_closed_loop, verify_graph
from runtime.session import Session
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.errors import ExportError, WeightsError
from stm_skeletons.geometry import Letterbox
from training.model import ModelConfig, build
from training.model.session import TorchSession
from training.model.weights import load_weights, save_weights

CLIP = str(Path(__file__).parents[2] / "examples" / "vtest-10s.avi")
SMALL = Options(width=96, height=64, slots=3, every=2, peaks=5)


@pytest.fixture(params=["edge", pytest.param("resnet50", marks=pytest.mark.slow)])
def weights_and_bundle(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    prefix = "edge" if request.param == "edge" else "resnet"
    return request.getfixturevalue(f"{prefix}_weights"), request.getfixturevalue(f"{prefix}_bundle")


def test_graphs_have_opset_17_static_shapes_and_the_contracts_names(weights_and_bundle: tuple[Path, Path]):
    bundle = Bundle.open(weights_and_bundle[1])
    frame_or_features = "features_16" if bundle.info.variant == "edge" else "frame"
    inputs = {
        "query_encoder": {"frame"},
        "read_decoder": {"memory_keys", "memory_values", "memory_valid", "query_key", "query_value"},
        "memory_encoder": {frame_or_features, "maps"},
    }
    outputs = {
        "query_encoder": {"query_key", "query_value"},
        "read_decoder": {"maps", "peaks", "edge_scores"},
        "memory_encoder": {"memory_key", "memory_value"},
    }
    for name in GRAPH_NAMES:
        model = onnx.load(bundle.graph_file(name))
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
        assert inputs[name] <= {tensor.name for tensor in model.graph.input}
        assert outputs[name] <= {tensor.name for tensor in model.graph.output}
        for tensor in (*model.graph.input, *model.graph.output):
            assert all(dimension.dim_value > 0 for dimension in tensor.type.tensor_type.shape.dim), tensor.name
        dynamic = {"NonMaxSuppression", "NonZero", "RoiAlign", "If", "Loop", "Shape", "Range", "ConstantOfShape"}
        assert not dynamic & {node.op_type for node in model.graph.node}


def test_closed_loop_of_real_frames_equals_pytorch(weights_and_bundle: tuple[Path, Path], clip: Path):
    weights, path = weights_and_bundle
    model, _ = load_weights(weights)
    capture = cv2.VideoCapture(str(clip))
    with Session.open(str(path)) as session:
        loop = TorchSession(model, session.info.slots, session.info.every)
        network = np.empty((session.info.height, session.info.width, 3), np.uint8)
        maps = []
        for _ in range(20):
            _, image = capture.read()
            frame = np.asarray(image, np.uint8)
            Letterbox((frame.shape[1], frame.shape[0]), session.info.size).apply(frame, network)
            session.step(frame)
            maps.append(session.maps())
            loop.step(network)
            np.testing.assert_allclose(maps[-1], loop.maps(), atol=LOOP_BOUND)
    assert np.ptp(maps[-1]) > 0.01, "constant maps would prove nothing"


def test_memory_changes_the_maps(edge_bundle: Path):
    """Otherwise, the closed loops above would not test the memory."""
    frame = verify.synthetic_frames(96, 160, 2)
    with Session.open(str(edge_bundle)) as session:
        session.step(frame[1])
        alone = session.maps()
        session.reset()
        session.step(frame[0])
        session.step(frame[1])
        assert np.abs(session.maps() - alone).max() > 0.01


def test_graph_ignores_slot_order_and_contents_of_masked_slots(edge_bundle: Path):
    bundle = Bundle.open(edge_bundle)
    session = onnxruntime.InferenceSession(bundle.graph_file("read_decoder"), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feed = {
        tensor.name: random.standard_normal(tensor.shape).astype(np.float32)
        for tensor in bundle.info.graphs["read_decoder"].inputs
    }

    feed["memory_values"] *= 100  # so that the memory matters for features of any scale

    def maps(valid, order=(0, 1, 2, 3), **other) -> np.ndarray:
        keys, values = (feed[name][list(order)] for name in ("memory_keys", "memory_values"))
        bank = {"memory_keys": keys, "memory_values": values, "memory_valid": np.array(valid, np.float32)}
        return np.asarray(session.run(["maps"], {**feed, **bank, **other})[0])

    np.testing.assert_allclose(maps([1, 1, 0, 1]), maps([1, 0, 1, 1], order=(3, 2, 0, 1)), atol=1e-4)
    # A masked slot may hold anything.
    stale = feed["memory_values"].copy()
    stale[2] = 1e6
    np.testing.assert_array_equal(maps([1, 1, 0, 1]), maps([1, 1, 0, 1], memory_values=stale))
    empty = maps([0, 0, 0, 0])
    assert np.isfinite(empty).all()
    np.testing.assert_array_equal(empty, maps([0, 0, 0, 0], memory_values=stale))
    assert np.abs(empty - maps([1, 1, 1, 1])).max() > 0.01


def test_compact_bundle_is_small_and_equals_its_rounded_weights(edge_weights: Path, edge_bundle: Path, tmp_path: Path):
    report = export_bundle(edge_weights, tmp_path / "compact", replace(SMALL, compact=True))
    assert report.closed_loop <= LOOP_BOUND
    assert max(report.graphs.values()) <= GRAPH_BOUND

    def size(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.glob("*.onnx"))

    assert size(tmp_path / "compact") < 0.6 * size(edge_bundle)
    assert report.bundle.info.precision == "fp32"
    assert report.bundle.info.stored_weights == "fp16"


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(ModelConfig(variant="stm"), id="stm", marks=pytest.mark.slow),
        pytest.param(ModelConfig(variant="resnet50", edges_only=True), id="edges-only", marks=pytest.mark.slow),
    ],
)
def test_networks_without_keypoints_give_maps_only(config: ModelConfig, tmp_path: Path):
    torch.manual_seed(0)
    save_weights(tmp_path / "w.safetensors", build(config), "random")
    bundle = export_bundle(tmp_path / "w.safetensors", tmp_path / "b", SMALL).bundle
    with Session.open(bundle) as session:
        poses = np.full((1, len(config.skeleton.joints), 3), 30.0)
        session.seed(poses)
        parts = session.step(np.zeros((64, 96, 3), np.uint8))
        assert len(parts.keypoints) == len(parts.edge_types) == 0
        assert session.maps().shape == (len(config.channels), 16, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(SMALL, width=100), "width 100 must be a multiple of 32"),
        (replace(SMALL, height=0), "height 0"),
        (replace(SMALL, width=3200000), "width 3200000"),
        (replace(SMALL, slots=1), "slots is 1, must be at least 2"),
        (replace(SMALL, batch=0), "--batch is 0, must be between 1 and 64"),
        (replace(SMALL, batch=65), "--batch is 65, must be"),
        (replace(SMALL, batch=2, precision="int8", video=CLIP), "--batch cannot be combined with --precision int8"),
        (replace(SMALL, every=0), "every is 0"),
        (replace(SMALL, peaks=0), "peaks is 0"),
        (replace(SMALL, peaks=10_000), "peaks is 10000"),
    ],
)
def test_impossible_options_are_refused(edge_weights: Path, tmp_path: Path, options: Options, message: str):
    with pytest.raises(ExportError, match=message):
        export_bundle(edge_weights, tmp_path / "b", options)
    assert list(tmp_path.iterdir()) == []


def test_folder_with_other_files_is_left_alone(edge_weights: Path, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="not empty and not a bundle"):
        export_bundle(edge_weights, tmp_path, SMALL)
    with pytest.raises(WeightsError):
        export_bundle(tmp_path / "missing", tmp_path / "b", SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_bundle_folder_with_other_files_is_not_replaced(edge_weights: Path, edge_bundle: Path, tmp_path: Path):
    bundle = tmp_path / "b"
    shutil.copytree(edge_bundle, bundle)
    (bundle / "w.safetensors").write_bytes(edge_weights.read_bytes())
    with pytest.raises(ExportError, match=r"w\.safetensors"):
        export_bundle(bundle / "w.safetensors", bundle, SMALL)
    assert (bundle / "w.safetensors").exists()


def test_graph_of_other_weights_is_refused(edge_weights: Path, edge_bundle: Path, tmp_path: Path):
    """Shows that the checks compare values."""
    model, _ = load_weights(edge_weights)
    assert verify_closed_loop(model, Bundle.open(edge_bundle)) <= LOOP_BOUND
    model.get_parameter("fpn.smooth_4.pointwise.bias").data.add_(0.05)
    traced = trace(model, 96, 160, 4, 8)
    with pytest.raises(ExportError, match="differs"):
        verify_graph("read_decoder", traced["read_decoder"], edge_bundle / "read_decoder.onnx")
    with pytest.raises(ExportError, match="closed loop"):
        verify_closed_loop(model, Bundle.open(edge_bundle))


def test_bundle_that_does_not_write_its_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At the first frame, although its maps do not depend on the memory."""
    torch.manual_seed(0)
    save_weights(tmp_path / "w.safetensors", build(ModelConfig(variant="edge")), "fresh")
    monkeypatch.setattr("runtime.backends.onnxruntime.OnnxRuntimeBackend.memorise", lambda _backend, _slot: None)
    with pytest.raises(ExportError, match="key of frame 0 in the closed loop"):
        export_bundle(tmp_path / "w.safetensors", tmp_path / "b", SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_failed_check_leaves_no_files(edge_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verify, "LOOP_BOUND", -1.0)
    with pytest.raises(ExportError, match="closed loop"):
        export_bundle(edge_weights, tmp_path / "b", SMALL)
    assert list(tmp_path.iterdir()) == []
