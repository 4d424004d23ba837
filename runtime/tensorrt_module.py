"""TensorRT's Python package: ``tensorrt`` on boards and servers, ``tensorrt_rtx`` for ahead-of-time engines."""

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
"""First TensorRT version with uint8 inputs and the cast they need."""
_ERROR, _WARNING = 1, 2
"""Severities; internal errors are 0. As numbers, because the enumeration's location differs between versions."""
_TYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}
"""TensorRT's names of the types of a bundle's tensors."""
_HOW = {
    "tensorrt": "on a Jetson use JetPack's own (create the virtual environment with --system-site-packages), elsewhere "
    "pip install tensorrt",
    "tensorrt_rtx": "pip install 'stm-skeletons[rtx]'",
}


def import_tensorrt(package: Package):  # the module's type is inferred, so its use is checked against the stubs
    """Import ``tensorrt`` or ``tensorrt_rtx``, which have the same interface. Raises BackendError."""
    try:
        if TYPE_CHECKING or package == "tensorrt":
            import tensorrt
        else:
            import tensorrt_rtx as tensorrt
    except ModuleNotFoundError as error:
        raise BackendError(f"{package} is not installed ({one_line(error)}); {_HOW[package]}") from error
    except (ImportError, OSError) as error:
        raise BackendError(
            f"{package} does not load ({one_line(error)}); install the missing libraries for the CUDA version it was "
            "built for"
        ) from error
    if not hasattr(tensorrt, "Runtime"):  # a package with type stubs only
        raise BackendError(f"{package} is not installed; {_HOW[package]}")
    return tensorrt


def is_installed(package: Package) -> bool:
    """Whether a package is installed and loads."""
    try:
        import_tensorrt(package)
    except BackendError:
        return False
    return True


def is_too_old(version: str) -> bool:
    """Whether a ``tensorrt`` version such as "8.5.2.2" is older than OLDEST."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST


def describe_tensor(name: str, dtype: "trt.DataType", shape: Any) -> str:
    """Format a network's or engine's tensor like ``TensorSpec``, so that the two can be compared."""
    kind, sizes = str(dtype).rpartition(".")[2], tuple(int(size) for size in shape)
    if kind not in _TYPES or not sizes or min(sizes) < 1:
        return f"{name} {kind} {list(sizes)}"
    return str(TensorSpec.model_validate({"name": name, "dtype": _TYPES[kind], "shape": sizes}))


def activation_bytes(engine: "trt.ICudaEngine") -> int | None:
    """Return the device memory that an engine needs for intermediate tensors; None if TensorRT does not report it."""
    newer = getattr(engine, "device_memory_size_v2", None)
    return newer if newer is not None else getattr(engine, "device_memory_size", None)


@functools.cache
def shared_logger(package: Package):
    """Return a package's one logger, which lives as long as the process. Raises BackendError.

    TensorRT keeps the first logger it is given and sends all messages there, even if another logger is passed later. So
    this logger must never be released, and must keep the errors of different threads apart.
    """
    tensorrt = import_tensorrt(package)

    class Log(tensorrt.ILogger):
        """Keeps the latest error of each thread, and forwards all messages to listeners."""

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
            """Discard this thread's errors."""
            for said in (self._errors, self._warnings):
                said.pop(threading.get_ident(), None)

        def error(self) -> str | None:
            """Return this thread's latest error since ``forget`` on one line; None if there was none."""
            return self._errors.get(threading.get_ident())

        def last_error(self) -> str:
            """Return the same for a message. TensorRT 8.6 reports start-up failures as a warning."""
            return self.error() or self._warnings.get(threading.get_ident()) or "no reason given"

        @contextmanager
        def forwarded_to(self, listener: Listener) -> Iterator[None]:
            """Within the block, call a listener for every message with its severity (0 and 1 are errors) and text."""
            self._listeners.append(listener)
            try:
                yield
            finally:
                self._listeners.remove(listener)

    return Log()
