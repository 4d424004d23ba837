"""ONNX Runtime: the CPU, and NVIDIA GPUs through its CUDA and TensorRT providers (the latter not yet run on a GPU).

Every tensor is bound to a fixed address once; a step only runs the three sessions. The memory encoder has one binding
per slot of each camera, whose outputs *are* the slot. So the CUDA provider can capture each binding's work as a CUDA
graph and replay it.
"""

import io
import os
import platform
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from runtime.backends.arena import RESULTS
from runtime.backends.bound import BoundBackend, View
from runtime.backends.buffers import Buffer, CudaBuffer, HostBuffer
from runtime.backends.cuda import use_thread_local_capture
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName, GraphSpec, TensorSpec
from stm_skeletons.engines import FOLDER
from stm_skeletons.errors import BackendError, BundleError, one_line

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_WARNINGS_AND_WORSE = 3
_loading = threading.Lock()


class OnnxRuntimeBackend(BoundBackend):
    """See Backend."""

    def __init__(
        self, bundle: Bundle, provider: str, threads: int | None, cuda_graphs: bool = False, cameras: int = 1
    ) -> None:
        _check_precision(bundle, provider)
        available = onnxruntime.get_available_providers()
        self._device = "cpu" if _checked_provider(provider, available) == "cpu" else "cuda"
        if self._device != "cpu" and bundle.info.batch > 1:
            raise BackendError(
                f"{bundle.folder} has batches of {bundle.info.batch}, which ONNX Runtime supports on the CPU only; use "
                "--backend tensorrt, or export without --batch"
            )
        self._graphs = cuda_graphs
        if self._graphs:
            use_thread_local_capture()
        providers = provider_list(bundle, provider, self._graphs)
        self._sessions = {name: _open_session(bundle, name, provider, providers, threads) for name in GRAPH_NAMES}
        super().__init__(bundle.info, cameras)
        self._bindings = {
            name: [self._bind(name, views) for views in bindings] for name, bindings in self._all_bindings().items()
        }
        numbers = range(max(map(len, self._bindings.values())))
        self._run_options = [_run_options(number) if self._graphs else None for number in numbers]
        if self._graphs:
            self._record()

    def detect(self, valid: Mapping[int, tuple[bool, ...]]) -> None:
        if self._graphs:
            use_thread_local_capture()  # needed per thread, and this thread may differ from the one that opened it
        super().detect(valid)

    def close(self) -> None:
        # Bindings hold the buffers' addresses, so release them first.
        self._bindings.clear()
        self._sessions.clear()
        super().close()

    def _buffer(self, spec: TensorSpec) -> Buffer:
        kind = HostBuffer if self._device == "cpu" else CudaBuffer
        return kind(spec.shape, np.dtype(spec.dtype))

    def _results_buffer(self, size: int) -> Buffer:
        # Tensors that only the host reads are bound to host memory: ONNX Runtime copies them there after each run, into
        # the same array. After a CUDA graph replay it does not, so they are downloaded from the device.
        kind = CudaBuffer if self._graphs else HostBuffer
        return kind((size,), np.dtype("uint8"))

    def _bind(self, name: GraphName, views: dict[str, View]) -> Any:
        binding, graph = self._sessions[name].io_binding(), self._info.graphs[name]
        for bind, specs in ((binding.bind_input, graph.inputs), (binding.bind_output, graph.outputs)):
            for spec in specs:
                device = "cpu" if spec.name in RESULTS and not self._graphs else self._device
                bind(spec.name, device, 0, np.dtype(spec.dtype).type, spec.shape, views[spec.name].address)
        return binding

    def _record(self) -> None:
        """Run everything once, which is slow and allocates: ONNX Runtime then captures the CUDA graphs."""
        for name in GRAPH_NAMES:
            for number in range(len(self._bindings[name])):
                self._run(name, number)
        for camera in self._cameras:
            for name in ("memory_keys", "memory_values"):
                camera[name].upload()  # a bank starts with zeros

    def _run(self, name: GraphName, number: int) -> None:
        try:
            self._sessions[name].run_with_iobinding(self._bindings[name][number], self._run_options[number])
        except Exception as error:  # ONNX Runtime raises types it does not export
            raise BackendError(f"ONNX Runtime failed in {name}: {one_line(error)}") from error


def _check_precision(bundle: Bundle, provider: str) -> None:
    """Raise BackendError for bf16, and for INT8 where integer products are inexact: without VNNI, x86 saturates at 16
    bits."""
    if bundle.info.precision == "bf16":
        raise BackendError(
            f"{bundle.folder} has precision bf16, which ONNX Runtime does not support; use --backend openvino"
        )
    if bundle.info.precision != "int8":
        return
    if provider != "cpu":
        raise BackendError(f"{bundle.folder} is INT8, which is for CPUs; use --provider cpu, or export in fp16")
    from runtime.machine import has_vnni  # imported here, because most bundles do not need it

    if platform.machine() == "x86_64" and has_vnni() is False:
        raise BackendError(
            f"{bundle.folder} is INT8, but this processor has no VNNI instructions, so results would be wrong; export "
            "with --precision fp32"
        )


