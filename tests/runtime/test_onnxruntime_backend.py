"""ONNX Runtime's providers: which may be asked for, with which settings."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from runtime.backends import BackendOptions, open_backend
from runtime.backends.buffers import HostBuffer
from runtime.backends.onnxruntime import OnnxRuntimeBackend, ort_type, provider_list
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError


@pytest.mark.parametrize(
    ("name", "provider", "message"),
    [
        ("tensorflow", "cpu", "unknown backend 'tensorflow'; choose one of: auto, onnxruntime, openvino, tensorrt"),
        ("onnxruntime", "npu", "unknown provider 'npu'; choose one of: cpu, cuda"),
    ],
)
def test_unknown_names_are_refused(edge_bundle: Path, name: str, provider: str, message: str):
    with pytest.raises(BackendError, match=message):
        open_backend(Bundle.open(edge_bundle), BackendOptions(name, provider))


def test_a_gpu_that_is_not_there_is_an_error_not_a_slow_cpu(edge_bundle: Path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BackendError, match=r"provider 'cuda' is missing in this ONNX Runtime .*onnxruntime-gpu"):
        open_backend(Bundle.open(edge_bundle), BackendOptions("onnxruntime", "cuda"))


def test_a_tensorrt_provider_that_is_not_there_names_what_to_install(edge_bundle: Path):
    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has TensorRT")
    message = r"provider 'tensorrt' is missing in this ONNX Runtime .*onnxruntime-gpu and the TensorRT libraries"
    with pytest.raises(BackendError, match=message):
        open_backend(Bundle.open(edge_bundle), BackendOptions("onnxruntime", "tensorrt"))
    assert not (edge_bundle / "engines").exists(), "a refusal leaves nothing behind"


def with_precision(bundle: Bundle, precision: str) -> Bundle:
    return Bundle(bundle.folder, bundle.info.model_copy(update={"precision": precision}))


@pytest.mark.parametrize(("precision", "fp16"), [("fp32", False), ("fp16", True)])
def test_the_tensorrt_provider_may_round_only_what_the_bundle_rounds(
    edge_bundle: Path, tmp_path: Path, precision: str, fp16: bool
):
    copy = Path(shutil.copytree(edge_bundle, tmp_path / "bundle"))
    providers = provider_list(with_precision(Bundle.open(copy), precision), "tensorrt")
    assert [name for name, _ in providers] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    options = providers[0][1]
    assert options["trt_fp16_enable"] is fp16
    # TF32 drops digits too, in what TensorRT leaves to CUDA and in CUDA alone.
    for _, cuda in (providers[1], *provider_list(with_precision(Bundle.open(copy), precision), "cuda")):
        assert cuda == {"use_tf32": 0, "enable_cuda_graph": 0}


def test_the_tensorrt_providers_cache_is_of_one_bundle_only(edge_bundle: Path, tmp_path: Path):
    """Its file names do not tell weights apart: engines of a bundle exported anew must not be found."""
    copy = Path(shutil.copytree(edge_bundle, tmp_path / "bundle"))
    first = Bundle.open(copy)
    graphs = dict(first.info.graphs)
    graphs["query_encoder"] = graphs["query_encoder"].model_copy(update={"sha256": "0" * 64})
    second = Bundle(copy, first.info.model_copy(update={"graphs": graphs}))
    caches = [provider_list(bundle, "tensorrt")[0][1]["trt_engine_cache_path"] for bundle in (first, second)]
    assert caches[0] != caches[1]
    assert all(Path(cache).is_relative_to(copy / "engines") for cache in caches)


def test_a_bundle_that_cannot_be_written_to_has_no_cache(edge_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(edge_bundle, tmp_path / "bundle"))
    (copy / "engines").write_text("a file where the folder would be")
    options = provider_list(Bundle.open(copy), "tensorrt")[0][1]
    assert "trt_engine_cache_enable" not in options
    assert "trt_engine_cache_path" not in options


def test_half_precision_tensors_are_bound_as_such(tmp_path: Path):
    """A bundle's float16 tensors share buffers by name; here each graph is a copy of its input."""
    onnx = pytest.importorskip("onnx")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["query_key"], ["memory_key"])],
            "copy",
            [onnx.helper.make_tensor_value_info("query_key", onnx.TensorProto.FLOAT16, [6, 64])],
            [onnx.helper.make_tensor_value_info("memory_key", onnx.TensorProto.FLOAT16, [6, 64])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {node.type for node in (*session.get_inputs(), *session.get_outputs())} == {ort_type("float16")}
    source, target = (HostBuffer((6, 64), np.dtype("float16")) for _ in range(2))
    binding = session.io_binding()
    binding.bind_input("query_key", "cpu", 0, np.dtype("float16").type, (6, 64), source.address)
    binding.bind_output("memory_key", "cpu", 0, np.dtype("float16").type, (6, 64), target.address)
    source.host[:] = np.random.default_rng(0).random((6, 64))
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(target.host, source.host)
    assert target.host.any()


def test_integers_want_a_processor_that_multiplies_them_exactly(edge_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    opened = Bundle.open(edge_bundle)
    rounded = Bundle(opened.folder, opened.info.model_copy(update={"precision": "int8"}))
    with pytest.raises(BackendError, match="--provider cpu"):
        OnnxRuntimeBackend(rounded, "cuda", 1)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("runtime.machine.has_vnni", lambda: False)
    with pytest.raises(BackendError, match="no VNNI"):
        OnnxRuntimeBackend(rounded, "cpu", 1)
    for told in (True, None):
        monkeypatch.setattr("runtime.machine.has_vnni", lambda told=told: told)
        OnnxRuntimeBackend(rounded, "cpu", 1).close()
