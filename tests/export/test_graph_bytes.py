"""The graph bytes that TensorRT gets, compared with the onnx package's results."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.engines.graph_bytes import FLOAT, HALF, float_types, with_plain_weights
from export.storage import store_as_fp16
from stm_skeletons.bundle import GRAPH_NAMES, Bundle


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def product(*uses: tuple[str, str]) -> onnx.ModelProto:
    """Return x @ weight with other uses of the weight: pairs of operator and output."""
    weight = np.linspace(-2, 2, 64 * 8).astype(np.float16).astype(np.float32).reshape(64, 8)
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"], "/product")]
    nodes += [helper.make_node(operator, ["weight"], [output], f"/{output}") for operator, output in uses]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])]
    outputs += [helper.make_tensor_value_info(output, TensorProto.FLOAT, [64, 8]) for _, output in uses]
    graph = helper.make_graph(nodes, "product", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_weights_stored_in_fp16_are_restored(tmp_path: Path):
    plain = product(("Neg", "z"))
    onnx.save(plain, tmp_path / "g.onnx")
    store_as_fp16(tmp_path / "g.onnx")
    stored = (tmp_path / "g.onnx").read_bytes()
    assert weights_of(onnx.load_model_from_string(stored))["weight_fp16"].dtype == np.float16
    found = onnx.load_model_from_string(with_plain_weights(stored))
    onnx.checker.check_model(found, full_check=True)
    assert [node.op_type for node in found.graph.node] == ["MatMul", "Neg"]
    assert weights_of(found).keys() == {"weight"}
    np.testing.assert_array_equal(weights_of(found)["weight"], weights_of(plain)["weight"])


def test_weights_also_used_in_fp16_stay_unchanged(tmp_path: Path):
    onnx.save(product(), tmp_path / "g.onnx")
    store_as_fp16(tmp_path / "g.onnx")
    model = onnx.load(tmp_path / "g.onnx")
    model.graph.node.append(helper.make_node("Neg", ["weight_fp16"], ["minus"], "/minus"))
    model.graph.output.append(helper.make_tensor_value_info("minus", TensorProto.FLOAT16, [64, 8]))
    given = model.SerializeToString()
    assert with_plain_weights(given) == given


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_shipped_graphs_compute_the_same_without_weight_casts(name):
    stored = Bundle.open("edge").graph_file(name).read_bytes()
    plain = with_plain_weights(stored)
    graph = onnx.load_model_from_string(plain).graph
    weights = {tensor.name for tensor in graph.initializer}
    assert not [node.name for node in graph.node if node.op_type == "Cast" and node.input[0] in weights]
    sessions = [onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (stored, plain)]
    random = np.random.default_rng(0)
    feeds = {
        node.name: random.integers(0, 2, node.shape).astype(np.uint8 if "uint8" in node.type else np.float32)
        for node in sessions[0].get_inputs()
    }
    for one, other in zip(*(session.run(None, feeds) for session in sessions), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_float_types_equal_those_inferred_by_onnx(name):
    plain = with_plain_weights(Bundle.open("edge").graph_file(name).read_bytes())
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(plain), strict_mode=True).graph
    wanted = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        wanted[info.name] = info.type.tensor_type.elem_type
    assert float_types(plain) == {name: kind for name, kind in wanted.items() if kind in (FLOAT, HALF)}


@pytest.mark.parametrize("model", [b"", b"no graph at all", b"\x3a\x05abc", b"\x38\x01", b"\x3a\x03\x0a\x01\xff"])
def test_bytes_that_are_not_a_graph_are_returned_unchanged(model: bytes):
    assert with_plain_weights(model) == model
