"""Backends: what holds the memory bank and runs the three graphs on one kind of device."""

from runtime.backends.base import Backend
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError

BACKENDS = ("onnxruntime",)


def open_backend(bundle: Bundle, backend: str, provider: str, threads: int | None) -> Backend:
    """Load a bundle's graphs.

    Args:
        bundle: an opened bundle.
        backend: "onnxruntime".
        provider: the device of that backend: "cpu" or "cuda".
        threads: CPU threads; None leaves the choice to the backend.

    Raises:
        BackendError: unknown backend or provider, or it cannot run here. There is never a fall back to another.
        BundleError: a graph's tensors are not those that bundle.json lists.
    """
    if backend not in BACKENDS:
        raise BackendError(f"unknown backend '{backend}'; choose one of: {', '.join(BACKENDS)}")
    from runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(bundle, provider, threads)
