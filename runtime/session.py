"""A session: one camera; takes frames, returns parts."""

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
    """Detects the parts of all people in the frames of one camera, with a memory of earlier frames.

    Use a session from one thread. All buffers are allocated when it opens. The frame size may change at any time,
    because the memory uses the network's geometry. For several cameras on one device, see SessionGroup.
    """

    def __init__(self, group: SessionGroup) -> None:
        """Use ``Session.open`` instead. ``group`` must have one camera."""
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
            bundle: a bundle's folder, the name of a shipped model ("edge"), or an opened bundle.
            options: backend and its options; by default the fastest installed CPU backend.
            min_score: lowest score of a reported person, overriding the bundle's threshold.
            min_joints: fewest found joints of a reported person.
            min_keypoint_score: lowest score of reported keypoints and edges, with or without a person, overriding the
                bundle's thresholds.

        Raises:
            SessionError: a score is outside [0, 1], or ``min_joints`` exceeds the joints of a person.
            BundleError: there is no such bundle, or it is damaged.
            BackendError: the backend or provider is unknown or cannot run here; there is no silent fallback.
            EngineError: there are no engines of this bundle for this machine.
        """
        group = SessionGroup.open(bundle, 1, options, min_score, min_joints, min_keypoint_score)
        if group.info.batch > 1:
            _log.warning(
                "this bundle encodes frames of %d cameras at once, so a single camera takes as long as all; export "
                "without --batch",
                group.info.batch,
            )
        return cls(group)

    def step(self, frame: NDArray[np.uint8], coming: Callable[[], NDArray[np.uint8] | None] | None = None) -> Parts:
        """Detect the parts and people in the next frame, and memorise it.

        Args:
            frame: BGR uint8 [h, w, 3] of any size.
            coming: called while a device works; returns the next frame or None. That frame is letterboxed meanwhile,
                and the next call must pass the same array, unchanged. Not for live cameras, because it would wait for
                them; no use on a CPU. Its exceptions are raised after this frame has been processed.

        Raises:
            FrameError: ``frame`` is not such an array.
            BackendError: the session is closed, or the device failed.
        """
        if coming is None:
            return self._group.step({0: frame})[0]

        def by_camera() -> dict[int, NDArray[np.uint8]]:
            following = coming()
            return {} if following is None else {0: following}

        return self._group.step({0: frame}, by_camera)[0]

    def record(self, stages: Stages) -> None:
        """Record the stages of the next frames, or stop with ``Stages()``, which records nothing.

        Recording slows frames down on a GPU, because the host waits after each stage.

        Raises:
            BackendError: the session is closed.
        """
        self._group.record(stages)

    def seed(self, poses: ArrayLike) -> None:
        """Reset, and seed the next frame with the people in it.

        The poses are memorised with that frame in slot 0, which is kept, and the frame's parts are read with it.

        Args:
            poses: [people, NK, 3]: x, y in pixels of the next frame, and visibility (0: absent, > 0: present); joints
                in the order of ``info.skeleton.joints``.

        Raises:
            SeedError: the shape is wrong, no joint is visible, or coordinates are non-finite or out of range.
        """
        self._group.seed(0, poses)

    def reset(self) -> None:
        """Clear the memory and all tracks; the next frame is a first frame. Used ids are not given again."""
        self._group.reset(0)

    def people(self) -> People | None:
        """Return all people in the latest frame, ignoring ``min_score`` and ``min_joints``, in network pixels; None for
        a network without people."""
        return self._group.people(0)

    def maps(self) -> NDArray[np.float32]:
        """Return a copy of the maps [C, H/4, W/4] of the latest frame; ``info.channels`` names them."""
        return self._group.maps(0)

    def slot(self, slot: int) -> tuple[NDArray, NDArray]:
        """Return copies of a slot's key [HW, Ck] and value [HW, Cv]."""
        return self._group.slot(0, slot)

    def addresses(self) -> dict[str, int]:
        """Return the device address of every buffer by name; addresses are fixed while the session is open."""
        return self._group.addresses()

    def close(self) -> None:
        """Release everything. May be called twice, and from any thread while no other method runs."""
        self._group.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
