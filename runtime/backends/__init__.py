"""Backends: each holds the memory bank and runs the three graphs on one kind of device."""

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.backends.base import Backend
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError
from stm_skeletons.libraries import installed_version

BACKENDS = ("onnxruntime", "openvino", "tensorrt")
AUTO = "auto"


@dataclass(frozen=True)
class BackendOptions:
    """Backend, device and settings for running the graphs."""

    backend: str = AUTO
    """"onnxruntime", "openvino" (CPUs), "tensorrt" (not yet run on a GPU) or "auto", see ``choose_backend``."""
    provider: str = "cpu"
    """Execution provider of ONNX Runtime: "cpu", "cuda" or "tensorrt" (not yet run on a GPU)."""
    threads: int | None = None
    """CPU threads; None leaves the choice to the backend."""
    engines: Path | None = None
    """Folder of TensorRT engines; inside the bundle by default."""
    cuda_graphs: bool = True
    """Whether a GPU (TensorRT, or ONNX Runtime's "cuda") replays CUDA graphs instead of queueing call by call."""

    @property
    def replays(self) -> bool:
        """Whether CUDA graphs are enabled and the backend supports them."""
        return self.cuda_graphs and (self.backend == "tensorrt" or self.provider == "cuda")


def choose_backend(options: BackendOptions, bundle: Bundle) -> BackendOptions:
    """Replace "auto" by a backend: on x86 CPUs OpenVINO if installed, otherwise ONNX Runtime.

    Both give the same results; OpenVINO is faster (docs/benchmarks.md). On ARM it has not been measured.
    """
    if options.backend != AUTO:
        return options
    has_openvino = installed_version("openvino") is not None and platform.machine() == "x86_64"
    wanted = bundle.info.precision == "bf16" or (has_openvino and bundle.info.precision != "fp16")
    return replace(options, backend="openvino" if options.provider == "cpu" and wanted else "onnxruntime")


def open_backend(bundle: Bundle, options: BackendOptions, cameras: int = 1) -> Backend:
    """Load a bundle's graphs or engines for ``cameras`` cameras.

    Raises:
        BackendError: the backend or provider is unknown or cannot run here; there is no fallback to another.
        BundleError: a graph's tensors do not match bundle.json.
        EngineError: there are no engines of this bundle for this machine.
    """
    options = choose_backend(options, bundle)
    if options.backend not in BACKENDS:
        raise BackendError(f"unknown backend '{options.backend}'; choose one of: {', '.join((AUTO, *BACKENDS))}")
    if options.backend == "tensorrt":
        from runtime.backends.tensorrt import TensorRTBackend

        return TensorRTBackend(bundle, options.engines, options.cuda_graphs, cameras)
    if options.backend == "openvino":
        from runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(bundle, options.threads, cameras)
    from runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(bundle, options.provider, options.threads, options.replays, cameras)
