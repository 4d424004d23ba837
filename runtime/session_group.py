"""Sessions that step together: many cameras on one device, batched if the bundle was exported for batches."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from runtime.camera import Camera, Thresholds
from runtime.stages import Stages
from stm_skeletons.bundle import Bundle, BundleInfo
from stm_skeletons.errors import BackendError, SessionError
from stm_skeletons.geometry import check_frame
from stm_skeletons.parts import Parts
from stm_skeletons.people import People

MOST_CAMERAS = 64
Frames = Mapping[int, NDArray[np.uint8]]
"""Images by camera."""


class SessionGroup:
    """Detects the parts of all people in the frames of several cameras, with a memory for each camera.

    The weights are loaded once. Each camera gives the same results as in its own ``Session``. Cameras are numbered from
    0. A bundle exported with ``--batch B`` encodes the frames of B cameras in one run: cameras 0 to B - 1, and so on; a
    run takes the same time if some of them have no frame.

    Use a group from one thread. All buffers are allocated when it opens.
    """

    def __init__(self, bundle: Bundle, backend: Backend, thresholds: Thresholds, cameras: int) -> None:
        """Use ``SessionGroup.open`` instead."""
        self.info: BundleInfo = bundle.info
        self._backend: Backend | None = backend
        self._cameras = [Camera(bundle.info, thresholds) for _ in range(cameras)]
        self._stages = backend.stages

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle,
        cameras: int,
        options: BackendOptions | None = None,
        min_score: float | None = None,
        min_joints: int = 0,
        min_keypoint_score: float | None = None,
    ) -> "SessionGroup":
        """Open a bundle for several cameras; other arguments and errors as for ``Session.open``."""
        if not isinstance(cameras, int) or not 1 <= cameras <= MOST_CAMERAS:
            raise SessionError(f"cameras is {cameras}, must be between 1 and {MOST_CAMERAS}")
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        thresholds = Thresholds.of(opened.info, min_score, min_joints, min_keypoint_score)
        return cls(opened, open_backend(opened, options or BackendOptions(), cameras), thresholds, cameras)

    def __len__(self) -> int:
        return len(self._cameras)

    def step(self, frames: Frames, coming: Callable[[], Frames] | None = None) -> dict[int, Parts]:
        """Detect parts and people in the next frames of some cameras, and memorise these frames.

        The other cameras' memories stay unchanged, bit for bit.

        Args:
            frames: the frame of each camera that has one, BGR uint8 [h, w, 3] of any size.
            coming: called while a device works; returns frames of the next step, possibly none. They are letterboxed
                meanwhile, and the next call must pass the same arrays, unchanged. Not for live cameras, because it
                would wait for them; no use on a CPU.

        Returns:
            The parts of each camera in ``frames``.

        Raises:
            SessionError: there is no such camera.
            FrameError: a frame is not such an array; then no frame has been processed.
            BackendError: the group is closed, or the device failed.
            Exception: of ``coming``, or of its frames; raised after this step's frames have been processed.
        """
        backend = self._opened()
        self._stages.begin()
        for camera, frame in frames.items():
            self._camera(camera)
            check_frame(frame)
        for batch in self._batches(frames):
            for camera in batch:
                self._cameras[camera].letterbox(frames[camera], backend.frame(camera))
            self._stages.done("letterbox")
            self._detect(backend, batch)
        try:
            for camera, frame in (coming() if coming else {}).items():
                check_frame(frame)
                self._camera(camera).letterbox_ahead(frame)
            self._stages.done("letterbox")
        finally:  # this step's frames are in the memory, whatever happens to the next ones
            parts = {camera: self._finish(backend, camera) for camera in frames}
        return parts

    def record(self, stages: Stages) -> None:
        """See Session.record; stages of several cameras are added up."""
        self._opened().stages = self._stages = stages

    def seed(self, camera: int, poses: ArrayLike) -> None:
        """See Session.seed. Raises SessionError if there is no such camera."""
        self._camera(camera).seed(poses)

    def reset(self, camera: int) -> None:
        """Clear a camera's memory and tracks; its next frame is a first frame. Used ids are not given again.

        Raises SessionError if there is no such camera.
        """
        self._camera(camera).reset()

    def people(self, camera: int) -> People | None:
        """See Session.people."""
        return self._camera(camera).people()

    def maps(self, camera: int) -> NDArray[np.float32]:
        """Return a copy of the maps [C, H/4, W/4] of a camera's latest frame; ``info.channels`` names them."""
        self._camera(camera)
        return self._opened().read_maps(camera)

    def slot(self, camera: int, slot: int) -> tuple[NDArray, NDArray]:
        """Return copies of key [HW, Ck] and value [HW, Cv] of a camera's slot. Raises SessionError: no such slot."""
        self._camera(camera)
        if not 0 <= slot < self.info.slots:
            raise SessionError(f"no slot {slot}: the memory has {self.info.slots} slots, numbered from 0")
        return self._opened().read_slot(camera, slot)

    def addresses(self) -> dict[str, int]:
        """Return the device address of every buffer by name; addresses are fixed while the group is open."""
        return self._opened().addresses()

    def close(self) -> None:
        """Release everything. May be called twice, and from any thread while no other method runs."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> "SessionGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _detect(self, backend: Backend, batch: Sequence[int]) -> None:
        """Queue the frames of a batch."""
        cameras = {number: self._cameras[number] for number in batch}
        if seeded := [number for number in batch if cameras[number].seeded]:
            # Encodes these frames; what they decode with an empty memory is replaced by the seed's maps.
            backend.detect(dict.fromkeys(seeded, (False,) * self.info.slots))
            for number in seeded:
                backend.write_maps(number, cameras[number].seed_maps())
            backend.memorise(dict.fromkeys(seeded, 0))
        backend.detect({number: camera.readable_slots() for number, camera in cameras.items()})
        # Queued before the results are awaited, so that it runs while the host continues.
        if others := {number: camera.write_slot() for number, camera in cameras.items() if not camera.seeded}:
            backend.memorise(others)

    def _finish(self, backend: Backend, number: int) -> Parts:
        """Return the parts found in a camera's frame."""
        found, camera = backend.results(number), self._cameras[number]
        camera.identify(found)
        self._stages.done("people")
        parts = camera.parts(found)
        self._stages.done("parts")
        return parts

    def _batches(self, cameras: Mapping[int, object]) -> list[list[int]]:
        """Group cameras by batch, in order."""
        size = self.info.batch
        by_batch: dict[int, list[int]] = {}
        for camera in sorted(cameras):
            by_batch.setdefault(camera // size, []).append(camera)
        return list(by_batch.values())

    def _camera(self, number: int) -> Camera:
        if not 0 <= number < len(self._cameras):
            raise SessionError(f"no camera {number}: the group has {len(self._cameras)}, numbered from 0")
        return self._cameras[number]

    def _opened(self) -> Backend:
        if self._backend is None:
            raise BackendError("the session is closed; open a new one")
        return self._backend
