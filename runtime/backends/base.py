"""The interface of a backend for a group of cameras, kept narrow so that a new device needs little code.

A backend owns every buffer: each camera's frame, memory bank, maps and results, and the query's tensors, which the
cameras share. Buffers are allocated when the backend opens and keep their addresses until it closes.

The encoders process the frames of B cameras in one run (``BundleInfo.batch``): camera c is row c % B of batch c // B.
For each batch that has frames, the owner calls in this order:

    frame(camera)   returns a host array to fill with the letterboxed image
    detect(valid)   frames -> query tensors; each camera's bank and row -> its maps and detections
    memorise(slots) query tensors or frames, maps -> a slot of each camera's bank

and, once all batches are queued:

    results(camera) returns the detections on the host

Cameras of a batch that are not named keep their memory, maps and results. ``detect`` and ``memorise`` may only queue
the work. ``results`` waits for ``detect`` but not for ``memorise``, so that a GPU memorises a frame while the host
processes the next one.

``stages`` is told when a stage has ended. While it records, a backend that queues its work waits after each stage, so
that the device's time is measured. Such frames are slower than others and must not be used to measure latency.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.stages import Stages
from stm_skeletons.detections import Detections


class Backend(Protocol):
    """Runs the three graphs of one bundle on one device. Not thread-safe."""

    stages: Stages
    """Replaced by the owner, only between frames; see SessionGroup.record."""

    def frame(self, camera: int) -> NDArray[np.uint8]:
        """Return the host array [H, W, 3] BGR to fill before ``detect``; always the same array. Waits until its
        previous contents have been uploaded."""
        ...

    def detect(self, valid: Mapping[int, tuple[bool, ...]]) -> None:
        """Encode the frames of a batch; for each named camera, read the valid slots and decode maps and detections. All
        cameras must be in one batch."""

    def memorise(self, slots: Mapping[int, int]) -> None:
        """Encode the frames of the batch that ``detect`` encoded last, with the cameras' current maps, and store them
        in a slot of each named camera's bank."""

    def results(self, camera: int) -> Detections:
        """Return what the latest ``detect`` found in a camera's frame.

        The host arrays are the same ones each time: the camera's next ``detect`` overwrites them. They may outlive the
        backend.
        """
        ...

    def write_maps(self, camera: int, maps: NDArray[np.float32]) -> None:
        """Replace a camera's maps [C, H/4, W/4], so that ``memorise`` uses these instead of the decoded ones."""

    def read_maps(self, camera: int) -> NDArray[np.float32]:
        """Return a copy of a camera's maps [C, H/4, W/4]."""
        ...

    def read_slot(self, camera: int, slot: int) -> tuple[NDArray, NDArray]:
        """Return copies of a slot's key [HW, Ck] and value [HW, Cv]."""
        ...

    def addresses(self) -> dict[str, int]:
        """Return the device address of every buffer by name; addresses are fixed while the backend is open."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice, and from any thread while no other method runs."""


def batch_of(cameras: Mapping[int, object], size: int) -> int:
    """Return the one batch of this size that contains all cameras."""
    (batch,) = {camera // size for camera in cameras}
    return batch


def named_addresses(shared: Mapping[str, int], cameras: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the result of ``addresses``: shared tensors by name, a camera's tensors as "name/camera"."""
    own = {
        f"{name}/{camera}": address
        for camera, addresses in enumerate(cameras)
        for name, address in addresses.items()
        if name not in shared
    }
    return {**shared, **own}
