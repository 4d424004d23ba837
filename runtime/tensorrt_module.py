"""TensorRT's Python package: ``tensorrt`` on boards and servers, ``tensorrt_rtx`` for engines built ahead of time."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stm_skeletons.bundle import TensorSpec
from stm_skeletons.engines import Package
from stm_skeletons.errors import BackendError, one_line

if TYPE_CHECKING:
    import tensorrt as trt

Listener = Callable[[int, str], None]
OLDEST = (8, 6)
"""The first TensorRT with uint8 inputs and the cast that they need."""
_ERROR, _WARNING = 1, 2
"""Severities, internal errors being 0. As numbers, since the enumeration's home differs between versions."""
_TYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}
"""TensorRT's names of the types that a bundle's tensors have."""
_HOW = {
    "tensorrt": "on a Jetson use JetPack's own (a virtual environment with --system-site-packages), else pip install "
    "tensorrt",
    "tensorrt_rtx": "pip install 'stm-skeletons[rtx]'",
}


def import_tensorrt(package: Package):  # the module's type is inferred, and so its use is checked against the stubs
    """The module ``tensorrt`` or ``tensorrt_rtx``, which have the same interface. Raises BackendError."""
    try:
        if TYPE_CHECKING or package == "tensorrt":
            import tensorrt
        else:
            import tensorrt_rtx as tensorrt
    except ModuleNotFoundError as error:
        raise BackendError(f"{package} is not installed ({one_line(error)}); {_HOW[package]}") from error
    except (ImportError, OSError) as error:
        raise BackendError(
            f"{package} does not load ({one_line(error)}); install what is missing, of the CUDA version that it was "
            "built for"
        ) from error
    if not hasattr(tensorrt, "Runtime"):  # a package of type stubs alone
        raise BackendError(f"{package} is not installed; {_HOW[package]}")
    return tensorrt


def is_installed(package: Package) -> bool:
    """Whether a package is there and loads."""
    try:
        import_tensorrt(package)
    except BackendError:
        return False
    return True


def is_too_old(version: str) -> bool:
    """Whether a ``tensorrt`` of this version ("8.5.2.2") is before OLDEST."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST


def describe_tensor(name: str, dtype: "trt.DataType", shape: Any) -> str:
    """A tensor of a network or an engine as ``TensorSpec`` prints itself, so that the two can be compared."""
    kind, sizes = str(dtype).rpartition(".")[2], tuple(int(size) for size in shape)
    if kind not in _TYPES or not sizes or min(sizes) < 1:
        return f"{name} {kind} {list(sizes)}"
    return str(TensorSpec.model_validate({"name": name, "dtype": _TYPES[kind], "shape": sizes}))


def activation_bytes(engine: "trt.ICudaEngine") -> int | None:
    """Device memory that an engine needs for its intermediate tensors; None where TensorRT does not say."""
    newer = getattr(engine, "device_memory_size_v2", None)
    return newer if newer is not None else getattr(engine, "device_memory_size", None)


@functools.cache
def shared_logger(package: Package):
    """The one logger of a package, for as long as the process lives. Raises BackendError.

    TensorRT keeps the first logger that it is given and sends everything there, whoever else brings another: that one
    must never go, and must tell whose error was whose.
    """
    tensorrt = import_tensorrt(package)

    class Log(tensorrt.ILogger):
        """Keeps the latest error of each thread, and passes everything on to whoever listens."""

        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self._errors: dict[int, str] = {}
            self._warnings: dict[int, str] = {}
            self._listeners: list[Listener] = []

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            level = int(severity)
            if level <= _WARNING:
                said = self._errors if level <= _ERROR else self._warnings
                said[threading.get_ident()] = one_line(msg)
            for listener in tuple(self._listeners):
                listener(level, msg)

        def forget(self) -> None:
            """What this thread was told so far is no longer of interest."""
            for said in (self._errors, self._warnings):
                said.pop(threading.get_ident(), None)

        def error(self) -> str | None:
            """What this thread's latest call went wrong with, on one line; None where nothing did since ``forget``."""
            return self._errors.get(threading.get_ident())

        def last_error(self) -> str:
            """The same in words for a message. TensorRT 8.6 says why it cannot start as a warning."""
            return self.error() or self._warnings.get(threading.get_ident()) or "it gave no reason"

        @contextmanager
        def heard_by(self, listener: Listener) -> Iterator[None]:
            """Within the block a listener is told of every message: its severity (0 and 1 are errors), its text."""
            self._listeners.append(listener)
            try:
                yield
            finally:
                self._listeners.remove(listener)

    return Log()
