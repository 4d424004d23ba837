"""The stand-in for TensorRT has the names of the version that it imitates, and the signatures of tensorrt-stubs."""

import ast
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu
HERE = Path(__file__).parent
API: dict[str, dict[str, list[str]]] = json.loads((HERE / "tensorrt-python-api.json").read_text(encoding="utf-8"))
UNLISTED = {"ILogger": {"10.3.0", "11.1"}, "IProgressMonitor": set(API), "LayerType": set(API)}
"""Classes that these versions have but the API file does not list."""

_NAMES = """
import ctypes, json, sys, inspect
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
sys.path.insert(0, sys.argv[2])
import tensorrt
found = {}
for name in dir(tensorrt):
    value = getattr(tensorrt, name)
    if inspect.isclass(value) and not name.startswith("_"):
        members = {
            member
            for base in value.__mro__
            if base.__module__.startswith("tensorrt")
            for member in vars(base)
            if not member.startswith("_")
        }
        found[name] = sorted(members)
print(json.dumps(found))
"""
_ENUMERATION = {"name", "value"}


@pytest.fixture
def library(gpu) -> Path:
    if not gpu.simulated:
        pytest.skip("the real TensorRT is here")
    return gpu.library


@pytest.mark.parametrize("version", API)
def test_has_only_names_of_the_version(library: Path, version: str):
    environment = {**os.environ, "STANDIN_TENSORRT_VERSION": version}
    command = [sys.executable, "-c", _NAMES, str(library), str(HERE / "standin")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, list[str]] = json.loads(result.stdout)
    logger = set(found["ILogger"])
    for name, members in found.items():
        if name in API[version]:
            inherited = logger if name == "Logger" else set()
            assert set(members) <= set(API[version][name]) | _ENUMERATION | inherited, name
        else:
            assert version in UNLISTED.get(name, set()), f"TensorRT {version} has no {name}"
    assert ("IProgressMonitor" in found) == ("ExecutionContextAllocationStrategy" in found) == (version != "8.6.1")
    assert ("device_memory_size" in found["ICudaEngine"]) == (version != "11.1")


def stub_text() -> str:
    spec = importlib.util.find_spec("tensorrt_stubs")
    if spec is None or spec.origin is None:
        reason = "needs tensorrt-stubs: pip install --no-deps tensorrt-stubs"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return (Path(spec.origin).parents[1] / "tensorrt_bindings" / "tensorrt.pyi").read_text(encoding="utf-8")


def stub_signatures(text: str) -> dict[str, dict[str, list[list[str]]]]:
    """Class -> method -> parameter names of each overload. Only single lines of the file are valid Python."""
    found: dict[str, dict[str, list[list[str]]]] = {}
    for block in re.split(r"(?m)^(?=class )", text):
        header = re.match(r"class (\w+)", block)
        methods = found.setdefault(header[1] if header else "", {})
        for line in re.findall(r"(?m)^    (def .*:)$", block):
            try:
                function = ast.parse(f"{line} ...").body[0]
            except SyntaxError:
                continue
            assert isinstance(function, ast.FunctionDef)
            methods.setdefault(function.name, []).append([argument.arg for argument in function.args.args])
    return found


def methods_of(module: Any) -> list[tuple[str, str, list[str]]]:
    """(class, method, parameter names) of the stand-in."""
    return [
        (name, method, list(inspect.signature(function).parameters))
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__.startswith("tensorrt")
        for method, function in vars(value).items()
        if inspect.isfunction(function) and not method.startswith("_")
    ]


def test_methods_have_the_signatures_of_the_stubs(library: Path):
    stubs = stub_signatures(stub_text())
    methods = methods_of(importlib.import_module("tensorrt"))
    assert len(methods) > 40
    for name, method, parameters in methods:
        overloads = stubs[name].get(method) or stubs["ILogger"].get(method)
        assert overloads is not None, f"the stubs have no {name}.{method}"
        # Parameters that the stand-in lacks are optional.
        assert any(parameters == overload[: len(parameters)] for overload in overloads), (name, method, overloads)


