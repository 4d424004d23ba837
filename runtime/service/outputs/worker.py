"""Base of the outputs: own thread, bounded queue, and retries."""

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

_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts while it cannot write; the last value repeats."""
_IDLE = 1.0
"""Seconds without results after which ``_idle`` is called."""
_FOR_THE_END = 0.3
"""Share of the closing time in seconds that is reserved for finishing files."""
_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)
_log = logging.getLogger(__name__)


class Worker(ABC):
    """Writes results in its own thread. ``offer`` never waits: excess results are dropped, oldest first.

    If it cannot write, it retries after 1 s, 2 s, 4 s, and then every 8 s.
    """

    name: str

    def __init__(self, camera: str, most: int, seconds: float = float("inf"), retries: bool = False) -> None:
        """
        Args:
            camera: name of the camera.
            most: most results that may wait.
            seconds: longest time span between the oldest and the newest waiting result.
            retries: retry the result that could not be written, instead of continuing with the next.
        """
        self._camera, self._most, self._seconds, self._retries = camera, most, seconds, retries
        self._queue: deque[Result] = deque()
        self._wakeup = threading.Condition()
        self._counts = {"written": 0, "dropped": 0, "failed": 0}
        self._problem: str | None = None
        self._attempt = 0
        """Attempts since the last successful write."""
        self._deadline: float | None = None
        """Time by which to close; None while open."""
        self._thread = threading.Thread(target=self._run, name=f"{self.name} of {camera}", daemon=True)

    def start(self) -> None:
        """Start the thread, once the output is complete."""
        self._thread.start()

    def offer(self, result: Result) -> None:
        with self._wakeup:
            if self._deadline is not None:
                self._drop()
                return
            self._queue.append(result)
            while len(self._queue) > self._most or self._span() > self._seconds:
                self._queue.popleft()
                self._drop()
            self._wakeup.notify_all()

    def counters(self) -> dict[str, int]:
        with self._wakeup:
            return dict(self._counts)

    def problem(self) -> str | None:
        return self._problem

    def close(self, within: float) -> None:
        with self._wakeup:
            if self._deadline is None:
                self._deadline = time.monotonic() + within
            self._wakeup.notify_all()
        self._thread.join(timeout=max(0.0, within))

    def retry_now(self) -> None:
        """Retry now, because the problem may be solved."""
        with self._wakeup:
            self._attempt = 0
            self._wakeup.notify_all()

    @abstractmethod
    def _write(self, result: Result) -> None:
        """Write a result, in the thread. Raises StmError or OSError if that fails."""

    def _idle(self) -> None:  # noqa: B027 - most outputs have nothing to do then
        """Called in the thread about once a second while there are no results; errors as in ``_write``."""

    def _finish(self) -> None:  # noqa: B027
        """Called in the thread at its end; errors as in ``_write``."""

    def _drop(self, results: int = 1) -> None:
        """Count dropped results."""
        with self._wakeup:
            self._counts["dropped"] += results

    def _span(self) -> float:
        newest, oldest = self._queue[-1].frame.arrived, self._queue[0].frame.arrived
        return 0.0 if newest is None or oldest is None else newest - oldest

    def _run(self) -> None:
        while True:
            result = self._next()
            if result is not None:
                self._write_or_retry(result)
            elif self._deadline is None:
                self._try(self._idle)
            else:
                break
        self._try(self._finish)
        with self._wakeup:
            self._drop(len(self._queue))
            self._queue.clear()

    def _next(self) -> Result | None:
        """Return the oldest result; None if there is nothing to do or no time left."""
        with self._wakeup:
            if not self._queue and self._deadline is None:
                self._wakeup.wait(_IDLE)
            late = self._deadline is not None and (
                self._attempt > 1 or time.monotonic() > self._deadline - _FOR_THE_END
            )
            return self._queue.popleft() if self._queue and not late else None

    def _write_or_retry(self, result: Result) -> None:
        error = self._try(lambda: self._write(result))
        with self._wakeup:
            if error is None:
                self._counts["written"] += 1
                self._attempt = 0
                self._problem = None
                return
            if self._retries and isinstance(error, (StmError, OSError)) and len(self._queue) < self._most:
                self._queue.appendleft(result)
            else:
                self._counts["failed"] += 1
            wait = _RETRY_SECONDS[min(self._attempt, len(_RETRY_SECONDS) - 1)]
            self._attempt = attempt = self._attempt + 1
            self._wakeup.wait_for(lambda: self._deadline is not None or self._attempt != attempt, wait)

    def _try(self, work: Callable[[], None]) -> Exception | None:
        """Run and return the error, after reporting it."""
        try:
            work()
        except (StmError, OSError) as error:
            self._say(one_line(error))
            return error
        except Exception as error:  # a bug of ours must not end the thread and the output
            _log.exception("%s of camera %s", self.name, self._camera)
            self._say(one_line(f"{type(error).__name__}: {error}"))
            return error
        return None

    def _say(self, problem: str) -> None:
        if self._problem is None:  # report once, not at every attempt
            _log.warning("%s of camera %s: %s", self.name, self._camera, problem)
        self._problem = problem


def without_image(result: Result) -> Result:
    """Return a result without its image, for queues that do not need it: images are large."""
    return replace(result, frame=replace(result.frame, image=_NO_IMAGE))