def _checked_provider(provider: str, available: list[str]) -> str:
    if provider not in PROVIDERS:
        raise BackendError(f"unknown provider '{provider}'; choose one of: {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in available:
        libraries = " and the TensorRT libraries it was built for" if provider == "tensorrt" else ""
        raise BackendError(
            f"provider '{provider}' is missing in this ONNX Runtime ({', '.join(available)}); replace onnxruntime by "
            f"onnxruntime-gpu{libraries}, or use --provider cpu"
        )
    return provider


def _run_options(number: int) -> onnxruntime.RunOptions:
    """Run options of the binding with this number. Each has its own CUDA graph, because addresses are part of it."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number + 1))
    return options


def _open_session(
    bundle: Bundle, name: GraphName, provider: str, providers: list[tuple[str, dict[str, Any]]], threads: int | None
) -> onnxruntime.InferenceSession:
    if provider != "cpu":
        _load_cuda()
    try:
        session = onnxruntime.InferenceSession(bundle.graph_file(name), session_options(threads), providers=providers)
    except Exception as error:  # ONNX Runtime raises types it does not export
        raise BackendError(f"ONNX Runtime cannot load {bundle.graph_file(name)}: {one_line(error)}") from error
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise BackendError(f"ONNX Runtime could not start its {provider} provider; run 'stm-skeletons doctor'")
    session.disable_fallback()
    _check_tensors(bundle, bundle.info.graphs[name], session)
    return session


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """Return the options of every session; ``threads`` per operator, all cores by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _WARNINGS_AND_WORSE
    # Three sessions run in turn: idle threads of one must not occupy cores that the next one needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def provider_list(bundle: Bundle, provider: str, cuda_graphs: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return ONNX Runtime's providers with their options for one of PROVIDERS, in order of preference.

    TensorRT runs the parts of a graph it supports and leaves the rest to CUDA. ``cuda_graphs`` needs plain CUDA, which
    captures whole graphs.
    """
    # No TF32, as in TensorRT engines.
    cuda = (PROVIDERS["cuda"], {"use_tf32": 0, "enable_cuda_graph": int(cuda_graphs)})
    if provider != "tensorrt":
        return [cuda if provider == "cuda" else (PROVIDERS[provider], {})]
    options: dict[str, Any] = {"trt_fp16_enable": bundle.info.precision == "fp16"}
    if cache := _engine_cache(bundle):
        options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
    return [(PROVIDERS["tensorrt"], options), cuda]


def _load_cuda() -> None:
    """Load CUDA and cuDNN from NVIDIA's PyPI packages, which the system's loader does not search."""
    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload is not None:
        # It prints missing libraries, and standard output may carry the results; the provider reports the failure.
        with _loading, redirect_stdout(io.StringIO()):
            preload()


def _engine_cache(bundle: Bundle) -> Path | None:
    """Folder in which the TensorRT provider caches its engines; None if not writable, so each start rebuilds them.

    Its file names depend on a graph's structure but not on its weights, so each bundle gets its own folder.
    """
    graphs = "-".join(bundle.info.graphs[name].sha256[:8] for name in GRAPH_NAMES)
    cache = bundle.folder / FOLDER / f"onnxruntime-{onnxruntime.__version__}-{graphs}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return cache if os.access(cache, os.W_OK) else None


def _check_tensors(bundle: Bundle, graph: GraphSpec, session: onnxruntime.InferenceSession) -> None:
    for kind, specs, nodes in (
        ("input", graph.inputs, session.get_inputs()),
        ("output", graph.outputs, session.get_outputs()),
    ):
        listed = {spec.name: (ort_type(spec.dtype), list(spec.shape)) for spec in specs}
        found = {node.name: (node.type, list(node.shape)) for node in nodes}
        for name in sorted(listed.keys() | found.keys()):
            if listed.get(name) != found.get(name):
                has = f"has {kind} {name} as {found[name]}" if name in found else f"has no {kind} {name}"
                expected = f"lists it as {listed[name]}" if name in listed else "does not list it"
                raise BundleError(
                    f"{bundle.folder / graph.file} {has}, but bundle.json {expected}; export the bundle again"
                )


def ort_type(dtype: str) -> str:
    """Return ONNX Runtime's name of a bundle's dtype."""
    return f"tensor({'float' if dtype == 'float32' else dtype})"
