"""Errors of the backend: whose frames they come with, and which camera is better left alone."""

from collections import deque

OVER = 60.0
"""Seconds over which errors are counted, and for which cameras are stepped one by one after an error."""


class Faults:
    """Counts errors of the backend by camera."""

    def __init__(self, park_after: int) -> None:
        """``park_after``: errors of a camera within a minute after which it is parked."""
        self.park_after = park_after
        self._alone_until = 0.0
        self._errors: dict[str, deque[float]] = {}

    def one_by_one(self, now: float) -> bool:
        """Whether cameras are to be stepped one by one, so that an error is somebody's."""
        return now < self._alone_until

    def add(self, cameras: list[str], now: float) -> bool:
        """A step with these cameras failed. Whether that was one camera, and once too often."""
        self._alone_until = now + OVER
        if len(cameras) != 1:
            return False
        errors = self._errors.setdefault(cameras[0], deque(maxlen=100))
        errors.append(now)
        return sum(now - each <= OVER for each in errors) >= self.park_after

    def forgive(self, camera: str) -> None:
        """Count from zero."""
        self._errors.pop(camera, None)
