"""What outputs have in common: a thread of their own, a queue that cannot grow, and patience with what is broken."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from runtime.service.results import Result
from stm_skeletons.errors import StmError, one_line

_WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts while it cannot write; the last is kept to."""
_IDLE = 1.0
"""Seconds without anything to write, after which it may put things in order."""
_FOR_THE_END = 0.3
"""Of the time for closing: so much is kept for finishing files once the queue is given up."""
_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)
_log = logging.getLogger(__name__)


class Worker(ABC):
    """Writes results in a thread of its own. Who gives them never waits: what is too much is dropped, the oldest first.

    While it cannot write it tries again after 1 s, 2 s, 4 s, and from then on every 8 s.
    """

    name: str

    def __init__(self, camera: str, most: int, seconds: float = float("inf"), tries_again: bool = False) -> None:
        """
        Args:
            camera: whose results these are.
            most: results that may wait.
            seconds: how long ago the oldest of them may have arrived before the newest.
            tries_again: with the result that could not be written, rather than the next.
        """
        self._camera, self._most, self._seconds, self._tries_again = camera, most, seconds, tries_again
        self._queue: deque[Result] = deque()
        self._news = threading.Condition()
        self._counts = {"written": 0, "dropped": 0, "failed": 0}
        self._problem: str | None = None
        self._attempt = 0
        """Since it last could write."""
        self._deadline: float | None = None
        """When it must be closed; None while nobody wants that."""
        self._thread = threading.Thread(target=self._run, name=f"{self.name} of {camera}", daemon=True)

    def start(self) -> None:
        """Once the output is complete."""
        self._thread.start()

    def offer(self, result: Result) -> None:
        with self._news:
            if self._deadline is not None:
                self._drop()
                return
            self._queue.append(result)
            while len(self._queue) > self._most or self._span() > self._seconds:
                self._queue.popleft()
                self._drop()
            self._news.notify_all()

    def counters(self) -> dict[str, int]:
        with self._news:
            return dict(self._counts)

    def problem(self) -> str | None:
        return self._problem

    def close(self, within: float) -> None:
        with self._news:
            if self._deadline is None:
                self._deadline = time.monotonic() + within
            self._news.notify_all()
        self._thread.join(timeout=max(0.0, within))

    def try_now(self) -> None:
        """What was broken may be whole again: there is no need to wait."""
        with self._news:
            self._attempt = 0
            self._news.notify_all()

    @abstractmethod
    def _write(self, result: Result) -> None:
        """In the thread. Raises StmError or OSError when it cannot."""

    def _idle(self) -> None:  # noqa: B027 - most have nothing to do then
        """In the thread, about once a second while there is nothing to write; as ``_write`` otherwise."""

    def _finish(self) -> None:  # noqa: B027
        """In the thread, at its end; as ``_write`` otherwise."""

    def _drop(self, results: int = 1) -> None:
        """Count results that are let go."""
        with self._news:
            self._counts["dropped"] += results

    def _span(self) -> float:
        newest, oldest = self._queue[-1].frame.arrived, self._queue[0].frame.arrived
        return 0.0 if newest is None or oldest is None else newest - oldest

    def _run(self) -> None:
        while True:
            result = self._next()
            if result is not None:
                self._attempted(result)
            elif self._deadline is None:
                self._try(self._idle)
            else:
                break
        self._try(self._finish)
        with self._news:
            self._drop(len(self._queue))
            self._queue.clear()

    def _next(self) -> Result | None:
        """The oldest result; None when there is nothing to do, or no time to do it."""
        with self._news:
            if not self._queue and self._deadline is None:
                self._news.wait(_IDLE)
            late = self._deadline is not None and (
                self._attempt > 1 or time.monotonic() > self._deadline - _FOR_THE_END
            )
            return self._queue.popleft() if self._queue and not late else None

    def _attempted(self, result: Result) -> None:
        error = self._try(lambda: self._write(result))
        with self._news:
            if error is None:
                self._counts["written"] += 1
                self._attempt = 0
                self._problem = None
                return
            if self._tries_again and isinstance(error, (StmError, OSError)) and len(self._queue) < self._most:
                self._queue.appendleft(result)
            else:
                self._counts["failed"] += 1
            wait = _WAITS[min(self._attempt, len(_WAITS) - 1)]
            self._attempt = attempt = self._attempt + 1
            self._news.wait_for(lambda: self._deadline is not None or self._attempt != attempt, wait)

    def _try(self, work: Callable[[], None]) -> Exception | None:
        """What went wrong, once it is said."""
        try:
            work()
        except (StmError, OSError) as error:
            self._say(one_line(error))
            return error
        except Exception as error:  # a fault of ours must not end the thread, and with it the output
            _log.exception("%s of camera %s", self.name, self._camera)
            self._say(one_line(f"{type(error).__name__}: {error}"))
            return error
        return None

    def _say(self, problem: str) -> None:
        if self._problem is None:  # not at every attempt
            _log.warning("%s of camera %s: %s", self.name, self._camera, problem)
        self._problem = problem


def without_image(result: Result) -> Result:
    """To be queued where the picture is of no use: pictures are large."""
    return replace(result, frame=replace(result.frame, image=_NO_IMAGE))
