"""The service's log on standard error: one line per event, with repeats suppressed."""

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
"""Seconds in which a message is printed only once."""
_MOST = 256
"""Most different messages remembered."""
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass
class _Entry:
    when: float
    line: str
    more: int = 0


class Log:
    """Prints lines "subject: message". Of messages that differ only in numbers, prints one in 30 seconds, then how many
    were suppressed. Thread-safe."""

    def __init__(self, tell: Callable[[str], None] = print_line) -> None:
        self._print, self._lock = tell, threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}

    def __call__(self, line: str) -> None:
        """Log a line."""
        who, _, what = line.partition(": ")
        key = who, _NUMBER.sub("#", what)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.more += 1
                entry.line = line
                return
            if len(self._entries) < _MOST:
                self._entries[key] = _Entry(time.monotonic(), line)
        self._tell(line)

    def tidy(self, everything: bool = False) -> None:
        """Print how often suppressed lines occurred; call it regularly, and with ``everything`` at the end."""
        now, lines = time.monotonic(), []
        with self._lock:
            for key, entry in list(self._entries.items()):
                if not everything and now - entry.when < _QUIET:
                    continue
                del self._entries[key]
                if entry.more:
                    lines.append(f"{entry.line} (repeated {entry.more} times in {now - entry.when:.0f} s)")
                    self._entries[key] = _Entry(now, entry.line)
        for line in lines:
            self._tell(line)

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # the reader has gone or its disk is full: cameras continue
            self._print(line)


@contextmanager
def logging_to(log: Log) -> Iterator[None]:
    """Also log the warnings that outputs and libraries send to ``logging``, each on one line."""
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
