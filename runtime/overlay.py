"""Draws parts on a frame: edges as lines, keypoints as discs; left is orange, right is blue, the middle is green."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.parts import Parts

_LEFT, _RIGHT, _MIDDLE = (0, 140, 255), (255, 160, 30), (80, 220, 80)
"""BGR"""
_OUTLINE = (20, 20, 20)
_SUBPIXEL_BITS = 4


def draw_parts(image: NDArray[np.uint8], parts: Parts) -> NDArray[np.uint8]:
    """A copy of ``image`` (BGR uint8 [h, w, 3]) with the parts of the same frame drawn on it."""
    canvas = image.copy()
    radius = max(3, round(min(parts.size) / 200))
    joints = parts.skeleton.joints
    for kind, (a, b) in zip(parts.edge_types, parts.edge_ends, strict=True):
        first, second = (joints[i] for i in parts.skeleton.edges[kind])
        colour = _colour(first) if _colour(first) == _colour(second) else _MIDDLE
        ends = _fixed_point(parts.keypoints[[a, b]])
        cv2.line(canvas, ends[0], ends[1], colour, max(1, radius - 1), cv2.LINE_AA, _SUBPIXEL_BITS)
    for kind, point in zip(parts.keypoint_types, _fixed_point(parts.keypoints), strict=True):
        scaled = radius << _SUBPIXEL_BITS
        cv2.circle(canvas, point, scaled, _colour(joints[kind]), cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
        if radius > 3:  # on small frames the outline would hide the disc
            cv2.circle(canvas, point, scaled, _OUTLINE, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def _colour(joint: str) -> tuple[int, int, int]:
    return _LEFT if joint.startswith("left_") else _RIGHT if joint.startswith("right_") else _MIDDLE


def _fixed_point(points: NDArray) -> list[tuple[int, int]]:
    # OpenCV draws with (0, 0) at the centre of the first pixel; our (0, 0) is its corner.
    return [(int(x), int(y)) for x, y in np.round((points - 0.5) * (1 << _SUBPIXEL_BITS))]
