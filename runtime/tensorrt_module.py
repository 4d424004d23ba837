"""TensorRT's Python package: ``tensorrt`` on boards and servers, ``tensorrt_rtx`` for engines built ahead of time."""

from typing import TYPE_CHECKING, Any

from stm_skeletons.bundle import TensorSpec
from stm_skeletons.engines import Package
from stm_skeletons.errors import BackendError, one_line

if TYPE_CHECKING:
    import tensorrt as trt

OLDEST = (8, 6)
"""The first TensorRT with uint8 inputs and the cast that they need."""
_ERROR = 1
"""Severity.ERROR; internal errors are 0. As numbers, since the enumeration's home differs between versions."""
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
    except (ImportError, OSError) as error:
        raise BackendError(f"{package} is not installed ({one_line(error)}); {_HOW[package]}") from error
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


def make_logger(package: Package):
    """A logger which keeps TensorRT's errors. ``last_error()`` is the latest, on one line. Raises BackendError."""
    tensorrt = import_tensorrt(package)

    class Log(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            if int(severity) <= _ERROR:
                self.errors.append(one_line(msg))

        def last_error(self) -> str:
            return self.errors[-1] if self.errors else "it gave no reason"

    return Log()
