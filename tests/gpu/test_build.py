"""``build --target native`` with each version of the stand-in for TensorRT, or with the TensorRT of a real GPU.

Every build runs the command in its own process, because a process has only one version.
"""

import gc
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.engines.build import build_engines
from runtime.tensorrt_module import shared_logger
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.engines import EngineSet, open_engines
from stm_skeletons.errors import ExportError
from stm_skeletons.files import sha256

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "standin"
VERSIONS = ("8.6.1", "10.3.0", "11.1")
# Load the simulated driver before pycuda looks for the real one.
COMMAND = """
import ctypes, os, sys
if driver := os.environ.get("SIMULATED_DRIVER"):
    ctypes.CDLL(driver, ctypes.RTLD_GLOBAL)
from stm_skeletons.cli import main
main()
"""
SAYS = "stm-skeletons: "
FP32_LAYERS = re.compile(r"(\w+): (\d+) of (\d+) layers stay FP32")
Build = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, gpu) -> str:
    if not gpu.simulated and request.param != VERSIONS[0]:
        pytest.skip("a real GPU has one TensorRT")
    return request.param


@pytest.fixture
def build(gpu, version: str) -> Build:
    """Runs ``stm-skeletons build``; ``changes`` to the environment by keyword."""

    def run(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **changes}
        if gpu.simulated:
            environment |= {
                "STANDIN_TENSORRT_VERSION": version,
                "SIMULATED_DRIVER": str(gpu.library),
                "PYTHONPATH": os.pathsep.join([str(STAND_IN), *gpu.python_path]),
                "NULLGPU_DEVICE": "orin",
            }
            environment |= changes
        command = [sys.executable, "-c", COMMAND, "build", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, cwd=ROOT)

    return run


def sidecar(bundle: Path) -> EngineSet:
    return open_engines(Bundle.open(bundle), bundle / "engines" / "native").info


@pytest.fixture
def edge_copy(edge_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(edge_bundle, tmp_path / "edge", ignore=shutil.ignore_patterns("engines")))


def test_native_engines_are_built_and_described(gpu, build: Build, version: str, edge_copy: Path):
    result = build(edge_copy, "--target", "native", "--workspace-mb", "100")
    assert result.returncode == 0, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last == f"{SAYS}wrote {edge_copy / 'engines' / 'native'} (engines built but not run)"
    info = sidecar(edge_copy)
    assert (info.package, info.target, info.precision, info.workspace_mb) == ("tensorrt", "native", "fp32", 100)
    assert info.device
    assert info.cuda_version
    for spec in info.engines.values():
        assert spec.layers_after
        assert spec.activation_bytes
    if gpu.simulated:
        assert info.tensorrt_version == version
        assert info.compute_capability == "sm87"
        flags = {"8.6.1": ("EXPLICIT_BATCH",), "10.3.0": ("EXPLICIT_BATCH", "STRONGLY_TYPED")}
        assert info.flags == (*flags.get(version, ("STRONGLY_TYPED",)), "no TF32")


def test_fp16_types_come_from_the_graph_where_supported(
    gpu, build: Build, version: str, fp16_bundle: Bundle, tmp_path: Path
):
    """TensorRT 8.6 needs flags for FP16, which 10 and 11 reject in a strongly typed network."""
    copy = Path(shutil.copytree(fp16_bundle.folder, tmp_path / "fp16", ignore=shutil.ignore_patterns("engines")))
    result = build(copy, "--target", "native")
    assert result.returncode == 0, result.stderr
    info = open_engines(Bundle.open(copy), copy / "engines" / "native").info
    assert info.precision == "fp16"
    if gpu.simulated:
        assert ("FP16" in info.flags) == ("OBEY_PRECISION_CONSTRAINTS" in info.flags) == version.startswith("8.")
        assert ("STRONGLY_TYPED" in info.flags) != version.startswith("8.")


def outputs(graph: bytes) -> list[np.ndarray]:
    """Return the outputs of a graph for random inputs."""
    random = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    feeds: dict[str, Any] = {}
    for node in session.get_inputs():
        values = random.integers(0, 256, node.shape) if node.type == "tensor(uint8)" else random.random(node.shape)
        feeds[node.name] = values.astype(types[node.type])
    return [np.asarray(found) for found in session.run(None, feeds)]


def graph_in(engine: Path) -> bytes:
    """Return the graph in a stand-in's engine; it follows two lines of text."""
    return engine.read_bytes().split(b"\n", 2)[2]


@pytest.mark.parametrize("version", ["8.6.1"], indirect=True)
def test_fp32_layers_of_the_graph_stay_fp32_where_types_are_hints(
    gpu, build: Build, fp16_bundle: Bundle, tmp_path: Path
):
    """The stand-in rounds all unconstrained layers, such as comparisons and peak searches."""
    if not gpu.simulated:
        pytest.skip("needs the graph in the engine, which a real GPU does not show")
    result = build(fp16_bundle.folder, "--target", "native", "--engines", tmp_path)
    assert result.returncode == 0, result.stderr
    fp32_layers = {name: (int(count), int(layers)) for name, count, layers in FP32_LAYERS.findall(result.stderr)}
    assert fp32_layers.keys() == set(GRAPH_NAMES)
    for name in GRAPH_NAMES:
        assert 0 < fp32_layers[name][0] < fp32_layers[name][1], "the other layers may be FP16"
        wanted, found = (
            outputs(fp16_bundle.graph_file(name).read_bytes()),
            outputs(graph_in(tmp_path / "native" / f"{name}.engine")),
        )
        for one, other in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("version", ["8.6.1"], indirect=True)
