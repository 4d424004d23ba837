"""Blurs heads in images that are stored or sent, before anything is drawn on them."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.parts import Parts
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton

KEPT = 2.0
"""Seconds for which a lost head stays blurred."""

_HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top", "head_bottom")
_LENGTHS = {
    ("left_eye", "right_eye"): 0.063,
    ("left_ear", "right_ear"): 0.15,
    ("nose", "left_ear"): 0.12,
    ("nose", "right_ear"): 0.12,
    ("head_top", "head_bottom"): 0.25,
    ("left_shoulder", "right_shoulder"): 0.36,
    ("left_shoulder", "left_hip"): 0.5,
    ("right_shoulder", "right_hip"): 0.5,
}
"""Distances between joints of an adult in metres. Foreshortening only shortens them, so the largest scale is right."""
_REACH = np.array([0.15, 0.17])
"""Metres from a head's centre to its sides and to its top and bottom, including hair and chin."""
_MARGIN = np.array([0.06, 0.08])
"""Smallest margin around the outermost joints of the head, in metres."""
_ABOVE_SHOULDERS = 0.28
"""Metres from the middle of the shoulders to the head's centre."""
_CELLS = 4
"""Blocks across and down a blurred head."""
_UNKNOWN = 1 / 20
"""Assumed head radius, as a share of the image height, if only one joint and nothing to scale by is known."""


@dataclass(frozen=True)
class _Head:
    """A head as an ellipse, in source pixels."""

    middle: NDArray[np.float64]
    """[2]: x, y."""
    reach: NDArray[np.float64]
    """[2]: half its width and height."""
    shoulders: NDArray[np.float64] | None
    """[2]: middle of the shoulders at that time."""
    time: float


class HeadBlur:
    """Blurs heads in consecutive frames of one camera so that faces cannot be recognised.

    A head is where its joints are, found or predicted; if none is known, above the shoulders. A lost head stays blurred
    for ``KEPT`` seconds: at its last place or, if the shoulders are visible, at its last place relative to them. Head
    joints that belong to no reported person are blurred as well. A head without any detection is not blurred.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        index = {name: i for i, name in enumerate(skeleton.joints)}
        self._head = [index[name] for name in _HEAD if name in index]
        self._shoulders = [index[name] for name in ("left_shoulder", "right_shoulder") if name in index]
        self._hips = [index[name] for name in ("left_hip", "right_hip") if name in index]
        self._lengths = [(index[a], index[b], metres) for (a, b), metres in _LENGTHS.items() if {a, b} <= index.keys()]
        self._kept: dict[int, _Head] = {}
        self._size = (0, 0)
        self._now = 0.0

    def blur(self, image: NDArray[np.uint8], parts: Parts, now: float) -> NDArray[np.uint8]:
        """Return a copy of an image with its heads blurred.

        Args:
            image: BGR uint8 [h, w, 3], the frame or a resized copy of it.
            parts: parts found in the frame, in source pixels.
            now: the frame's time in seconds, on any clock; if it goes backwards, lost heads are forgotten.
        """
        if now < self._now or parts.size != self._size:
            self._kept.clear()
        self._now, self._size = now, parts.size
        heads = self._heads(parts.people)
        reaches = np.array([head.reach for head in heads] or [[parts.size[1] * _UNKNOWN] * 2])
        loose = parts.keypoints[(parts.owners < 0) & np.isin(parts.keypoint_types, self._head)]
        usual = np.sort(reaches, axis=0)[len(reaches) // 2]
        heads += [_Head(point.astype(float), usual, None, now) for point in loose]
        scale = np.array(image.shape[1::-1]) / parts.size
        blurred = image.copy()
        for head in heads:
            _blur(blurred, head.middle * scale, head.reach * scale)
        return blurred

    def _heads(self, people: People) -> list[_Head]:
        """Heads of all people, including recently lost ones."""
        heads = []
        for number, joints in zip(people.ids.tolist(), people.keypoints.astype(float), strict=True):
            head = self._head_of(joints, self._kept.get(number))
            if head is not None and number:
                self._kept[number] = head
            elif head is not None:
                heads.append(head)
        self._kept = {number: head for number, head in self._kept.items() if self._now - head.time <= KEPT}
        return heads + list(self._kept.values())

    def _head_of(self, joints: NDArray[np.float64], before: _Head | None) -> _Head | None:
        """Return the head of a person [NK, 3]; None if neither head nor shoulders are known."""
        points, shoulders = _known(joints, self._head), _known(joints, self._shoulders)
        between = shoulders.mean(axis=0) if len(shoulders) else None
        if len(points):
            low, high, scale = points.min(axis=0), points.max(axis=0), self._scale(joints)
            reach = np.maximum(_REACH * scale, (high - low) / 2 + _MARGIN * scale)
            return _Head((low + high) / 2, reach, between, self._now)
        if between is None:
            return None
        if before is not None and before.shoulders is not None:
            return replace(before, middle=before.middle + between - before.shoulders, shoulders=between, time=self._now)
        scale = self._scale(joints)
        up = self._upwards(joints, between)
        # With one known shoulder the head may be on either side of it.
        reach = _REACH * scale * (1.3 if len(shoulders) == 2 else 2)
        return _Head(between + up * _ABOVE_SHOULDERS * scale, reach, between, self._now)

    def _upwards(self, joints: NDArray[np.float64], between: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit vector from the hips to the shoulders; up in the image if no hip is known."""
        hips = _known(joints, self._hips)
        way = between - hips.mean(axis=0) if len(hips) else np.zeros(2)
        length = math.hypot(*way)
        return way / length if length > 0 else np.array([0.0, -1.0])

    def _scale(self, joints: NDArray[np.float64]) -> float:
        """Pixels per metre at this person."""
        known = joints[:, 2] > 0
        scales = [
            math.dist(joints[a, :2], joints[b, :2]) / metres for a, b, metres in self._lengths if known[a] and known[b]
        ]
        return max(scales, default=self._size[1] * _UNKNOWN / float(_REACH[1])) or 1.0


def _known(joints: NDArray[np.float64], which: list[int]) -> NDArray[np.float64]:
    """[n, 2]: the known ones of these joints [NK, 3]."""
    chosen = joints[which]
    return chosen[chosen[:, 2] > 0, :2]


def _blur(image: NDArray[np.uint8], middle: NDArray[np.float64], reach: NDArray[np.float64]) -> None:
    """Blur an ellipse of an image in place."""
    low = np.clip(np.floor(middle - reach), 0, image.shape[1::-1]).astype(int)
    high = np.clip(np.ceil(middle + reach), 0, image.shape[1::-1]).astype(int)
    if (high <= low).any():
        return
    part = image[low[1] : high[1], low[0] : high[0]]
    # At the image's edge less of the head is visible: use fewer blocks, so that they do not shrink.
    cells = np.clip(np.round(_CELLS * (high - low) / (2 * reach)), 1, high - low).astype(int).tolist()
    few = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    many = cv2.resize(few, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR)
    y, x = np.ogrid[low[1] : high[1], low[0] : high[0]]
    inside = ((x + 0.5 - middle[0]) / reach[0]) ** 2 + ((y + 0.5 - middle[1]) / reach[1]) ** 2 <= 1
    part[inside] = many[inside]
