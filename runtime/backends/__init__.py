"""Backends: what holds the memory bank and runs the three graphs on one kind of device."""

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
    """What runs the graphs, and how."""

    backend: str = AUTO
    """"onnxruntime", "openvino" (CPUs), "tensorrt" (not yet run on a GPU) or "auto", see ``choose_backend``."""
    provider: str = "cpu"
    """Device of ONNX Runtime: "cpu", "cuda" or "tensorrt" (not yet run on a GPU)."""
    threads: int | None = None
    """CPU threads; None leaves the choice to the backend."""
    engines: Path | None = None
    """Folder of TensorRT engines; inside the bundle unless given."""
    cuda_graphs: bool = True
    """Whether a GPU (TensorRT, or ONNX Runtime's "cuda") replays recorded work instead of queueing it call by call."""

    @property
    def replays(self) -> bool:
        """Whether these options have recorded work replayed: asked for, and by what can."""
        return self.cuda_graphs and (self.backend == "tensorrt" or self.provider == "cuda")


def choose_backend(options: BackendOptions, bundle: Bundle) -> BackendOptions:
    """The same options with the backend that "auto" stands for: on an x86 CPU OpenVINO where it is installed, else ONNX
    Runtime. Both give the same results; OpenVINO is the faster one (docs/benchmarks.md), on ARM nobody has measured it.
    """
    if options.backend != AUTO:
        return options
    has_openvino = installed_version("openvino") is not None and platform.machine() == "x86_64"
    wanted = bundle.info.precision == "bf16" or (has_openvino and bundle.info.precision != "fp16")
    return replace(options, backend="openvino" if options.provider == "cpu" and wanted else "onnxruntime")


def open_backend(bundle: Bundle, options: BackendOptions, cameras: int = 1) -> Backend:
    """Load a bundle's graphs or engines, for so many cameras.

    Raises:
        BackendError: unknown backend or provider, or it cannot run here. There is never a fall back to another.
        BundleError: a graph's tensors are not those that bundle.json lists.
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
