"""A group of sessions that step together: many cameras on one device, batched where the bundle was exported so."""

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
    """Detects the parts of all people in the frames of several cameras, remembering earlier frames of each.

    The weights are loaded once, each camera has a memory of its own, and what a camera gives is what it would give in a
    ``Session`` of its own. Cameras are numbered from 0. A bundle exported with ``--batch B`` encodes the frames of B
    cameras in one run: cameras 0 to B - 1, and so on; where some of them are absent, that takes as long all the same.

    Use it from one thread. Everything is allocated when it opens; stepping allocates nothing for the memory.
    """

    def __init__(self, bundle: Bundle, backend: Backend, thresholds: Thresholds, cameras: int) -> None:
        """Most users want ``SessionGroup.open``."""
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
        """Open a bundle for so many cameras; the other arguments and what is raised are those of ``Session.open``."""
        if not isinstance(cameras, int) or not 1 <= cameras <= MOST_CAMERAS:
            raise SessionError(f"{cameras} cameras: a group has 1 to {MOST_CAMERAS}")
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        thresholds = Thresholds.of(opened.info, min_score, min_joints, min_keypoint_score)
        return cls(opened, open_backend(opened, options or BackendOptions(), cameras), thresholds, cameras)

    def __len__(self) -> int:
        return len(self._cameras)

    def step(self, frames: Frames, coming: Callable[[], Frames] | None = None) -> dict[int, Parts]:
        """Detect the parts in the next frame of some cameras, and memorise these frames.

        The other cameras keep their memory as it is, bit for bit.

        Args:
            frames: for each camera that has one its frame, BGR uint8 [h, w, 3] of any size.
            coming: called while a device works, for frames of the next step if there are any. These are letterboxed
                meanwhile, and must be the same arrays then, unchanged. Not for live cameras: it would wait for them. Of
                no use on a CPU.

        Returns:
            The parts of each of these cameras.

        Raises:
            SessionError: no such camera.
            FrameError: not such an array; nobody's frame has been taken then.
            BackendError: the group is closed, or the device failed.

            What ``coming`` raises, and what is wrong with its frames: then the frames of this step have been taken.
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
        finally:  # whatever becomes of the next frames: these are in the memory
            parts = {camera: self._finish(backend, camera) for camera in frames}
        return parts

    def record(self, stages: Stages) -> None:
        """See Session.record; what stages of several cameras take adds up."""
        self._opened().stages = self._stages = stages

    def seed(self, camera: int, poses: ArrayLike) -> None:
        """See Session.seed; SessionError: no such camera."""
        self._camera(camera).seed(poses)

    def reset(self, camera: int) -> None:
        """Forget everything of a camera; its next frame is the first. Ids that people had are not given again.

        Raises SessionError: no such camera.
        """
        self._camera(camera).reset()

    def people(self, camera: int) -> People | None:
        """See Session.people."""
        return self._camera(camera).people()

    def maps(self, camera: int) -> NDArray[np.float32]:
        """A copy of the maps [C, H/4, W/4] of a camera's latest frame; ``info.channels`` names them."""
        self._camera(camera)
        return self._opened().read_maps(camera)

    def slot(self, camera: int, slot: int) -> tuple[NDArray, NDArray]:
        """Copies of the key [HW, Ck] and value [HW, Cv] of a camera's slot. Raises SessionError: no such slot."""
        self._camera(camera)
        if not 0 <= slot < self.info.slots:
            raise SessionError(f"there is no slot {slot}: the memory has {self.info.slots}, from 0 on")
        return self._opened().read_slot(camera, slot)

    def addresses(self) -> dict[str, int]:
        """Device address of every buffer, by name: they never change while the group is open."""
        return self._opened().addresses()

    def close(self) -> None:
        """Release everything; may be called twice, and from any thread while no other method runs."""
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
            # The query tensors of these frames are wanted; what they give with an empty memory is replaced.
            backend.detect(dict.fromkeys(seeded, (False,) * self.info.slots))
            for number in seeded:
                backend.write_maps(number, cameras[number].seed_maps())
            backend.memorise(dict.fromkeys(seeded, 0))
        backend.detect({number: camera.readable_slots() for number, camera in cameras.items()})
        # Queued before the results are waited for: it runs while the host goes on.
        if others := {number: camera.write_slot() for number, camera in cameras.items() if not camera.seeded}:
            backend.memorise(others)

    def _finish(self, backend: Backend, number: int) -> Parts:
        """What was found in a camera's frame."""
        found, camera = backend.results(number), self._cameras[number]
        camera.identify(found)
        self._stages.done("people")
        parts = camera.parts(found)
        self._stages.done("parts")
        return parts

    def _batches(self, cameras: Mapping[int, object]) -> list[list[int]]:
        """The cameras by batch, in order."""
        size = self.info.batch
        by_batch: dict[int, list[int]] = {}
        for camera in sorted(cameras):
            by_batch.setdefault(camera // size, []).append(camera)
        return list(by_batch.values())

    def _camera(self, number: int) -> Camera:
        if not 0 <= number < len(self._cameras):
            raise SessionError(f"there is no camera {number}: the group has {len(self._cameras)}, from 0 on")
        return self._cameras[number]

    def _opened(self) -> Backend:
        if self._backend is None:
            raise BackendError("the session is closed; open a new one")
        return self._backend
