"""What a backend does for a group of cameras: one narrow seam, so that a new device has nothing else to re-implement.

A backend owns every buffer: each camera's frame, memory bank, maps and results, and the query's tensors, which the
cameras share. All are allocated when it is opened and keep their addresses until it is closed.

The encoders take the frames of B cameras in one run (``BundleInfo.batch``): camera c is row c % B of batch c // B. The
owner calls, for each batch that has frames and in this order:

    frame(camera)   an array of the host, to be filled with the letterboxed image
    detect(valid)   frames -> query tensors; each camera's bank and row -> its maps, its detections
    memorise(slots) query tensors or frames, maps -> a slot of each camera's bank

and, when all batches have been queued:

    results(camera) the detections, on the host

Cameras of a batch that are not named have nothing changed: neither memory nor maps nor results. ``detect`` and
``memorise`` may only queue the work: ``results`` waits for what ``detect`` queued, not for ``memorise``, so that a GPU
memorises a frame while the host takes the next one.

``stages`` is told when a stage has ended. While it is recording, a backend that queues its work waits for each stage,
so that what is recorded is the device's time: such frames are slower than others, and no measure of latency.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.stages import Stages
from stm_skeletons.detections import Detections


class Backend(Protocol):
    """Runs the three graphs of one bundle on one device. Not safe for use from several threads at once."""

    stages: Stages
    """Replaced by the owner, between frames only; see SessionGroup.record."""

    def frame(self, camera: int) -> NDArray[np.uint8]:
        """[H, W, 3] BGR; a host array to fill before ``detect``, always the same one. Waits until it is free: what has
        been uploaded from it must have left."""
        ...

    def detect(self, valid: Mapping[int, tuple[bool, ...]]) -> None:
        """Encode the frames of a batch, and for each camera named read the slots that are valid and decode maps and
        detections. The cameras must be of one batch."""

    def memorise(self, slots: Mapping[int, int]) -> None:
        """Encode the frames of the batch that ``detect`` encoded last, with the cameras' maps as they are now, and put
        them into a slot of each camera named."""

    def results(self, camera: int) -> Detections:
        """What the latest ``detect`` found in a camera's frame.

        Host arrays, the same ones each time: the next ``detect`` of the camera overwrites them. They may outlive the
        backend.
        """
        ...

    def write_maps(self, camera: int, maps: NDArray[np.float32]) -> None:
        """Replace a camera's maps [C, H/4, W/4], so that ``memorise`` takes these instead of what was decoded."""

    def read_maps(self, camera: int) -> NDArray[np.float32]:
        """A copy of a camera's maps [C, H/4, W/4]."""
        ...

    def read_slot(self, camera: int, slot: int) -> tuple[NDArray, NDArray]:
        """Copies of a slot's key [HW, Ck] and value [HW, Cv]."""
        ...

    def addresses(self) -> dict[str, int]:
        """Device address of every buffer, by name; the same numbers for as long as the backend is open."""
        ...

    def close(self) -> None:
        """Release everything; may be called twice, and from any thread while no other method runs."""


def batch_of(cameras: Mapping[int, object], size: int) -> int:
    """The one batch of this size that all cameras are in."""
    (batch,) = {camera // size for camera in cameras}
    return batch


def named_addresses(shared: Mapping[str, int], cameras: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """What ``addresses`` gives: tensors that the cameras share by their names, those of a camera as "name/camera"."""
    own = {
        f"{name}/{camera}": address
        for camera, addresses in enumerate(cameras)
        for name, address in addresses.items()
        if name not in shared
    }
    return {**shared, **own}
