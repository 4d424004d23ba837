"""INT8: which tensors are rounded, how, and from which observations."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from coco_folder import write_coco
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import export as export_module
from export import gate as gate_module
from export.calibrate import HIGHEST_LEVEL, Observation, closest_levels, observe
from export.engines.build import build_engines
from export.export import Options, export_bundle
from export.gate import letterboxed
from export.quantise import PARTS, Rounding, accept_bytes
from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.errors import BackendError, DataError, ExportError

SMALL = Options(width=160, height=96, slots=4, every=3, peaks=8)


def run(path: Path, inputs: dict[str, NDArray]) -> dict[str, NDArray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, inputs)), strict=True))


def rounding_error(values: NDArray, scale: float, zero: int) -> float:
    levels = np.clip(np.round(values / scale) + zero, 0, HIGHEST_LEVEL)
    return float((((levels - zero) * scale - values) ** 2).mean())


def test_levels_clip_rare_values():
    values = np.random.default_rng(0).laplace(size=100_000)
    low, high = values.min(), values.max()
    whole = (high - low) / HIGHEST_LEVEL
    assert rounding_error(values, *closest_levels(values)) < 0.85 * rounding_error(values, whole, round(-low / whole))


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-3, 5), (-4, 0)])
def test_zero_is_a_level_and_the_lowest_without_negative_values(low: float, high: float):
    scale, zero = closest_levels(np.random.default_rng(1).uniform(low, high, 50_000))
    assert zero == pytest.approx(-low / (high - low) * HIGHEST_LEVEL, abs=6)
    assert scale * HIGHEST_LEVEL == pytest.approx(high - low, rel=0.05)
    assert closest_levels(np.zeros(10))[1] == 0


@pytest.mark.parametrize("groups", [1, 256])
def test_bias_corrects_the_mean_error_of_rounded_weights(tmp_path: Path, groups: int):
    """For constant input, it corrects the whole error."""
    random = np.random.default_rng(2)
    weight = random.normal(size=(256, 256 // groups, 3, 3)).astype(np.float32)
    weight[:, 0, 0, 0] = 20  # one large weight, so that the others are rounded coarsely
    bias = np.float32(-20) * np.ones(256, np.float32) - (weight.sum((1, 2, 3)) - 20)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], "/part/Conv", group=groups)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 256, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 256, 1, 1])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    # The next node reads the result, because no graph ends in a rounded tensor.
    graph.node.append(helper.make_node("Identity", ["y"], ["z"]))
    graph.output[0].name = "z"
    path = tmp_path / "one.onnx"
    ones = np.ones((1, 256, 3, 3), np.float32)
    errors = {}
    for name, means in (("corrected", np.ones(256)), ("left", np.zeros(256))):
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        assert run(path, {"x": ones})["z"] == pytest.approx(0, abs=1e-3)
        Rounding(path, ("/part/",)).write(
            {"x": Observation(1 / 255, 0, means), "y": Observation(0.01, 128, np.zeros(256))}
        )
        errors[name] = np.abs(run(path, {"x": ones})["z"]).max()
    assert errors["corrected"] <= 0.01
    assert errors["left"] > 0.1


def test_first_convolution_takes_bytes_directly(edge_bundle: Path, tmp_path: Path):
    bundle = Bundle.open(edge_bundle)
    path = tmp_path / "query_encoder.onnx"
    shutil.copy(bundle.graph_file("query_encoder"), path)
    accept_bytes(path)
    graph = onnx.load(path).graph
    stem = next(node for node in graph.node if node.op_type == "Conv" and "stem" in node.name)
    assert next(node for node in graph.node if stem.input[0] in node.output).op_type == "DequantizeLinear"
    assert not {"Slice", "Sub", "Cast"} & {node.op_type for node in graph.node if "trunk" not in node.name}
    frame = np.random.default_rng(3).integers(0, 256, (bundle.info.height, bundle.info.width, 3), np.uint8)
    frame[..., 0] //= 4  # so that a wrong colour order would change the result
    before, after = (run(file, {"frame": frame}) for file in (bundle.graph_file("query_encoder"), path))
    for name, wanted in before.items():
        # Results differ only at the image border: the padding is 0, which no byte represents.
        assert np.abs(after[name] - wanted).max() < 0.05 * np.abs(wanted).max(), name


def test_calibration_observes_frames_with_their_memory(edge_bundle: Path, clip: Path):
    frames = list(letterboxed(str(clip), (160, 96), 0, 4))
    graph = onnx.load(Bundle.open(edge_bundle).graph_file("read_decoder")).graph
    read = next(node for node in graph.node if node.name == "/fusion/read/Conv").input[0]

    def means(sequences: list[list[NDArray[np.uint8]]], sample_every: int) -> NDArray[np.float64]:
        return observe(edge_bundle, sequences, {"read_decoder": [read]}, 4, 3, sample_every)["read_decoder"][read].means

    # The last channel says whether there is a memory.
    assert means([frames], 1)[-1] == 0.75
    assert means([frames], 2)[-1] == 1
    assert means([[frame] for frame in frames], 1)[-1] == 0
    assert observe(edge_bundle, [frames], {}, 4, 3, 5) == {}, "no sequence has five frames"


@pytest.fixture
def short_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 frames take minutes. Random weights have peaks everywhere, so rounding adds and removes some."""
    for module in (gate_module, export_module):
        monkeypatch.setattr(module, "FRAMES", 20)
    monkeypatch.setattr(gate_module, "INT8_F1_LOSS", 1.0)
    monkeypatch.setattr(export_module, "CALIBRATION_FRAMES", 20)
    monkeypatch.setattr(export_module, "CALIBRATION_SEQUENCES", 3)
    # With random weights calibrated on two grey images, keys are arbitrary and depend on the processor.
    monkeypatch.setattr("export.verify.LOOSE_LOOP_BOUNDS", {"int8": (1.0, 10.0)})


