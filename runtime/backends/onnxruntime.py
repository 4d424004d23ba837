"""ONNX Runtime: the CPU, and NVIDIA GPUs through its CUDA and TensorRT providers (the latter not yet run on a GPU).

Every tensor is bound to a fixed address once; a step only runs the three sessions. The memory encoder has one binding
for each slot of each camera, whose outputs *are* the slot. So the CUDA provider can record what a binding does, and
replay it.
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
                f"{bundle.folder} takes batches of {bundle.info.batch}, which ONNX Runtime takes on the CPU only: use "
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
            use_thread_local_capture()  # this may be another thread than the one that opened the session
        super().detect(valid)

    def close(self) -> None:
        # Bindings hold addresses of the buffers, so they go first.
        self._bindings.clear()
        self._sessions.clear()
        super().close()

    def _buffer(self, spec: TensorSpec) -> Buffer:
        kind = HostBuffer if self._device == "cpu" else CudaBuffer
        return kind(spec.shape, np.dtype(spec.dtype))

    def _results_buffer(self, size: int) -> Buffer:
        # What only the host reads is bound to host memory: ONNX Runtime then copies it there at the end of a run, into
        # the same array each time. At the end of a replay it does not: then it is fetched from the device.
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
        """Run everything once, which takes long and allocates: ONNX Runtime records it then."""
        for name in GRAPH_NAMES:
            for number in range(len(self._bindings[name])):
                self._run(name, number)
        for camera in self._cameras:
            for name in ("memory_keys", "memory_values"):
                camera[name].upload()  # the zeros that a bank begins with

    def _run(self, name: GraphName, number: int) -> None:
        try:
            self._sessions[name].run_with_iobinding(self._bindings[name][number], self._run_options[number])
        except Exception as error:  # ONNX Runtime raises types that it does not export
            raise BackendError(f"ONNX Runtime failed in {name}: {one_line(error)}") from error


def _check_precision(bundle: Bundle, provider: str) -> None:
    """Raise BackendError for bf16, and where integers are not multiplied exactly: without VNNI, x86 saturates at 16
    bits."""
    if bundle.info.precision == "bf16":
        raise BackendError(
            f"{bundle.folder} is in bf16, which ONNX Runtime does not compute in: use --backend openvino"
        )
    if bundle.info.precision != "int8":
        return
    if provider != "cpu":
        raise BackendError(f"{bundle.folder} is in INT8 for CPUs: use --provider cpu, or export with --precision fp16")
    from runtime.machine import has_vnni  # only here: most bundles never ask

    if platform.machine() == "x86_64" and has_vnni() is False:
        raise BackendError(
            f"{bundle.folder} is in INT8, but this processor has no VNNI instructions: results would be wrong; export "
            "with --precision fp32"
        )


def _checked_provider(provider: str, available: list[str]) -> str:
    if provider not in PROVIDERS:
        raise BackendError(f"unknown provider '{provider}'; choose one of: {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in available:
        libraries = " and the TensorRT libraries it was built for" if provider == "tensorrt" else ""
        raise BackendError(
            f"provider '{provider}' is not in this ONNX Runtime ({', '.join(available)}); "
            f"install onnxruntime-gpu in place of onnxruntime{libraries}, or use --provider cpu"
        )
    return provider


def _run_options(number: int) -> onnxruntime.RunOptions:
    """Of a session's binding with this number. Each has a recording of its own, since addresses are part of it."""
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
    except Exception as error:  # ONNX Runtime raises types that it does not export
        raise BackendError(f"ONNX Runtime cannot load {bundle.graph_file(name)}: {one_line(error)}") from error
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise BackendError(f"ONNX Runtime could not start its {provider} provider; 'stm-skeletons doctor' tells more")
    session.disable_fallback()
    _check_tensors(bundle, bundle.info.graphs[name], session)
    return session


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """Options of every session: ``threads`` for one operator, all cores without."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _WARNINGS_AND_WORSE
    # Three sessions take turns: the waiting threads of one must not keep a core from the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def provider_list(bundle: Bundle, provider: str, cuda_graphs: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's providers and their options for one of PROVIDERS, in the order in which it tries them.

    TensorRT takes what it can of a graph and leaves the rest to CUDA. ``cuda_graphs`` is for CUDA alone, which records
    whole graphs.
    """
    # FP32 means FP32, as in engines.
    cuda = (PROVIDERS["cuda"], {"use_tf32": 0, "enable_cuda_graph": int(cuda_graphs)})
    if provider != "tensorrt":
        return [cuda if provider == "cuda" else (PROVIDERS[provider], {})]
    options: dict[str, Any] = {"trt_fp16_enable": bundle.info.precision == "fp16"}
    if cache := _engine_cache(bundle):
        options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
    return [(PROVIDERS["tensorrt"], options), cuda]


def _load_cuda() -> None:
    """Load CUDA and cuDNN from NVIDIA's PyPI packages, where the system's loader does not look for them."""
    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload is not None:
        # It prints what it does not find, and standard output may be where the parts go; the provider fails then.
        with _loading, redirect_stdout(io.StringIO()):
            preload()


def _engine_cache(bundle: Bundle) -> Path | None:
    """Where the TensorRT provider keeps its engines; None where that cannot be written, so each start builds anew.

    Its file names follow a graph's structure and not its weights, hence a folder for each bundle's very graphs.
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
                raise BundleError(
                    f"{bundle.folder / graph.file}: {kind} {name} is {found.get(name, 'missing')}, "
                    f"bundle.json says {listed.get(name, 'nothing of it')}; export the bundle again"
                )


def ort_type(dtype: str) -> str:
    """ONNX Runtime's name of a tensor of a bundle's dtype."""
    return f"tensor({'float' if dtype == 'float32' else dtype})"
