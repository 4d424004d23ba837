"""People as teachers see them, and how alike two sightings are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import WeightsError
from stm_skeletons.parts import Parts
from stm_skeletons.skeleton import Skeleton

_BOX_MARGIN = 0.15
"""Share of the longer side of the joints' extent that a person reaches beyond them."""
_SMALLEST_MARGIN = 0.05
"""The same as a share of the picture's longer side, for those of whom few joints are seen."""


@dataclass(frozen=True)
class Person:
    """One person of one picture."""

    pose: NDArray[np.float32]
    """[NK, 3]: x, y in picture pixels, and score in [0, 1]; 0 for joints that were not found."""
    box: NDArray[np.float32]
    """[4]: left, top, right, bottom in picture pixels."""


class Teacher(Protocol):
    """A network that labels pictures."""

    skeleton: Skeleton
    description: dict[str, Any]
    """What it is, for the file; labels are only continued by a teacher of the same description."""
    remembers: bool
    """Whether what it says about a frame depends on the frames before."""

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        """Everybody in a picture (BGR [h, w, 3]), also those it is unsure of."""
        ...

    def forget(self) -> None:
        """Begin as if no picture had been seen."""
        ...


class Info(Protocol):
    """What ``BundleTeacher`` needs to know of a bundle; see stm_skeletons.bundle.BundleInfo."""

    @property
    def skeleton(self) -> Skeleton: ...
    @property
    def variant(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def has_keypoints(self) -> bool: ...


class BundleSession(Protocol):
    """See runtime.Session."""

    @property
    def info(self) -> Info: ...
    def step(self, frame: NDArray[np.uint8], /) -> Parts: ...
    def reset(self) -> None: ...


class BundleTeacher:
    """A model of this project.

    Of the people it reports, joints that were found are labelled, not those that were only placed. A keypoint of nobody
    is a person of its own: too little to be labelled, it becomes an ignore region.
    """

    remembers = True

    def __init__(self, session: BundleSession) -> None:
        """Raises WeightsError for a bundle without keypoints."""
        info = session.info
        if not info.has_keypoints:
            raise WeightsError(f"this bundle ('{info.variant}') gives no keypoints; label with one that does")
        self.skeleton = info.skeleton
        self.description = {
            "kind": "bundle",
            "variant": info.variant,
            "size": list(info.size),
            "weights_sha256": info.weights_sha256,
        }
        self._session = session

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        parts = self._session.step(image)
        of_people = np.where(parts.people.found[..., None], parts.people.keypoints, np.float32(0))
        nobodys = np.flatnonzero(parts.owners < 0)
        alone = np.zeros((len(nobodys), len(parts.skeleton.joints), 3), np.float32)
        joints = np.arange(len(nobodys)), parts.keypoint_types[nobodys]
        alone[joints] = np.column_stack([parts.keypoints, parts.keypoint_scores])[nobodys]
        return [person_around(pose, parts.size) for pose in (*of_people, *alone) if pose[:, 2].any()]

    def forget(self) -> None:
        self._session.reset()


def person_around(pose: NDArray[np.float32], size: tuple[int, int]) -> Person:
    """The person of a pose [NK, 3] in a picture of this size, with a box around the joints that were found."""
    found = pose[pose[:, 2] > 0, :2]
    low, high = found.min(0), found.max(0)
    margin = max(_BOX_MARGIN * float((high - low).max()), _SMALLEST_MARGIN * max(size))
    box = np.concatenate([np.maximum(low - margin, 0), np.minimum(high + margin, size)])
    return Person(pose, box.astype(np.float32))


def similarity(a: Person, b: Person, skeleton: Skeleton) -> float:
    """Object keypoint similarity in [0, 1] as COCO has it, joints weighted by the scores of both."""
    weights = np.sqrt(a.pose[:, 2] * b.pose[:, 2])
    area = max(_area(a.box), _area(b.box), 1.0)
    squares = ((a.pose[:, :2] - b.pose[:, :2]) ** 2).sum(1)
    alike = np.exp(-squares / (2 * area * (2 * np.array(skeleton.sigmas)) ** 2))
    return float((weights * alike).sum() / max(weights.sum(), 1e-9))


def overlap(a: Sequence[float] | NDArray, b: Sequence[float] | NDArray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    both = np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])
    shared = _area(both) if (both[2:] > both[:2]).all() else 0.0
    return shared / max(_area(first) + _area(second) - shared, 1e-9)


def _area(box: NDArray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
