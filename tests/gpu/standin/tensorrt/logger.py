"""Loggers, and the memory that TensorRT hands out."""

import weakref
from collections.abc import Callable

from .device import failures
from .names import DataType, Number, of_this_version


class ILogger:
    """Receives TensorRT's messages; subclasses call ``ILogger.__init__`` and define ``log``."""

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
    """Prints messages that are at least as severe as ``min_severity``."""

    def __init__(self, min_severity: ILogger.Severity = ILogger.Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            print(f"[TRT] {msg}")


class _Registered:
    """The one logger for all messages of a process, while an object created with it is alive.

    The real TensorRT keeps a bare pointer: an object keeps its own logger alive, not this one.
    """

    def __init__(self, logger: ILogger) -> None:
        self.logger = weakref.ref(logger)


class Handle:
    """Kept by a builder, parser or runtime: its own logger, alive, and the logger that receives messages."""

    def __init__(self, logger: ILogger) -> None:
        global _registered
        self._own = logger
        self._process = _registered() or _Registered(logger)
        _registered = weakref.ref(self._process)

    @property
    def process(self) -> ILogger | None:
        """The logger that receives messages; None if it has been released."""
        return self._process.logger()

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        logger = self.process
        if logger is None:
            failures.append("a message went to a logger that is gone: the real TensorRT would call freed memory")
        else:
            logger.log(severity, msg)


_registered: Callable[[], _Registered | None] = lambda: None  # noqa: E731 - a dead reference


def checked(logger: object) -> Handle:
    """Check that a logger was initialised as pybind11 requires."""
    if not isinstance(logger, ILogger) or not getattr(logger, "_made", False):
        raise TypeError("incompatible function arguments: an ILogger whose __init__ has been called is needed")
    return Handle(logger)


class IHostMemory(bytes):
    """A TensorRT buffer. (The real one only has the buffer protocol: bytes(x), memoryview(x), file.write(x).)"""

    @property
    def nbytes(self) -> int:
        return len(self)

    @property
    def dtype(self) -> object:
        return DataType.INT8


of_this_version(Logger)
