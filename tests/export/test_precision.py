import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graphs import export_graph, trace
from export.precision import (
    SUMMED_AT_ONCE,
    AccumulateInFp16,
    AccumulateInFp32,
    Fp16AccumulationSession,
    HalfPrecision,
    check_types,
    mixed_float_nodes,
    torch_session,
)
from export.synthetic_frames import synthetic_frames
from export.verify import FP16_GRAPH_BOUND, check_finite, extreme_frames, verify_graph
from stm_skeletons.errors import ExportError
from training.model import Edge, ModelConfig, SpaceTimeMemory, build
from training.model.network import read_memory, read_memory_in_heads
from training.model.resnet import FrozenBatchNorm2d
from training.model.session import TorchSession
from training.model.weights import load_weights


@pytest.fixture(params=["edge", pytest.param("resnet", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest) -> SpaceTimeMemory:
    return load_weights(request.getfixturevalue(f"{request.param}_weights"))[0]


def memory(slots: int, tokens: int, key: int, value: int) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, tokens, key, generator=random),
        2 * torch.randn(2, slots, tokens, key, generator=random),
        torch.randn(2, slots, tokens, value, generator=random),
    )


@pytest.mark.parametrize(("key", "value"), [(64, 64), (32, 128), (128, 512), (38, 154)])
@pytest.mark.parametrize("valid", [[1, 1, 1], [1, 0, 1], [0, 0, 0]])
def test_reading_in_heads_equals_the_plain_read(key: int, value: int, valid: list[int]):
    query, keys, values = memory(3, 24, key, value)
    both = torch.tensor([valid, [1, 1, 0]]).float()
    read = read_memory_in_heads(query, keys, values, both)
    torch.testing.assert_close(read, read_memory(query, keys, values, both), atol=1e-5, rtol=1e-5)
    if not any(valid):
        assert torch.equal(read[0], torch.zeros_like(read[0]))


def test_attention_of_fp16_tensors_does_not_overflow():
    """Logits of 60000 and more would be infinite in FP16; only the product's rounding remains."""
    query, keys, values = (tensor.half() for tensor in memory(2, 24, 64, 64))
    valid = torch.ones(2, 2)
    read = read_memory_in_heads(query * 30, keys * 30, values, valid)
    assert read.dtype == torch.float16
    expected = read_memory(query.float() * 30, keys.float() * 30, values.float(), valid)
    assert torch.isfinite(read).all()
    assert (read.float() - expected).abs().median() < 1e-2


def test_products_are_accumulated_in_fp32_and_rounded_once():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 4096, generator=random).half() for _ in range(2))
    image, kernel = (
        torch.randn(1, 256, 8, 8, generator=random).half(),
        torch.randn(8, 256, 3, 3, generator=random).half(),
    )
    with AccumulateInFp32():
        product, convolution = a @ b.T, torch.nn.functional.conv2d(image, kernel)
    assert torch.equal(product, (a.float() @ b.float().T).half())
    assert torch.equal(convolution, torch.nn.functional.conv2d(image.float(), kernel.float()).half())
    with AccumulateInFp32():
        assert (a.float() @ b.float().T).dtype == torch.float32, "FP32 stays unchanged"