def test_graph_without_layers_for_fp16_is_reported(build: Build, edge_copy: Path):
    description = json.loads((edge_copy / "bundle.json").read_text())
    (edge_copy / "bundle.json").write_text(json.dumps(description | {"precision": "fp16"}))
    result = build(edge_copy, "--target", "native")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("so FP16 is not used; export the bundle again") == len(GRAPH_NAMES)


def test_weights_stored_in_fp16_reach_tensorrt_as_initializers(gpu, build: Build, tmp_path: Path):
    """Nearly all convolutions of the shipped bundle read weights from a cast, which 8.6 rejects or computes slowly."""
    result = build("edge", "--target", "native", "--engines", tmp_path)
    assert result.returncode == 0, result.stderr
    if gpu.simulated:
        engine = tmp_path / "native" / "query_encoder.engine"
        graph = onnx.load_model_from_string(graph_in(engine)).graph
        weights = {tensor.name for tensor in graph.initializer}
        assert all(weights.issuperset(node.input[1:]) for node in graph.node if node.op_type in ("Conv", "Gemm"))
        stored = Bundle.open("edge").graph_file("query_encoder").read_bytes()
        for one, other in zip(outputs(stored), outputs(graph_in(engine)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_engine_is_inspected_after_the_builder_is_released(gpu, fp32_bundle: Bundle, tmp_path: Path, monkeypatch):
    """A board with 8 GB may not have enough memory for both."""
    if not gpu.simulated:
        pytest.skip("the real library's objects cannot be seen")
    tensorrt: Any = importlib.import_module("tensorrt")
    builder_types = (tensorrt.Builder, tensorrt.INetworkDefinition, tensorrt.OnnxParser, tensorrt.IBuilderConfig)
    load, alive, plans, copied = tensorrt.Runtime.deserialize_cuda_engine, [], [], []

    def inspect(runtime: Any, serialized_engine: Any) -> Any:
        objects = gc.get_objects()
        alive.extend(type(thing).__name__ for thing in objects if issubclass(type(thing), builder_types))
        plans.append(sum(type(thing) is tensorrt.IHostMemory for thing in objects))
        copied.append(type(memoryview(serialized_engine).obj) is not tensorrt.IHostMemory)
        del objects
        return load(runtime, serialized_engine)

    monkeypatch.setattr(tensorrt.Runtime, "deserialize_cuda_engine", inspect)
    build_engines(fp32_bundle, "native", tmp_path)
    assert alive == []
    assert plans == [1] * len(GRAPH_NAMES), "one engine at a time"
    assert not any(copied)


def test_second_build_of_a_process_reports_its_own_error(gpu, fp32_bundle: Bundle, tmp_path: Path, monkeypatch):
    """TensorRT sends all messages to the first logger of the process: here the logger of a running session."""
    if not gpu.simulated:
        pytest.skip("the real library cannot be made to fail")
    tensorrt, builder = (importlib.import_module(name) for name in ("tensorrt", "tensorrt.builder"))
    _running = tensorrt.Runtime(shared_logger("tensorrt"))
    for reason in ("the first reason", "the second reason"):
        monkeypatch.setattr(builder, "_mistake", lambda *_arguments, reason=reason: reason)
        with pytest.raises(ExportError, match=f"TensorRT cannot build it: .*{reason}"):
            build_engines(fp32_bundle, "native", tmp_path)


def test_timing_cache_is_created_reused_and_replaced_if_foreign(build: Build, edge_copy: Path, tmp_path: Path):
    cache = tmp_path / "timing.cache"
    foreign = "the timing cache belongs to another TensorRT or GPU"
    first = build(edge_copy, "--target", "native", "--timing-cache", cache)
    assert first.returncode == 0
    assert foreign not in first.stderr
    size = cache.stat().st_size
    assert size > 0
    again = build(edge_copy, "--target", "native", "--timing-cache", cache)
    assert again.returncode == 0
    assert foreign not in again.stderr, "the cache fits"
    assert cache.stat().st_size >= size
    cache.write_bytes(b"not a cache")
    other = build(edge_copy, "--target", "native", "--timing-cache", cache)
    assert other.returncode == 0
    assert other.stderr.count(foreign) == 1
    assert cache.stat().st_size > len(b"not a cache"), "a new cache is written"


def test_unsupported_operator_is_named_in_every_version(build: Build, edge_copy: Path):
    nodes = [
        helper.make_node("Cast", ["frame"], ["full"], "/cast", to=TensorProto.FLOAT),
        helper.make_node("Unique", ["full"], ["query_key"], "/odd/one"),
    ]
    inputs = [helper.make_tensor_value_info("frame", TensorProto.UINT8, [96, 160, 3])]
    outputs = [helper.make_tensor_value_info("query_key", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "odd", inputs, outputs)
    file = edge_copy / "read_decoder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    description = json.loads((edge_copy / "bundle.json").read_text())
    description["graphs"]["read_decoder"]["sha256"] = sha256(file)
    (edge_copy / "bundle.json").write_text(json.dumps(description))
    result = build(edge_copy, "--target", "native")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "node /odd/one (Unique)" in result.stderr
    assert "lacks this operator" in result.stderr
    assert not (edge_copy / "engines").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"SIMULATED_DRIVER": ""}, "GPU: no NVIDIA driver"), ({"PYTHONPATH": ""}, "tensorrt is not installed")],
    ids=["driver", "tensorrt"],
)
def test_missing_driver_or_tensorrt_is_named(gpu, build: Build, edge_copy: Path, change: dict[str, str], message: str):
    if not gpu.simulated:
        pytest.skip("needs the simulated driver, which can be removed")
    if "PYTHONPATH" in change:
        change = {"PYTHONPATH": os.pathsep.join(gpu.python_path)}
    result = build(edge_copy, "--target", "native", **change)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert message in result.stderr
