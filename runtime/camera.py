"""A session's host-side state of one camera: frame number, letterbox, seed and people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stm_skeletons.bundle import BundleInfo
from stm_skeletons.detections import Detections
from stm_skeletons.errors import SeedError, SessionError
from stm_skeletons.geometry import MAX_COORDINATE, Letterbox
from stm_skeletons.identity import Identities
from stm_skeletons.maps import render_maps, select_channels
from stm_skeletons.memory_policy import newest_slot, readable_slots, write_slot
from stm_skeletons.parts import Parts, assemble_parts
from stm_skeletons.people import People, no_people


@dataclass(frozen=True)
class Thresholds:
    """Thresholds for reported people and parts."""

    person: float
    min_joints: int
    keypoint: float
    edge: float

    @classmethod
    def of(
        cls, info: BundleInfo, min_score: float | None, min_joints: int, min_keypoint_score: float | None
    ) -> "Thresholds":
        """Return a bundle's thresholds with the given overrides. Raises SessionError."""
        joints = len(info.skeleton.joints)
        if not 0 <= min_joints <= joints:
            raise SessionError(f"min_joints is {min_joints}, must be between 0 and {joints}, the joints of a person")
        return cls(
            _share("min_score", min_score, info.person_threshold),
            min_joints,
            _share("min_keypoint_score", min_keypoint_score, info.keypoint_threshold),
            _share("min_keypoint_score", min_keypoint_score, info.edge_threshold),
        )


class Camera:
    """The state of one camera, and the host's part of its processing."""

    def __init__(self, info: BundleInfo, thresholds: Thresholds) -> None:
        self._info, self._thresholds = info, thresholds
        self._identities = Identities(info.skeleton)
        self._people = no_people(len(info.skeleton.joints))
        self._frame_number = 0
        self._letterbox = Letterbox(info.size, info.size)
        self._seed: NDArray[np.float32] | None = None
        self._ahead = np.zeros((info.height, info.width, 3), np.uint8)
        self._coming: NDArray[np.uint8] | None = None
        """The frame that has already been letterboxed into ``_ahead``."""

    @property
    def seeded(self) -> bool:
        """Whether the next frame is a first frame with seed poses."""
        return self._seed is not None

    def letterbox(self, frame: NDArray[np.uint8], network: NDArray[np.uint8]) -> None:
        """Letterbox a frame of any size into the network's input."""
        self._letterbox = self._letterbox_of(frame)
        if frame is self._coming:
            network[:] = self._ahead
        else:
            self._letterbox.apply(frame, network)
        self._coming = None

    def letterbox_ahead(self, coming: NDArray[np.uint8]) -> None:
        """Letterbox the next frame in advance. The next call must pass the same array, unchanged."""
        self._letterbox_of(coming).apply(coming, self._ahead)
        self._coming = coming

    def _letterbox_of(self, frame: NDArray[np.uint8]) -> Letterbox:
        size = frame.shape[1], frame.shape[0]
        return self._letterbox if self._letterbox.source == size else Letterbox(size, self._info.size)

    def readable_slots(self) -> tuple[bool, ...]:
        """Return which slots the frame may read; with a seed only slot 0, which holds it."""
        if self.seeded:
            return True, *(False,) * (self._info.slots - 1)
        return readable_slots(self._frame_number, self._info.slots, self._info.every)

    def write_slot(self) -> int:
        """Return the slot in which the frame is memorised."""
        return write_slot(self._frame_number, self._info.slots, self._info.every)

    def seed_maps(self) -> NDArray[np.float32]:
        """Return the maps [C, H/4, W/4] of the seed poses in the letterboxed frame."""
        assert self._seed is not None
        poses = self._seed.copy()
        poses[..., :2] = self._letterbox.to_network(poses[..., :2])
        rendered = render_maps(poses, self._info.skeleton, (self._info.height, self._info.width))
        return select_channels(rendered, self._info.skeleton, self._info.channels)

    def identify(self, found: Detections) -> None:
        """Group the detections into people, track them, and advance to the next frame."""
        if self._info.grouping != "none":
            newest = newest_slot(self._frame_number, self._info.slots, self._info.every)
            self._people = self._identities.update(found, newest)
        self._seed = None
        self._frame_number += 1

    def parts(self, found: Detections) -> Parts:
        """Return the reported parts of the frame, in source pixels."""
        limits, everybody = self._thresholds, self._people
        in_source = found.peaks.copy()
        in_source[..., :2] = self._letterbox.to_source(found.peaks[..., :2])
        enough = (everybody.scores >= limits.person) & (everybody.found.sum(1) >= limits.min_joints)
        people = everybody.chosen(enough)
        return assemble_parts(
            self._info.skeleton,
            self._letterbox.source,
            in_source,
            found.edge_scores,
            people.placed(self._letterbox.to_source(people.keypoints[..., :2])),
            limits.keypoint,
            limits.edge,
        )

    def seed(self, poses: ArrayLike) -> None:
        """See Session.seed."""
        array = np.asarray(poses, np.float32)
        joints = len(self._info.skeleton.joints)
        if array.ndim != 3 or array.shape[1:] != (joints, 3):
            raise SeedError(f"seed poses must have shape [people, {joints}, 3], not {list(array.shape)}")
        if not (np.abs(array) <= MAX_COORDINATE).all():  # also catches NaN
            raise SeedError("seed poses contain non-finite or out-of-range coordinates")
        if not (array[..., 2] > 0).any():
            raise SeedError("seed poses contain no person with a visible joint")
        self.reset()
        self._seed = array.copy()

    def reset(self) -> None:
        """Clear the memory and all tracks; the next frame is a first frame. Used ids are not given again."""
        self._frame_number = 0
        self._seed = None
        self._identities.reset()
        self._people = no_people(len(self._info.skeleton.joints))

    def people(self) -> People | None:
        """Return all people in the latest frame, in network pixels; None for a network without people."""
        return None if self._info.grouping == "none" else self._people


def _share(name: str, given: float | None, otherwise: float) -> float:
    if given is None:
        return otherwise
    if not 0 <= given <= 1:  # also catches NaN
        raise SessionError(f"{name} is {given}, must be between 0 and 1")
    return given