def test_enumerations_have_the_values_of_tensorrt(library: Path):
    text = stub_text()
    tensorrt: Any = importlib.import_module("tensorrt")
    checked = 0
    for name in ("DataType", "TensorIOMode", "BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType"):
        for member in getattr(tensorrt, name):
            assert f"<{name}.{member.name}: {int(member)}>" in text, member
            checked += 1
    assert checked > 20


@pytest.fixture
def plan(fp32_bundle) -> bytes:
    return (fp32_bundle.folder / "engines" / "native" / "memory_encoder.engine").read_bytes()


class Log:
    """Makes a logger that keeps its messages."""

    def __new__(cls) -> Any:
        tensorrt: Any = importlib.import_module("tensorrt")

        class Kept(tensorrt.ILogger):
            def __init__(self) -> None:
                tensorrt.ILogger.__init__(self)
                self.messages: list[str] = []

            def log(self, severity: Any, msg: str) -> None:  # noqa: ARG002
                self.messages.append(msg)

        return Kept()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda plan: b"onnx" + plan, "magicTagRead"),
        (lambda plan: plan[:-1000], "sizeRead"),
        (lambda plan: plan.replace(b'"version": "', b'"version": "9'), "Version tag does not match"),
        (lambda plan: plan.replace(b'"compute_capability": "', b'"compute_capability": "1'), "incompatible device"),
    ],
)
def test_invalid_engines_are_rejected(library: Path, plan: bytes, spoil, message: str):
    tensorrt: Any = importlib.import_module("tensorrt")
    log = Log()
    assert tensorrt.Runtime(log).deserialize_cuda_engine(spoil(plan)) is None
    assert len(log.messages) == 1
    assert message in log.messages[0]


def context_of(plan: bytes, log: Any) -> Any:
    tensorrt: Any = importlib.import_module("tensorrt")
    engine = tensorrt.Runtime(log).deserialize_cuda_engine(plan)
    strategies = getattr(tensorrt, "ExecutionContextAllocationStrategy", None)
    if strategies is None:
        return engine, engine.create_execution_context_without_device_memory()
    return engine, engine.create_execution_context(strategies.USER_MANAGED)


def test_run_without_addresses_or_memory_is_rejected(library: Path, plan: bytes):
    log = Log()
    engine, context = context_of(plan, log)
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert not context.execute_async_v3(0)
    assert f"Address is not set for tensor {names[0]}" in log.messages[-1]
    assert not context.set_tensor_address("nobody", 256)
    assert not context.set_tensor_address(names[0], 100), "the address is not aligned"
    assert all(context.set_tensor_address(name, 256) for name in names)
    assert not context.execute_async_v3(0)
    assert "no device memory" in log.messages[-1]


def test_objects_reject_unknown_attributes(library: Path, plan: bytes):
    engine, context = context_of(plan, Log())
    for thing in (engine, context):
        with pytest.raises(AttributeError, match="no attribute"):
            thing.progress_monitor = None


def test_run_on_invalid_memory_or_released_context_is_reported(gpu, library: Path, plan: bytes):
    """The driver's callbacks cannot raise, so their errors are collected and fail the test."""
    failures = importlib.import_module("tensorrt.device").failures
    log = Log()
    driver: Any = importlib.import_module("pycuda.driver")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    engine, execution = context_of(plan, log)
    for index in range(engine.num_io_tensors):
        execution.set_tensor_address(engine.get_tensor_name(index), 1 << 40)
    size = getattr(engine, "device_memory_size_v2", None) or engine.device_memory_size
    memory = driver.mem_alloc(size)
    if hasattr(execution, "set_device_memory"):
        execution.set_device_memory(int(memory), size)
    else:
        execution.device_memory = int(memory)
    stream = driver.Stream(1)
    assert execution.execute_async_v3(stream.handle)
    stream.synchronize()
    assert len(failures) == 1
    assert "not in one allocation of device memory" in failures[0]
    gpu.schedule("lazy")
    assert execution.execute_async_v3(stream.handle)
    del execution, engine
    stream.synchronize()
    assert "ran after the context had been released" in failures[1]
    failures.clear()
    memory.free()
    del stream
    context.detach()
    gpu.driver.cuCtxPopCurrent_v2(None)
