"""Counts backend errors by camera, to find cameras that should be parked."""

from collections import deque

OVER = 60.0
"""Seconds over which errors are counted, and for which cameras are stepped one by one after an error."""


class Faults:
    """Counts backend errors by camera."""

    def __init__(self, park_after: int) -> None:
        """``park_after``: errors of a camera within a minute after which it is parked."""
        self.park_after = park_after
        self._alone_until = 0.0
        self._errors: dict[str, deque[float]] = {}

    def one_by_one(self, now: float) -> bool:
        """Whether to step cameras one by one, so that an error can be attributed."""
        return now < self._alone_until

    def add(self, cameras: list[str], now: float) -> bool:
        """Record a failed step. Returns whether it had one camera that has now failed too often."""
        self._alone_until = now + OVER
        if len(cameras) != 1:
            return False
        errors = self._errors.setdefault(cameras[0], deque(maxlen=100))
        errors.append(now)
        return sum(now - each <= OVER for each in errors) >= self.park_after

    def forgive(self, camera: str) -> None:
        """Reset a camera's count."""
        self._errors.pop(camera, None)
