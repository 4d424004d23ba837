"""ONNX Runtime's providers and their settings."""

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
def test_unknown_backends_and_providers_are_refused(edge_bundle: Path, name: str, provider: str, message: str):
    with pytest.raises(BackendError, match=message):
        open_backend(Bundle.open(edge_bundle), BackendOptions(name, provider))


def test_missing_cuda_provider_is_refused(edge_bundle: Path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BackendError, match=r"provider 'cuda' is missing in this ONNX Runtime .*onnxruntime-gpu"):
        open_backend(Bundle.open(edge_bundle), BackendOptions("onnxruntime", "cuda"))


def test_missing_tensorrt_provider_names_the_packages_to_install(edge_bundle: Path):
    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has TensorRT")
    message = r"provider 'tensorrt' is missing in this ONNX Runtime .*onnxruntime-gpu and the TensorRT libraries"
    with pytest.raises(BackendError, match=message):
        open_backend(Bundle.open(edge_bundle), BackendOptions("onnxruntime", "tensorrt"))
    assert not (edge_bundle / "engines").exists(), "a refusal leaves nothing behind"


def with_precision(bundle: Bundle, precision: str) -> Bundle:
    return Bundle(bundle.folder, bundle.info.model_copy(update={"precision": precision}))


@pytest.mark.parametrize(("precision", "fp16"), [("fp32", False), ("fp16", True)])
def test_tensorrt_provider_uses_fp16_only_for_fp16_bundles(
    edge_bundle: Path, tmp_path: Path, precision: str, fp16: bool
):
    copy = Path(shutil.copytree(edge_bundle, tmp_path / "bundle"))
    providers = provider_list(with_precision(Bundle.open(copy), precision), "tensorrt")
    assert [name for name, _ in providers] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    options = providers[0][1]
    assert options["trt_fp16_enable"] is fp16
    # TF32 drops digits too, in nodes that TensorRT leaves to CUDA and in CUDA alone.
    for _, cuda in (providers[1], *provider_list(with_precision(Bundle.open(copy), precision), "cuda")):
        assert cuda == {"use_tf32": 0, "enable_cuda_graph": 0}


def test_tensorrt_provider_has_a_cache_for_each_export(edge_bundle: Path, tmp_path: Path):
    """Its file names do not depend on weights: a bundle exported again must not find old engines."""
    copy = Path(shutil.copytree(edge_bundle, tmp_path / "bundle"))
    first = Bundle.open(copy)
    graphs = dict(first.info.graphs)
    graphs["query_encoder"] = graphs["query_encoder"].model_copy(update={"sha256": "0" * 64})
    second = Bundle(copy, first.info.model_copy(update={"graphs": graphs}))
    caches = [provider_list(bundle, "tensorrt")[0][1]["trt_engine_cache_path"] for bundle in (first, second)]
    assert caches[0] != caches[1]
    assert all(Path(cache).is_relative_to(copy / "engines") for cache in caches)


def test_unwritable_bundle_has_no_cache(edge_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(edge_bundle, tmp_path / "bundle"))
    (copy / "engines").write_text("a file where the folder would be")
    options = provider_list(Bundle.open(copy), "tensorrt")[0][1]
    assert "trt_engine_cache_enable" not in options
    assert "trt_engine_cache_path" not in options


def test_fp16_tensors_are_bound_as_fp16(tmp_path: Path):
    """A bundle's float16 tensors share buffers by name; this graph copies its input."""
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


def test_int8_needs_the_cpu_provider_and_vnni(edge_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    opened = Bundle.open(edge_bundle)
    int8_bundle = Bundle(opened.folder, opened.info.model_copy(update={"precision": "int8"}))
    with pytest.raises(BackendError, match="--provider cpu"):
        OnnxRuntimeBackend(int8_bundle, "cuda", 1)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("runtime.machine.has_vnni", lambda: False)
    with pytest.raises(BackendError, match="no VNNI"):
        OnnxRuntimeBackend(int8_bundle, "cpu", 1)
    for vnni in (True, None):
        monkeypatch.setattr("runtime.machine.has_vnni", lambda vnni=vnni: vnni)
        OnnxRuntimeBackend(int8_bundle, "cpu", 1).close()
