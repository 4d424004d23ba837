"""What a backend does for a session: one narrow seam, so that a new device has nothing else to re-implement.

A backend owns every buffer: the memory bank, the query's tensors, the maps. All are allocated when it is opened and
keep their addresses until it is closed. The session calls, for every frame and in this order:

    frame          fill this host array with the letterboxed image
    encode_query() frame -> query tensors
    read_decode()  bank, query tensors -> maps, peaks, edge scores
    memorise(slot) query tensors or frame, maps -> the slot, written in place
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """Runs the three graphs of one bundle on one device. Not safe for use from several threads at once."""

    frame: NDArray[np.uint8]
    """[H, W, 3] BGR; a host array that the session fills before ``encode_query``."""

    def encode_query(self) -> None:
        """Encode ``frame``."""

    def read_decode(self, valid: tuple[bool, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read the slots that are valid and decode the query.

        Returns:
            peaks [NK, K, 3] (x, y in network pixels, score) and edge scores [NE, K, K]; all zero for networks without
            keypoint maps. Host arrays that the next call overwrites.
        """
        ...

    def memorise(self, slot: int) -> None:
        """Encode the query frame with the maps as they are now into a slot."""

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
