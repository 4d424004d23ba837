"""What a backend does for a session: one narrow seam, so that a new device has nothing else to re-implement.

A backend owns every buffer: the memory bank, the query's tensors, the maps. All are allocated when it is opened and
keep their addresses until it is closed. The session calls, for every frame and in this order:

    frame          fill this host array with the letterboxed image
    detect(valid)  frame -> query tensors; bank, query tensors -> maps, detections
    memorise(slot) query tensors or frame, maps -> the slot, written in place
    results()      the detections, on the host

The first two may only queue the work: ``results`` waits for what ``detect`` queued, not for ``memorise``, so that a GPU
memorises a frame while the host takes the next one. ``frame`` may be filled again once ``results`` has returned.

``stages`` is told when a stage has ended. While it is recording, a backend that queues its work waits for each stage,
so that what is recorded is the device's time: such frames are slower than others, and no measure of latency.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.stages import Stages
from stm_skeletons.detections import Detections


class Backend(Protocol):
    """Runs the three graphs of one bundle on one device. Not safe for use from several threads at once."""

    frame: NDArray[np.uint8]
    """[H, W, 3] BGR; a host array that the session fills before ``detect``, and that nobody else writes to."""
    stages: Stages
    """Replaced by the session's owner, between frames only; see Session.record."""

    def detect(self, valid: tuple[bool, ...]) -> None:
        """Encode ``frame``, read the slots that are valid, decode maps and detections."""

    def memorise(self, slot: int) -> None:
        """Encode the query frame with the maps as they are now into a slot."""

    def results(self) -> Detections:
        """What the latest ``detect`` found.

        Host arrays, the same ones each time: the next ``detect`` overwrites them, and they go with the backend.
        """
        ...

    def write_maps(self, maps: NDArray[np.float32]) -> None:
        """Replace the maps [C, H/4, W/4], so that ``memorise`` takes these instead of what was decoded."""

    def read_maps(self) -> NDArray[np.float32]:
        """A copy of the maps [C, H/4, W/4]."""
        ...

    def read_slot(self, slot: int) -> tuple[NDArray, NDArray]:
        """Copies of a slot's key [HW, Ck] and value [HW, Cv]."""
        ...

    def addresses(self) -> dict[str, int]:
        """Device address of every buffer, by name; the same numbers for as long as the backend is open."""
        ...

    def close(self) -> None:
        """Release everything; may be called twice."""
