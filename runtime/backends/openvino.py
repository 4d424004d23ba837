"""OpenVINO: x86 and ARM CPUs. Runs the same graphs as ONNX Runtime on the same arrays.

Each binding has its own infer request, so nothing is rebound: the memory encoder writes each slot in place. Compiled
models are cached in the user's cache folder; a start with a cached model takes a fraction of a second.

FP32 bundles run in FP32 even on processors with units for lower precisions, which OpenVINO would otherwise use
silently. In bf16 bundles only the larger convolutions have bf16 inputs and outputs; they accumulate in FP32. Memory,
attention, mixing, peaks and scores stay FP32.
"""

import importlib
import math
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.bound import BoundBackend, View
from runtime.backends.buffers import Buffer, HostBuffer
from runtime.machine import has_bf16
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName, TensorSpec
from stm_skeletons.errors import BackendError, BundleError, one_line

_compiling = threading.Lock()
"""OpenVINO changes the process's locale while it reads a model, then restores it; two reads at once may corrupt it."""
_FEWEST_PRODUCTS = 48
"""Fewest products per sum of a convolution in bf16. Smaller ones, above all depthwise, lose most: with all of them in
bf16 ``edge`` finds 5% fewer keypoints, without them 1%."""


class OpenVinoBackend(BoundBackend):
    """See Backend."""

    def __init__(self, bundle: Bundle, threads: int | None, cameras: int = 1) -> None:
        _check_precision(bundle)
        self._module = import_openvino()
        core = self._module.Core()
        self._compiled: dict[GraphName, Any] = {name: _compile(core, bundle, name, threads) for name in GRAPH_NAMES}
        super().__init__(bundle.info, cameras)
        self._requests = {
            name: [self._request(name, views) for views in bindings] for name, bindings in self._all_bindings().items()
        }

    def close(self) -> None:
        # Requests hold the arrays, so release them first.
        self._requests.clear()
        self._compiled.clear()
        super().close()

    def _buffer(self, spec: TensorSpec) -> Buffer:
        return HostBuffer(spec.shape, np.dtype(spec.dtype))

    def _results_buffer(self, size: int) -> Buffer:
        return HostBuffer((size,), np.dtype("uint8"))

    def _request(self, name: GraphName, views: dict[str, View]) -> Any:
        request = self._compiled[name].create_infer_request()
        for spec in (*self._info.graphs[name].inputs, *self._info.graphs[name].outputs):
            request.set_tensor(spec.name, self._module.Tensor(views[spec.name].host, shared_memory=True))
        return request

    def _run(self, name: GraphName, number: int) -> None:
        try:
            self._requests[name][number].infer()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed in {name}: {one_line(error)}") from error


def import_openvino() -> Any:
    """Import OpenVINO with its telemetry disabled. Raises BackendError."""
    # Must precede the first import: without this package OpenVINO sends nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError) as error:
        raise BackendError(
            f"OpenVINO is not installed or does not load ({one_line(error)}); pip install 'stm-skeletons[openvino]'"
        ) from error


def _check_precision(bundle: Bundle) -> None:
    if bundle.info.precision == "fp16":
        raise BackendError(
            f"{bundle.folder} is FP16, which is for GPUs; for a CPU, export with --precision fp32, bf16 or int8"
        )
    if bundle.info.precision == "bf16" and not has_bf16():
        raise BackendError(
            f"{bundle.folder} has precision bf16, but this processor has no bf16 units; export with --precision fp32"
        )


def cache_folder() -> Path:
    """Return the folder of cached compiled models."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "stm-skeletons" / "openvino"


def compile_options(threads: int | None) -> dict[str, Any]:
    """Return the options of every model except the cache: one frame at a time, FP32, all cores by default."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        # Pinned threads of two sessions would share cores, and stay there even if other programs use them.
        "ENABLE_CPU_PINNING": False,
        **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
    }


def _compile(core: Any, bundle: Bundle, name: GraphName, threads: int | None) -> Any:
    file = bundle.graph_file(name)
    options = compile_options(threads) | {"CACHE_DIR": str(cache_folder())}
    try:
        with _compiling:
            model = _in_bf16(core.read_model(str(file))) if bundle.info.precision == "bf16" else str(file)
            compiled = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO cannot load {file}: {one_line(error)}") from error
    graph = bundle.info.graphs[name]
    ports = (*compiled.inputs, *compiled.outputs)
    found = {own: (port.element_type.to_dtype().name, tuple(port.shape)) for port in ports for own in port.names}
    for spec in (*graph.inputs, *graph.outputs):
        if found.get(spec.name) != (spec.dtype, spec.shape):
            has = found.get(spec.name, "missing")
            raise BundleError(f"{file}: {spec.name} is {has}, bundle.json lists {spec}; export the bundle again")
    return compiled


def _in_bf16(model: Any) -> Any:
    """Convert a model's larger convolutions to bf16, in place."""
    convert = importlib.import_module("openvino.opset13").convert
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Convolution":  # depthwise has its own type
            continue
        if math.prod(operation.input(1).get_shape()[1:]) >= _FEWEST_PRODUCTS:
            users = list(operation.output(0).get_target_inputs())
            for operand in operation.inputs():
                operand.replace_source_output(convert(operand.get_source_output(), "bf16").output(0))
            operation.validate_and_infer_types()
            wide = convert(operation.output(0), "f32").output(0)
            for user in users:
                user.replace_source_output(wide)
    model.validate_nodes_and_infer_types()
    return model
