"""Several detectors beside each other: two frames on a thread each are done sooner than one after the other on both.

Where the model runs on a device, or takes the frames of several cameras in one run, there is one.
"""

import threading
import time
from collections.abc import Callable, Sequence

from runtime.machine import usable_cores
from runtime.service.config import ModelConfig
from runtime.service.detector import Channel, Detector, backend_options, takes_several
from runtime.service.status import Board
from stm_skeletons.bundle import Bundle


class Detectors:
    """Behaves as one Detector; each camera is with one of them, for as long as it is served."""

    def __init__(
        self,
        bundle: Bundle,
        model: ModelConfig,
        park_after: int,
        board: Board,
        news: threading.Condition,
        say: Callable[[str], None],
        cameras: int,
    ) -> None:
        """As Detector; ``cameras``: how many there are."""
        threads = model.threads or usable_cores()
        count = 1 if takes_several(bundle, backend_options(model, bundle)) else min(threads, cameras)
        if count > 1:
            model = model.model_copy(update={"threads": threads // count})
        self.each = tuple(Detector(bundle, model, park_after, board, news, say) for _ in range(count))
        self._of: dict[str, Detector] = {}
        """By the name of a camera."""

    @property
    def error(self) -> BaseException | None:
        """Why one of the threads has ended, unless it was asked to."""
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
        # Each is told, whatever the one before says.
        done = [each.serve(own, max(0.0, until - time.monotonic())) for each, own in divided]
        return all(done)

    def park_after(self, errors: int) -> None:
        """From now on park cameras after so many errors in a minute."""
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
        """Cameras by detector: those that have one stay, others go where there are fewest."""
        names = [channel.config.name for channel in channels]
        self._of = {name: each for name, each in self._of.items() if name in names}
        for name in names:
            if name not in self._of:
                taken = list(self._of.values())
                self._of[name] = min(self.each, key=taken.count)
        return [tuple(each for each in channels if self._of[each.config.name] is one) for one in self.each]