def test_fp16_accumulation_loses_terms_small_compared_with_the_sum():
    """2048 + 1 is 2048 in FP16; within one step of a tensor core the ones still add up."""
    ones, step = torch.ones(1, 4096).half(), SUMMED_AT_ONCE
    with AccumulateInFp16():
        assert (ones @ ones.T).item() == 4096, "whole steps are large enough"
        large_first = torch.cat([torch.tensor([2048.0]), torch.zeros(step - 1), torch.ones(1)]).half()[None]
        assert (large_first @ torch.ones_like(large_first).T).item() == 2048
        large_first[0, 1:step] = 1
        assert (large_first @ torch.ones_like(large_first).T).item() == 2048 + 8, "2055 is rounded, 2056 + 1 is lost"
        assert (ones @ (17.0 * ones.T)).isinf(), "69,632 exceeds the range of FP16"
        assert (ones.float() @ ones.T.float()).dtype == torch.float32, "FP32 stays unchanged"


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_convolutions_with_fp16_accumulation_equal_plain_ones(groups: int):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, 9, 7, generator=random).half()
    weight, bias = (
        torch.randn(32, 16 // groups, 3, 3, generator=random).half(),
        torch.randn(32, generator=random).half(),
    )
    geometry = (2, 1, 1, groups)
    expected = torch.nn.functional.conv2d(x.float(), weight.float(), bias.float(), *geometry)
    with AccumulateInFp16():
        found = torch.nn.functional.conv2d(x, weight, bias, *geometry)
        linear = torch.nn.functional.linear(x[0, :, :, 0].T, weight[:, :, 0, 0].repeat(1, groups), bias)
    assert (found.dtype, found.shape) == (torch.float16, expected.shape)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.003)
    plain = x[0, :, :, 0].T.float() @ weight[:, :, 0, 0].repeat(1, groups).T.float() + bias.float()
    torch.testing.assert_close(linear.float(), plain, atol=0.05, rtol=0.003)


def test_weights_beyond_the_range_of_fp16_are_refused():
    model = build(ModelConfig(variant="edge"))
    model.get_parameter("trunk.stem.weight").data[0, 0, 0, 0] = 1e6
    with pytest.raises(ExportError, match=r"trunk\.stem\.weight exceeds the range of FP16"):
        HalfPrecision(model)


def test_normalisation_is_folded_before_rounding():
    """A variance of a million is infinite in FP16 and would make the next layer zero."""
    torch.manual_seed(0)
    model = build(ModelConfig(variant="resnet50", width=0.25)).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_var.fill_(1e6)
            module.running_mean.normal_()
            module.weight.mul_(1e3)
    frame = torch.from_numpy(synthetic_frames(64, 96, 1)[0])[None]
    with torch.no_grad():
        expected, found = model.encode_query(frame), HalfPrecision(model).encode_query(frame)
    assert found.key.dtype == torch.float16
    scale = expected.key.abs().max()
    assert (found.key - expected.key).abs().max() / scale < 0.02
    assert model.get_parameter("decoder.predict.weight").dtype == torch.float32, "the original network stays unchanged"


@pytest.mark.parametrize("variance", [1e6, 1e-8])
@torch.no_grad()
def test_standardisation_is_not_rounded(variance: float):
    """In FP16, a variance of 1e6 would be infinite and one of 1e-8 would be zero."""
    torch.manual_seed(0)
    model = build(ModelConfig(variant="edge")).eval()
    assert isinstance(model, Edge)
    project = model.trunk.blocks[10].get_submodule("project")
    project.get_parameter("weight").mul_(variance**0.5)
    project.get_parameter("bias").mul_(variance**0.5)
    model.standard.get_buffer("running_var").fill_(variance)
    model.standard.get_buffer("running_mean").copy_(variance**0.5 * torch.randn(144))
    frame = torch.from_numpy(synthetic_frames(64, 96, 1)[0])[None]
    expected, found = model.encode_query(frame), HalfPrecision(model).encode_query(frame)
    for name in ("key", "value"):
        wanted, got = getattr(expected, name), getattr(found, name)
        assert got.dtype == torch.float16
        assert (got - wanted).abs().max() / wanted.abs().max() < 0.02


