"""People found by teachers, and the similarity of two detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import WeightsError
from stm_skeletons.parts import Parts
from stm_skeletons.skeleton import Skeleton

_BOX_MARGIN = 0.15
"""Margin of a person's box around the joints, as a share of the longer side of their extent."""
_SMALLEST_MARGIN = 0.05
"""Smallest margin as a share of the image's longer side, for people with few visible joints."""


@dataclass(frozen=True)
class Person:
    """A person in an image."""

    pose: NDArray[np.float32]
    """[NK, 3]: x, y in image pixels, and score in [0, 1]; 0 for joints that were not found."""
    box: NDArray[np.float32]
    """[4]: left, top, right, bottom in image pixels."""


class Teacher(Protocol):
    """A network that labels images."""

    skeleton: Skeleton
    description: dict[str, Any]
    """Identity of the teacher for the label file; only a teacher with the same description continues it."""
    has_memory: bool
    """Whether the result for a frame depends on earlier frames."""

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        """All people in an image (BGR [h, w, 3]), including uncertain ones."""
        ...

    def reset(self) -> None:
        """Reset the memory."""
        ...


class Info(Protocol):
    """The properties of a bundle that ``BundleTeacher`` needs; see stm_skeletons.bundle.BundleInfo."""

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
    """A model of this project as a teacher.

    Only found joints of people are labelled, not joints placed without a peak. A keypoint without a person becomes a
    person of its own, whose score is so low that it becomes an ignore region.
    """

    has_memory = True

    def __init__(self, session: BundleSession) -> None:
        """Raises WeightsError for a bundle without keypoints."""
        info = session.info
        if not info.has_keypoints:
            raise WeightsError(f"the teacher '{info.variant}' has no keypoints; use a bundle with keypoints")
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
        poses = np.where(parts.people.found[..., None], parts.people.keypoints, np.float32(0))
        unowned = np.flatnonzero(parts.owners < 0)
        single = np.zeros((len(unowned), len(parts.skeleton.joints), 3), np.float32)
        joints = np.arange(len(unowned)), parts.keypoint_types[unowned]
        single[joints] = np.column_stack([parts.keypoints, parts.keypoint_scores])[unowned]
        return [person_around(pose, parts.size) for pose in (*poses, *single) if pose[:, 2].any()]

    def reset(self) -> None:
        self._session.reset()


def person_around(pose: NDArray[np.float32], size: tuple[int, int]) -> Person:
    """The person with a pose [NK, 3] in an image of this size; the box is estimated from the found joints."""
    found = pose[pose[:, 2] > 0, :2]
    low, high = found.min(0), found.max(0)
    margin = max(_BOX_MARGIN * float((high - low).max()), _SMALLEST_MARGIN * max(size))
    box = np.concatenate([np.maximum(low - margin, 0), np.minimum(high + margin, size)])
    return Person(pose, box.astype(np.float32))


def similarity(a: Person, b: Person, skeleton: Skeleton) -> float:
    """COCO's object keypoint similarity in [0, 1], with joints weighted by the scores of both."""
    weights = np.sqrt(a.pose[:, 2] * b.pose[:, 2])
    area = max(_area(a.box), _area(b.box), 1.0)
    squares = ((a.pose[:, :2] - b.pose[:, :2]) ** 2).sum(1)
    similarities = np.exp(-squares / (2 * area * (2 * np.array(skeleton.sigmas)) ** 2))
    return float((weights * similarities).sum() / max(weights.sum(), 1e-9))


def overlap(a: Sequence[float] | NDArray, b: Sequence[float] | NDArray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    intersection = np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])
    shared = _area(intersection) if (intersection[2:] > intersection[:2]).all() else 0.0
    return shared / max(_area(first) + _area(second) - shared, 1e-9)


def _area(box: NDArray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
