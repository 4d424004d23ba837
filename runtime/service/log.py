"""What the service tells on standard error: one line for each event, and never a flood."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from stm_skeletons.cli.say import say as print_line
from stm_skeletons.errors import one_line

_QUIET = 30.0
"""Seconds in which a message is told once."""
_MOST = 256
"""Different messages that are remembered."""
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass
class _Told:
    when: float
    line: str
    more: int = 0


class Log:
    """Tells lines, "who: what"; where only numbers in "what" differ one in 30 seconds, and how many there were. For any
    thread."""

    def __init__(self, tell: Callable[[str], None] = print_line) -> None:
        self._print, self._lock = tell, threading.Lock()
        self._told: dict[tuple[str, str], _Told] = {}

    def __call__(self, line: str) -> None:
        """Something happened."""
        who, _, what = line.partition(": ")
        key = who, _NUMBER.sub("#", what)
        with self._lock:
            told = self._told.get(key)
            if told is not None:
                told.more += 1
                told.line = line
                return
            if len(self._told) < _MOST:
                self._told[key] = _Told(time.monotonic(), line)
        self._tell(line)

    def tidy(self, everything: bool = False) -> None:
        """To be called now and then: tells how often the lines came that were kept back; at the end, of all."""
        now, lines = time.monotonic(), []
        with self._lock:
            for key, told in list(self._told.items()):
                if not everything and now - told.when < _QUIET:
                    continue
                del self._told[key]
                if told.more:
                    lines.append(f"{told.line} (so {told.more} more times in {now - told.when:.0f} s)")
                    self._told[key] = _Told(now, told.line)
        for line in lines:
            self._tell(line)

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # nobody reads it any more, or its disk is full: cameras go on
            self._print(line)


@contextmanager
def logging_to(log: Log) -> Iterator[None]:
    """What outputs and libraries warn of by ``logging`` is told here, too, each in a line."""
    handler = _Handler(log)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._to = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        what = "" if error is None else f": {type(error).__name__}: {error}"
        self._to(one_line(f"{record.getMessage()}{what}"))
