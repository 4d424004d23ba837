"""Several detectors in parallel: on a CPU, one thread per frame is faster than all threads on one frame after another.

If the model runs on a device or in batches, there is only one detector.
"""

import threading
import time
from collections.abc import Callable, Sequence

from runtime.machine import usable_cores
from runtime.service.config import ModelConfig
from runtime.service.detector import Channel, Detector, backend_options, steps_together
from runtime.service.status import Board
from stm_skeletons.bundle import Bundle


class Detectors:
    """Acts like one Detector; each camera stays with one of the detectors for as long as it is served."""

    def __init__(
        self,
        bundle: Bundle,
        model: ModelConfig,
        park_after: int,
        board: Board,
        wakeup: threading.Condition,
        say: Callable[[str], None],
        cameras: int,
    ) -> None:
        """As Detector; ``cameras``: number of cameras."""
        threads = model.threads or usable_cores()
        count = 1 if steps_together(bundle, backend_options(model, bundle)) else min(threads, cameras)
        if count > 1:
            model = model.model_copy(update={"threads": threads // count})
        self.each = tuple(Detector(bundle, model, park_after, board, wakeup, say) for _ in range(count))
        self._of: dict[str, Detector] = {}
        """Detector of each camera, by name."""

    @property
    def error(self) -> BaseException | None:
        """Why a thread ended, unless it was asked to stop."""
        return next((each.error for each in self.each if each.error is not None), None)

    def start(self, channels: Sequence[Channel]) -> None:
        """See Detector."""
        for each, own in zip(self.each, self._divided(channels), strict=True):
            each.start(own)

    def is_open(self, within: float) -> bool:
        """See Detector."""
        until = time.monotonic() + within
        return all(each.is_open(max(0.0, until - time.monotonic())) for each in self.each)

    def serve(self, channels: Sequence[Channel], within: float) -> bool:
        """See Detector."""
        until = time.monotonic() + within
        divided = zip(self.each, self._divided(channels), strict=True)
        # Not a generator: every detector must be told, even if one fails.
        done = [each.serve(own, max(0.0, until - time.monotonic())) for each, own in divided]
        return all(done)

    def park_after(self, errors: int) -> None:
        """Set the number of errors per minute after which a camera is parked."""
        for each in self.each:
            each.faults.park_after = errors

    def stop(self, within: float) -> bool:
        """See Detector."""
        until = time.monotonic() + within
        for each in self.each:
            each.stop(0.0)
        ended = [each.stop(max(0.0, until - time.monotonic())) for each in self.each]
        return all(ended)

    def _divided(self, channels: Sequence[Channel]) -> list[tuple[Channel, ...]]:
        """Distribute cameras: those that have a detector keep it, others go where there are fewest."""
        names = [channel.config.name for channel in channels]
        self._of = {name: each for name, each in self._of.items() if name in names}
        for name in names:
            if name not in self._of:
                taken = list(self._of.values())
                self._of[name] = min(self.each, key=taken.count)
        return [tuple(each for each in channels if self._of[each.config.name] is one) for one in self.each]