@pytest.mark.slow
@pytest.mark.usefixtures("short_export")
def test_int8_rounds_only_the_listed_parts(edge_weights: Path, clip: Path, tmp_path: Path):
    report = export_bundle(edge_weights, tmp_path / "b", replace(SMALL, precision="int8", video=str(clip)))
    assert report.gate is not None
    assert report.gate.calibration == "every 5th of frames 20 to 39"
    bundle = Bundle.open(tmp_path / "b")
    for name in GRAPH_NAMES:
        graph = onnx.load(bundle.graph_file(name)).graph
        made_by = {output: node for node in graph.node for output in node.output}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        rounded = {node.name for node in convolutions if node.input[1] in made_by}
        assert rounded == {node.name for node in convolutions if node.name.startswith(PARTS[name])}
        for part in PARTS[name]:
            assert any(node.startswith(part) for node in rounded), f"there is no {part} any more"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3  # it warns that the file is only valid for this machine
        onnxruntime.InferenceSession(bundle.graph_file(name), options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
        assert kinds.count("QLinearConv") == len(rounded), "ONNX Runtime computes all of them in integers"
    with Session.open(bundle) as session:
        session.step(next(letterboxed(str(clip), (160, 96), 0, 1)))
        assert np.ptp(session.maps()) > 0.01
    with pytest.raises(ExportError, match="which is for CPUs; for TensorRT"):
        build_engines(bundle, "sm86", tmp_path / "engines")
    with pytest.raises(BackendError, match="--provider cpu"):
        Session.open(bundle, BackendOptions(provider="cuda"))


@pytest.mark.slow
@pytest.mark.usefixtures("short_export")
def test_int8_is_calibrated_on_training_images(edge_weights: Path, clip: Path, tmp_path: Path):
    data = tmp_path / "data"
    parts = {"train": [1, 2], "validation": [0], "test": [3]}
    write_coco(data, parts, {i: 60 * i for i in parts["train"]})  # the others are never opened
    options = replace(SMALL, precision="int8", video=str(clip), calibrate=("coco", data))
    report = export_bundle(edge_weights, tmp_path / "b", options)
    assert report.gate is not None
    assert report.gate.calibration == "the last of 3 frames of up to 3 sequences made of data, coco train"


@pytest.mark.usefixtures("short_export")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"precision": "fp16", "video": "v.avi", "calibrate": ("coco", Path("c"))}, ExportError, "--calibrate re"),
        ({"precision": "int8", "calibrate": ("coco", Path("none"))}, DataError, "folder none does not exist"),
        ({"precision": "int8", "calibrate": ("coca", Path("none"))}, DataError, "kinds are coco"),
    ],
)
def test_invalid_calibration_data_is_refused(
    edge_weights: Path, clip: Path, tmp_path: Path, changes: dict, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        export_bundle(edge_weights, tmp_path / "b", replace(replace(SMALL, video=str(clip)), **changes))
    assert list(tmp_path.iterdir()) == []
