"""A session: one camera, frames in, parts out."""

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from runtime.stages import Stages
from stm_skeletons.bundle import Bundle, BundleInfo
from stm_skeletons.detections import Detections
from stm_skeletons.errors import BackendError, SeedError, SessionError
from stm_skeletons.geometry import FARTHEST, Letterbox, check_frame
from stm_skeletons.identity import Identities
from stm_skeletons.maps import render_maps, select_channels
from stm_skeletons.memory_policy import newest_slot, readable_slots, write_slot
from stm_skeletons.parts import Parts, assemble_parts
from stm_skeletons.people import People, nobody


class Session:
    """Detects the parts of all people in the frames of one camera, remembering earlier frames.

    Use it from one thread. Everything is allocated when it opens; stepping allocates nothing for the memory.
    Frames may change size at any time: the memory lives in the network's own geometry and stays.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        min_score: float | None = None,
        min_joints: int = 0,
        min_keypoint_score: float | None = None,
    ) -> None:
        """Most users want ``Session.open``, which tells what the arguments mean."""
        info = bundle.info
        self.info: BundleInfo = info
        self._backend: Backend | None = backend
        joints = len(info.skeleton.joints)
        self._person_threshold = _share("min_score", min_score, info.person_threshold)
        self._keypoint_threshold = _share("min_keypoint_score", min_keypoint_score, info.keypoint_threshold)
        self._edge_threshold = _share("min_keypoint_score", min_keypoint_score, info.edge_threshold)
        if not 0 <= min_joints <= joints:
            raise SessionError(f"min_joints {min_joints} must lie between 0 and {joints}, the joints of a person")
        self._min_joints = min_joints
        self._identities = Identities(info.skeleton)
        self._people = nobody(joints)
        self._frame_number = 0
        self._letterbox = Letterbox(self.info.size, self.info.size)
        self._seed: NDArray[np.float32] | None = None
        self._stages = backend.stages

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle,
        options: BackendOptions | None = None,
        min_score: float | None = None,
        min_joints: int = 0,
        min_keypoint_score: float | None = None,
    ) -> "Session":
        """Open a bundle.

        Args:
            bundle: folder of a bundle, name of a shipped model ("edge"), or an opened bundle.
            options: what runs it, and how; ONNX Runtime on the CPU unless given.
            min_score: report people from this score on, instead of the bundle's own threshold.
            min_joints: report people of whom at least so many joints are found.
            min_keypoint_score: report keypoints and edges, which need not be anybody's, from this score on, instead of
                the bundle's own thresholds.

        Raises:
            SessionError: a score outside [0, 1], or a number of joints that nobody has.
            BundleError: no such bundle, or it is damaged.
            BackendError: the backend or provider is unknown or cannot run here; there is no silent fall back.
            EngineError: there are no engines of this bundle for this machine.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        backend = open_backend(opened, options or BackendOptions())
        return cls(opened, backend, min_score, min_joints, min_keypoint_score)

    def step(self, frame: NDArray[np.uint8]) -> Parts:
        """Detect the parts in the next frame and the people they belong to, and memorise it.

        Args:
            frame: BGR uint8 [h, w, 3] of any size.

        Raises:
            FrameError: not such an array.
            BackendError: the session is closed, or the device failed.
        """
        backend = self._opened()
        self._stages.begin()
        check_frame(frame)
        self._fit_letterbox((frame.shape[1], frame.shape[0]))
        self._letterbox.apply(frame, backend.frame)
        self._stages.done("letterbox")
        number, slots, every = self._frame_number, self.info.slots, self.info.every
        if self._seed is None:
            backend.detect(readable_slots(number, slots, every))
            # Queued before the results are waited for: it runs while the host goes on.
            backend.memorise(write_slot(number, slots, every))
        else:
            self._memorise_seed(backend, self._seed)
            backend.detect((True,) + (False,) * (slots - 1))
        found = backend.results()
        self._seed = None
        self._frame_number += 1
        if self.info.grouping != "none":
            self._people = self._identities.update(found, newest_slot(number, slots, every))
        self._stages.done("people")
        parts = self._to_parts(found)
        self._stages.done("parts")
        return parts

    def record(self, stages: Stages) -> None:
        """Have the stages of the next frames recorded, or no longer: ``Stages()`` records nothing.

        Frames whose stages are recorded take longer on a GPU, which is waited for after each stage.

        Raises:
            BackendError: the session is closed.
        """
        self._opened().stages = self._stages = stages

    def seed(self, poses: ArrayLike) -> None:
        """Start anew: the next frame is the first, and these are the people in it.

        They are memorised with that frame in slot 0, which is kept; the frame's parts are then read with it.

        Args:
            poses: [people, NK, 3]: x, y in pixels of the next frame, and visibility (0: not there, > 0: there), in the
                order of ``info.skeleton.joints``.

        Raises:
            SeedError: another shape, nobody in it, or coordinates that cannot be.
        """
        array = np.asarray(poses, np.float32)
        joints = len(self.info.skeleton.joints)
        if array.ndim != 3 or array.shape[1:] != (joints, 3):
            raise SeedError(f"seed poses must have shape [people, {joints}, 3], not {list(array.shape)}")
        if not (np.abs(array) <= FARTHEST).all():  # False for what is no number, too
            raise SeedError("seed poses hold coordinates that are no pixels of any image")
        if not (array[..., 2] > 0).any():
            raise SeedError("seed poses hold nobody with a visible joint")
        self.reset()
        self._seed = array

    def reset(self) -> None:
        """Forget everything; the next frame is the first. Ids that people had are not given again."""
        self._frame_number = 0
        self._seed = None
        self._identities.reset()
        self._people = nobody(len(self.info.skeleton.joints))

    def people(self) -> People | None:
        """Everybody in the latest frame, whatever ``min_score`` and ``min_joints`` are, in network pixels; None for a
        network without people."""
        return None if self.info.grouping == "none" else self._people

    def maps(self) -> NDArray[np.float32]:
        """A copy of the maps [C, H/4, W/4] of the latest frame; ``info.channels`` names them."""
        return self._opened().read_maps()

    def slot(self, slot: int) -> tuple[NDArray, NDArray]:
        """Copies of a slot's key [HW, Ck] and value [HW, Cv]."""
        return self._opened().read_slot(slot)

    def addresses(self) -> dict[str, int]:
        """Device address of every buffer, by name: they never change while the session is open."""
        return self._opened().addresses()

    def close(self) -> None:
        """Release everything; may be called twice."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Backend:
        if self._backend is None:
            raise BackendError("the session is closed; open a new one")
        return self._backend

    def _fit_letterbox(self, size: tuple[int, int]) -> None:
        if self._letterbox.source != size:
            self._letterbox = Letterbox(size, self.info.size)

    def _memorise_seed(self, backend: Backend, seed: NDArray[np.float32]) -> None:
        poses = seed.copy()
        poses[..., :2] = self._letterbox.to_network(seed[..., :2])
        rendered = render_maps(poses, self.info.skeleton, (self.info.height, self.info.width))
        # The query tensors of this frame are wanted; what it detects with an empty memory is replaced.
        backend.detect((False,) * self.info.slots)
        backend.write_maps(select_channels(rendered, self.info.skeleton, self.info.channels))
        backend.memorise(0)

    def _to_parts(self, found: Detections) -> Parts:
        in_source = found.peaks.copy()
        in_source[..., :2] = self._letterbox.to_source(found.peaks[..., :2])
        everybody = self._people
        enough = (everybody.scores >= self._person_threshold) & (everybody.found.sum(1) >= self._min_joints)
        people = everybody.chosen(enough)
        return assemble_parts(
            self.info.skeleton,
            self._letterbox.source,
            in_source,
            found.edge_scores,
            people.placed(self._letterbox.to_source(people.keypoints[..., :2])),
            self._keypoint_threshold,
            self._edge_threshold,
        )


def _share(name: str, given: float | None, otherwise: float) -> float:
    if given is None:
        return otherwise
    if not 0 <= given <= 1:  # False for what is no number, too
        raise SessionError(f"{name} {given} must lie between 0 and 1")
    return given
