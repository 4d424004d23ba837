"""Loggers, and the memory that TensorRT hands out."""

import weakref
from collections.abc import Callable

from .device import failures
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


class _Registered:
    """The one logger that everything of a process logs to, while anything lives that was made with it.

    The real TensorRT keeps a bare pointer: what made it holds its own logger, not this one.
    """

    def __init__(self, logger: ILogger) -> None:
        self.logger = weakref.ref(logger)


class Handle:
    """What a builder, parser or runtime keeps: its own logger, alive, and the one that messages go to."""

    def __init__(self, logger: ILogger) -> None:
        global _registered
        self._own = logger
        self._process = _registered() or _Registered(logger)
        _registered = weakref.ref(self._process)

    @property
    def process(self) -> ILogger | None:
        """The one that messages go to; None when it is gone."""
        return self._process.logger()

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        logger = self.process
        if logger is None:
            failures.append("a message went to a logger that is gone: the real TensorRT would call freed memory")
        else:
            logger.log(severity, msg)


_registered: Callable[[], _Registered | None] = lambda: None  # noqa: E731 - a dead reference


def checked(logger: object) -> Handle:
    """A logger that has been made as pybind11 wants it, as its user keeps it."""
    if not isinstance(logger, ILogger) or not getattr(logger, "_made", False):
        raise TypeError("incompatible function arguments: an ILogger whose __init__ has been called is needed")
    return Handle(logger)


class IHostMemory(bytes):
    """Bytes of TensorRT's. (The real one has the buffer protocol only: bytes(x), memoryview(x), file.write(x).)"""

    @property
    def nbytes(self) -> int:
        return len(self)

    @property
    def dtype(self) -> object:
        return DataType.INT8


of_this_version(Logger)
