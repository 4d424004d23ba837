"""Predicted speed: kernel counts, device rates and host times."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from command import done, refused
from onnx import TensorProto, helper, numpy_helper

from benchmarks.grouping import PEOPLE
from benchmarks.predict.count import Kernel, kernels
from benchmarks.predict.devices import devices, find_device
from benchmarks.predict.host import REFERENCE_MIPS, REFERENCE_MS, SOURCES, HostWork, measure
from benchmarks.predict.host_share import host_shares
from benchmarks.predict.predict import predict
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BenchmarkError

Shape = tuple[int, ...]


def kernels_of(nodes: list[onnx.NodeProto], inputs: dict[str, Any], weights: dict[str, np.ndarray]) -> list[Kernel]:
    """Kernels of a graph with FP32 inputs of these shapes and the output "out"."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "test", given, [onnx.ValueInfoProto(name="out")], constants)
    return kernels(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def node(op: str, inputs: str, output: str = "out", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


@pytest.mark.parametrize(
    ("one", "inputs", "weights", "expected"),
    [
        # 16 channels of 4 x 4, each of 3 * 3 * 8 multiply-adds; 8 * 8 * 8 read, 16 * 8 * 9 weights, 16 * 4 * 4 written
        (
            node("Conv", "x w", pads=[1, 1, 1, 1], strides=[2, 2]),
            {"x": (1, 8, 8, 8)},
            {"w": zeros(16, 8, 3, 3)},
            Kernel("tensor", False, 2 * 256 * 72, 4 * (512 + 1152 + 256)),
        ),
        (
            node("Conv", "x w", group=8, pads=[1, 1, 1, 1]),
            {"x": (1, 8, 4, 4)},
            {"w": zeros(8, 1, 3, 3)},
            Kernel("depthwise", False, 2 * 128 * 9, 4 * (128 + 72 + 128)),
        ),
        (
            node("ConvTranspose", "x w", strides=[2, 2]),
            {"x": (1, 8, 4, 4)},
            {"w": zeros(8, 5, 2, 2)},
            Kernel("tensor", False, 2 * 128 * 5 * 4, 4 * (128 + 160 + 5 * 64)),
        ),
        (
            node("Gemm", "x w", transA=1, transB=1),
            {"x": (7, 3)},
            {"w": zeros(5, 7)},
            Kernel("tensor", False, 2 * 3 * 5 * 7, 4 * (21 + 35 + 15)),
        ),
        (
            node("MatMul", "x y"),
            {"x": (2, 3, 4), "y": (2, 4, 5)},
            {},
            Kernel("tensor", False, 2 * 2 * 3 * 5 * 4, 4 * (24 + 40 + 30)),
        ),
        (node("Mul", "x x"), {"x": (6, 5)}, {}, Kernel("other", False, 30, 4 * 60)),
        # Gathers one of 1000 rows: only that row is read.
        (
            node("Gather", "x i", axis=0),
            {"x": (1000, 10)},
            {"i": np.array([3])},
            Kernel("other", False, 10, 4 * (10 + 10) + 8),
        ),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_kernel_counts_match_manual_counts(one: onnx.NodeProto, inputs: dict, weights: dict, expected: Kernel):
    assert kernels_of([one], inputs, weights) == [expected]


CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
CONV_INPUTS: dict[str, Shape] = {"x": (1, 8, 4, 4)}


def test_operations_are_fused_into_a_convolution_unless_read_elsewhere():
    weights = {"w": zeros(8, 8, 3, 3), "b": zeros(8, 1, 1)}
    (fused,) = kernels_of([CONV, node("Add", "c b", "s"), node("Relu", "s")], CONV_INPUTS, weights)
    assert fused.bytes == 4 * (128 + 576 + 8 + 128)
    assert len(kernels_of([CONV, node("Relu", "c", "r"), node("Add", "r c")], CONV_INPUTS, weights)) == 2


def test_views_and_constant_operations_cost_nothing():
    weights = {"w": zeros(8, 8, 3, 3, dtype=np.float16), "shape": np.array([8, 4])}
    nodes = [node("Cast", "w", "v", to=TensorProto.FLOAT), node("Conv", "x v", "c"), node("Reshape", "c shape")]
    (conv,) = kernels_of(nodes, CONV_INPUTS, weights)
    assert conv.bytes == 4 * (128 + 576 + 32), "weights are read in the type that they are cast to"


def test_dynamic_shapes_are_rejected():
    with pytest.raises(BenchmarkError, match="no static shape"):
        kernels_of([node("Relu", "x")], {"x": ("n", 3)}, {})


@pytest.mark.parametrize("device", devices().values(), ids=devices())
def test_published_rates_match_cores_and_clock(device):
    """Sparse figures, or figures that include other accelerators, would be off by a factor."""
    per_clock = 2 * device.cuda_cores * device.clock_mhz * 1e6 / 1e12
    assert device.fp32_tflops == pytest.approx(per_clock, rel=0.03)
    tensor = {"7.2": 8, "8.6": 4, "8.7": 8, "11.0": 32}[device.compute_capability]
    assert device.fp16_tensor_tflops == pytest.approx(tensor * per_clock, rel=0.03)


def test_faster_boards_are_predicted_faster_within_their_peak_rates():
    bundle = Bundle.open("edge")
    made = {one.device: one for one in predict(bundle, ["orin-nano-8gb", "orin-nano-8gb-super", "agx-orin"])}
    assert made["orin-nano-8gb"].total > made["orin-nano-8gb-super"].total > made["agx-orin"].total
    operations = sum(one.operations for one in kernels(onnx.load(bundle.graph_file("query_encoder"))))
    for name, one in made.items():
        assert one.milliseconds["query_encoder"] > 1e3 * operations / (1e12 * devices()[name].fp32_tflops)
        assert sum(one.bound.values()) == pytest.approx(1)


GRAPHS = {"query_encoder": 4.0, "read_decoder": 2.0, "memory_encoder": 0.5}


def host_work(slower: float = 1.0) -> HostWork:
    """Host times on a core that is slower than the reference core by this factor."""
    letterbox = {(1920, 1080): 1.0 * slower, (3840, 2160): 3.0 * slower}
    people, parts = {5: 0.25 * slower, 30: 2.0 * slower}, {5: 0.125 * slower, 30: 0.25 * slower}
    return HostWork(REFERENCE_MS * slower, letterbox, people, parts)


def test_frame_time_is_device_time_plus_host_time_that_cannot_overlap():
    device = find_device("orin-nano-8gb")
    shares = {
        (one.source, one.people): one for one in host_shares(Bundle.open("edge").info, device, host_work(), GRAPHS)
    }
    assert set(shares) == {(source, people) for source in SOURCES for people in PEOPLE}
    assert device.core is not None
    slower = REFERENCE_MIPS / device.core.seven_zip_mips
    one = shares[(1920, 1080), 30]
    assert 0 < one.copies < 0.1
    assert one.latency == pytest.approx(6 + one.copies + slower * 3.25), (
        "the memory encoder overlaps with finding people"
    )
    assert one.frame == pytest.approx(6 + one.copies + slower * 2.25), "the graphs overlap with the next letterbox"
    assert one.waiting == pytest.approx((slower * 2.25 - 0.5) / one.frame)
    busy = host_shares(Bundle.open("edge").info, device, host_work(), GRAPHS | {"memory_encoder": 50.0})[0]
    assert busy.frame == pytest.approx(56 + busy.copies), "people are found while the encoder runs"
    assert busy.waiting == pytest.approx(0)
    quick = host_shares(Bundle.open("edge").info, device, host_work(), dict.fromkeys(GRAPHS, 0.01))[0]
    assert quick.frame == pytest.approx(slower * 1.375), "only the host's time counts"


def test_prediction_does_not_depend_on_the_speed_of_this_machine():
    info, device = Bundle.open("edge").info, find_device("agx-orin")
    quick, slow = (host_shares(info, device, host_work(slower), GRAPHS) for slower in (1, 4))
    assert [one.frame for one in slow] == pytest.approx([one.frame for one in quick])


def test_unknown_processors_have_no_host_shares():
    assert find_device("rtx-a2000").core is None
    assert host_shares(Bundle.open("edge").info, find_device("rtx-a2000"), host_work(), GRAPHS) == ()


def test_host_timing_is_plausible_and_restores_opencv_threads():
    before = cv2.getNumThreads()
    found = measure(Bundle.open("edge").info, rounds=5)
    assert cv2.getNumThreads() == before
    assert found.letterbox[3840, 2160] > found.letterbox[1920, 1080] > 0
    assert found.people[30] > found.people[5] > found.parts[5] > 0
    assert found.yardstick > 0


def test_command_prints_and_writes_the_prediction(tmp_path: Path):
    printed = done("bench", "predict", "edge", "--device", "orin-nano-8gb", "--device", "rtx-a2000", "--out", tmp_path)
    assert "PREDICTION, not a measurement" in printed
    assert "GPU waits" in printed
    found = json.loads((tmp_path / "predict.json").read_text())
    assert [one["device"] for one in found] == ["orin-nano-8gb", "rtx-a2000"]
    assert [len(one["host"]) for one in found] == [len(SOURCES) * len(PEOPLE), 0]
    text = (tmp_path / "predict.md").read_text()
    assert all(devices()[one["device"]].url in text for one in found)
    assert refused("bench", "predict", "edge", "--device", "orin-mega").startswith("unknown device 'orin-mega'; choose")
    assert all(name in "".join(done("bench", "predict", "--help").replace("│", "").split()) for name in devices())
