"""RTM networks as teachers: the real rtmlib with constant networks in place of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike

from stm_skeletons.errors import LibraryError, WeightsError
from training.label.rtm import RTM_TEACHERS, RtmTeacher

IMAGE = np.zeros((320, 640, 3), np.uint8)
"""As wide as the input of RTMO and YOLOX and half as high, so the scale is 1."""


def write_network(path: Path, size: tuple[int, int], outputs: Sequence[ArrayLike]) -> None:
    """Write a network with an input of this (width, height) and constant outputs."""
    tensors = [np.asarray(output, np.float32) for output in outputs]
    nodes = [
        onnx.helper.make_node("Constant", [], [f"out{i}"], value=onnx.numpy_helper.from_array(tensor))
        for i, tensor in enumerate(tensors)
    ]
    results = [
        onnx.helper.make_tensor_value_info(f"out{i}", onnx.TensorProto.FLOAT, tensor.shape)
        for i, tensor in enumerate(tensors)
    ]
    image = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, (1, 3, size[1], size[0]))
    graph = onnx.helper.make_graph(nodes, "constant", [image], results)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which rtmlib looks for weights before it downloads them."""
    pytest.importorskip("rtmlib")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def cache_file(folder: Path, part: str) -> Path:
    """Return the file in rtmlib's cache for the network with ``part`` in its address."""
    from rtmlib import Body  # pyright: ignore[reportMissingImports] - optional, and without types

    modes = [*Body.MODE.values(), *Body.RTMO_MODE.values()]
    address = next(mode[key] for mode in modes for key in ("pose", "det") if part in mode.get(key, ""))
    return folder / f"{address.rsplit('/', 1)[1].split('.')[0]}.onnx"


def write_rtmo(path: Path, scores: Sequence[float]) -> np.ndarray:
    """Write a network that finds people with these scores side by side. Returns their joints [P, 17, 3]."""
    boxes = [[100 * i + 10, 20, 100 * i + 90, 220, score] for i, score in enumerate(scores)]
    joints = np.zeros((len(scores), 17, 3))
    for i, score in enumerate(scores):
        joints[i] = np.column_stack([100 * i + np.linspace(20, 80, 17), np.linspace(30, 200, 17), np.full(17, score)])
    write_network(path, (640, 640), [[boxes], [joints]])
    return joints


def test_rtmo_labels_confident_and_uncertain_people(weights: Path):
    joints = write_rtmo(cache_file(weights, "rtmo-s_"), [0.9, 0.4, 0.1])
    teacher = RtmTeacher("rtmo-s")
    people = teacher.people(IMAGE)
    assert len(people) == 2, "one score is too low for a person"
    for person, expected in zip(people, joints, strict=False):
        np.testing.assert_allclose(person.pose, expected, atol=1e-4)
        left, top, right, bottom = person.box
        assert (expected[:, 0] >= left).all()
        assert (expected[:, 0] <= right).all()
        assert 0 <= top < bottom <= 320
    assert teacher.description["name"] == "rtmo-s"


def test_rtmo_without_detections_gives_no_people(weights: Path):
    write_rtmo(cache_file(weights, "rtmo-l_"), [0.1])
    assert RtmTeacher("rtmo-l").people(IMAGE) == []


def test_rtmpose_runs_on_each_detected_person(weights: Path):
    boxes = [[10, 20, 90, 220, 0.9], [110, 20, 190, 220, 0.8]]
    write_network(cache_file(weights, "yolox_m_"), (640, 640), [[boxes]])
    x, y = np.zeros((1, 17, 384)), np.zeros((1, 17, 512))
    x[..., 192], y[..., 256] = 0.8, 1.2  # the centre of its input
    write_network(cache_file(weights, "rtmpose-m_simcc-body7"), (192, 256), [x, y])
    people = RtmTeacher("rtmpose-m").people(IMAGE)
    assert len(people) == 2
    for person, (left, top, right, bottom, _) in zip(people, boxes, strict=True):
        np.testing.assert_allclose(person.pose[:, 0], (left + right) / 2, atol=1)
        np.testing.assert_allclose(person.pose[:, 1], (top + bottom) / 2, atol=1)
        assert (person.pose[:, 2] <= 1).all()


def test_rtmpose_is_not_run_without_detections(weights: Path):
    write_network(cache_file(weights, "yolox_m_"), (640, 640), [[[[10, 20, 90, 220, 0.1]]]])
    write_network(
        cache_file(weights, "rtmpose-m_simcc-body7"), (192, 256), [np.ones((1, 17, 384)), np.ones((1, 17, 512))]
    )
    assert RtmTeacher("rtmpose-m").people(IMAGE) == []


@pytest.mark.parametrize("name", RTM_TEACHERS)
def test_missing_weights_without_internet_are_reported_in_one_line(
    weights: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail_to_connect(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("rtmlib.tools.file.urlopen", fail_to_connect)
    with pytest.raises(WeightsError, match=rf"weights of {name} \(.*unreachable\); run this once with internet access"):
        RtmTeacher(name)
    assert capsys.readouterr().out == ""


def test_damaged_weights_are_reported_in_one_line(weights: Path):
    cache_file(weights, "rtmo-s_").write_bytes(b"no network")
    with pytest.raises(WeightsError, match="rtmlib cannot download or open the weights of rtmo-s") as error:
        RtmTeacher("rtmo-s")
    assert "\n" not in str(error.value)


def test_missing_rtmlib_is_reported_with_its_install_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    with pytest.raises(LibraryError, match="teacher rtmo-m needs rtmlib; pip install rtmlib"):
        RtmTeacher("rtmo-m")
