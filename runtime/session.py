"""A session: one camera, frames in, parts out."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.backends import BackendOptions
from runtime.session_group import SessionGroup
from runtime.stages import Stages
from stm_skeletons.bundle import Bundle, BundleInfo
from stm_skeletons.parts import Parts
from stm_skeletons.people import People

_log = logging.getLogger("stm_skeletons")


class Session:
    """Detects the parts of all people in the frames of one camera, remembering earlier frames.

    Use it from one thread. Everything is allocated when it opens; stepping allocates nothing for the memory.
    Frames may change size at any time: the memory lives in the network's own geometry and stays. Where several cameras
    share a device, see SessionGroup.
    """

    def __init__(self, group: SessionGroup) -> None:
        """Most users want ``Session.open``. ``group``: of one camera."""
        self._group = group
        self.info: BundleInfo = group.info

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
        group = SessionGroup.open(bundle, 1, options, min_score, min_joints, min_keypoint_score)
        if group.info.batch > 1:
            _log.warning(
                "this bundle encodes the frames of %d cameras at once: one alone takes as long as all; export without "
                "--batch",
                group.info.batch,
            )
        return cls(group)

    def step(self, frame: NDArray[np.uint8], coming: Callable[[], NDArray[np.uint8] | None] | None = None) -> Parts:
        """Detect the parts in the next frame and the people they belong to, and memorise it.

        Args:
            frame: BGR uint8 [h, w, 3] of any size.
            coming: called while a device works, for the next frame if there is one. That is letterboxed meanwhile, and
                must be the same array in the next call, unchanged. Not for live cameras: it would wait for them. Of no
                use on a CPU. What it raises comes when this frame has been taken.

        Raises:
            FrameError: not such an array.
            BackendError: the session is closed, or the device failed.
        """
        if coming is None:
            return self._group.step({0: frame})[0]

        def by_camera() -> dict[int, NDArray[np.uint8]]:
            following = coming()
            return {} if following is None else {0: following}

        return self._group.step({0: frame}, by_camera)[0]

    def record(self, stages: Stages) -> None:
        """Have the stages of the next frames recorded, or no longer: ``Stages()`` records nothing.

        Frames whose stages are recorded take longer on a GPU, which is waited for after each stage.

        Raises:
            BackendError: the session is closed.
        """
        self._group.record(stages)

    def seed(self, poses: ArrayLike) -> None:
        """Start anew: the next frame is the first, and these are the people in it.

        They are memorised with that frame in slot 0, which is kept; the frame's parts are then read with it.

        Args:
            poses: [people, NK, 3]: x, y in pixels of the next frame, and visibility (0: not there, > 0: there), in the
                order of ``info.skeleton.joints``.

        Raises:
            SeedError: another shape, nobody in it, or coordinates that cannot be.
        """
        self._group.seed(0, poses)

    def reset(self) -> None:
        """Forget everything; the next frame is the first. Ids that people had are not given again."""
        self._group.reset(0)

    def people(self) -> People | None:
        """Everybody in the latest frame, whatever ``min_score`` and ``min_joints`` are, in network pixels; None for a
        network without people."""
        return self._group.people(0)

    def maps(self) -> NDArray[np.float32]:
        """A copy of the maps [C, H/4, W/4] of the latest frame; ``info.channels`` names them."""
        return self._group.maps(0)

    def slot(self, slot: int) -> tuple[NDArray, NDArray]:
        """Copies of a slot's key [HW, Ck] and value [HW, Cv]."""
        return self._group.slot(0, slot)

    def addresses(self) -> dict[str, int]:
        """Device address of every buffer, by name: they never change while the session is open."""
        return self._group.addresses()

    def close(self) -> None:
        """Release everything; may be called twice, and from any thread while no other method runs."""
        self._group.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
