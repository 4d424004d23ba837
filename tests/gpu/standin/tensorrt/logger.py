"""Loggers, and the memory that TensorRT hands out."""

from .names import DataType, Number, of_this_version


class ILogger:
    """Where TensorRT's messages go; subclasses call ``ILogger.__init__`` and define ``log``."""

    class Severity(Number):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    """Prints what is at least as severe as ``min_severity``."""

    def __init__(self, min_severity: ILogger.Severity = ILogger.Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            print(f"[TRT] {msg}")


def checked(logger: object) -> ILogger:
    """A logger that has been made as pybind11 wants it."""
    if not isinstance(logger, ILogger) or not getattr(logger, "_made", False):
        raise TypeError("incompatible function arguments: an ILogger whose __init__ has been called is needed")
    return logger


class IHostMemory(bytes):
    """Bytes of TensorRT's. (The real one has the buffer protocol only: bytes(x), memoryview(x), file.write(x).)"""

    @property
    def nbytes(self) -> int:
        return len(self)

    @property
    def dtype(self) -> object:
        return DataType.INT8


of_this_version(Logger)