def test_fp16_network_stays_close_to_fp32_with_its_own_memory(edge_weights: Path):
    model, _ = load_weights(edge_weights)
    network = HalfPrecision(model)
    full, half, sums = TorchSession(model, 4, 3), torch_session(network, 4, 3), Fp16AccumulationSession(network, 4, 3)
    for number, frame in enumerate(synthetic_frames(96, 160, 8)):
        full.step(frame)
        half.step(frame)
        if number < 2:
            sums.step(frame)
            errors = [np.abs(each.maps() - full.maps()).mean() for each in (half, sums)]
            assert errors[0] < errors[1] < 10 * errors[0], "FP16 accumulation is coarser but not wrong"
        assert half.maps().dtype == np.float32
        difference = np.abs(half.maps() - full.maps())
        assert 0 < np.median(difference) < 2e-3, number
        # Where two places match about equally, rounding decides which of them is read.
        assert difference.max() < 0.15, number


def test_graphs_have_the_contracts_types_and_do_not_mix_them(model: SpaceTimeMemory, tmp_path: Path):
    half = HalfPrecision(model)
    fp32_tensors = {"memory_valid", "maps", "peaks", "edge_scores", "previous", "centres", "centre_joints"}
    for name, traced in trace(half, 64, 96, 3, 5).items():
        file = tmp_path / f"{name}.onnx"
        export_graph(traced, file)
        check_types(file)
        assert verify_graph(name, traced, file, FP16_GRAPH_BOUND) <= FP16_GRAPH_BOUND
        graph = onnx.load(file).graph
        for tensor in (*graph.input, *graph.output):
            float_type = TensorProto.FLOAT if tensor.name in fp32_tensors else TensorProto.FLOAT16
            wanted = TensorProto.UINT8 if tensor.name == "frame" else float_type
            assert tensor.type.tensor_type.elem_type == wanted, tensor.name
        for tensor in graph.initializer:
            if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
                assert np.isfinite(numpy_helper.to_array(tensor)).all()
        if name == "query_encoder":
            first = next(node for node in graph.node if "frame" in node.input)
            assert first.op_type == "Cast", "TensorRT accepts no other operation on uint8"
        if name == "read_decoder":
            movements = ["GridSample", "AveragePool"] if model.config.variant == "edge" else []
            assert_computed_in_fp32(onnx.load(file), "Softmax", "TopK", "Log", "ReduceMin", *movements)


def assert_computed_in_fp32(model: onnx.ModelProto, *operators: str) -> None:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output, *graph.input)}
    for operator in operators:
        inputs = [node.input[0] for node in graph.node if node.op_type == operator]
        assert inputs, operator
        assert {types[name] for name in inputs} == {TensorProto.FLOAT}, operator


def test_node_with_two_float_types_is_found(tmp_path: Path):
    tensors = [
        helper.make_tensor_value_info(name, kind, [2])
        for name, kind in (("a", TensorProto.FLOAT16), ("b", TensorProto.FLOAT), ("c", TensorProto.FLOAT))
    ]
    # ONNX's type inference accepts different types here, but TensorRT refuses them.
    node = helper.make_node("ScatterElements", ["a", "i", "b"], ["d"], "scatter")
    index = numpy_helper.from_array(np.array([0, 1]), "i")
    output = helper.make_tensor_value_info("d", TensorProto.FLOAT16, [2])
    graph = helper.make_graph([node], "g", tensors, [output], [index])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert mixed_float_nodes(model) == ["ScatterElements scatter (float16, float32)"]
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.raises(ExportError, match="mixes float types in ScatterElements scatter"):
        check_types(tmp_path / "g.onnx")


def test_extreme_frames_stay_finite_and_overflows_are_reported(edge_weights: Path):
    half = HalfPrecision(load_weights(edge_weights)[0])
    check_finite(torch_session(half, 4, 3), 96, 160, "the FP16 network")
    assert set(extreme_frames(96, 160)) == {"black", "white", "noisy", "saturated"}
    half.model.get_parameter("memory_encoder.learnt.bias").data[0] = math.inf
    with pytest.raises(ExportError, match="NaN or infinite values on a black frame"):
        check_finite(torch_session(half, 4, 3), 96, 160, "the FP16 network")
