"""Overlays: people (one colour each), parts (coloured by side), or maps."""

import colorsys
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.blur import HeadBlur
from runtime.frames import Frame
from runtime.overlay_people import PeoplePainter
from stm_skeletons.bundle import BundleInfo
from stm_skeletons.geometry import STRIDE, Letterbox
from stm_skeletons.parts import Parts

Draw = Literal["people", "parts", "maps"]

_LEFT, _RIGHT, _MIDDLE = (0, 140, 255), (255, 160, 30), (80, 220, 80)
"""BGR"""
_OUTLINE = (20, 20, 20)
_SUBPIXEL_BITS = 4
_DIMMED = 0.6
"""Brightness of the frame under maps."""
_MASK_COLOUR = (150, 110, 40)
_MASK_SHARE = 0.5
"""Opacity of the mask where its value is 1."""


class MapSource(Protocol):
    """Provides the maps of the latest frame, see runtime.Session."""

    @property
    def info(self) -> BundleInfo: ...
    def maps(self) -> NDArray[np.float32]: ...


class Painter:
    """Draws on consecutive frames of one source, because people leave trails.

    Several outputs may share a painter: a frame is drawn only once.
    """

    def __init__(self, draw: Draw = "people", blur_heads: bool = False) -> None:
        """``blur_heads``: blur heads before drawing, see HeadBlur."""
        self.source_of_maps: MapSource | None = None
        """Must be set before maps are drawn."""
        self._draw = draw
        self._people = PeoplePainter()
        self._blur_heads = blur_heads
        self._heads: HeadBlur | None = None
        self._latest: tuple[Frame, NDArray[np.uint8]] | None = None

    def paint(self, frame: Frame, parts: Parts, everybody: Parts | None = None) -> NDArray[np.uint8]:
        """Return a copy of the frame's image (BGR [h, w, 3]) with the parts drawn on it; do not modify it.

        ``everybody``: people whose heads are blurred, if more were found than are drawn.
        """
        if self._latest is None or self._latest[0] is not frame:
            self._latest = frame, self._painted(self._shown(frame, everybody or parts), parts)
        return self._latest[1]

    def _shown(self, frame: Frame, parts: Parts) -> NDArray[np.uint8]:
        """The frame's image, or a copy with blurred heads."""
        if not self._blur_heads:
            return frame.image
        if self._heads is None or frame.resets_memory:
            self._heads = HeadBlur(parts.skeleton)
        return self._heads.blur(frame.image, parts, frame.time if frame.arrived is None else frame.arrived)

    def _painted(self, image: NDArray[np.uint8], parts: Parts) -> NDArray[np.uint8]:
        if self._draw == "people":
            return self._people.paint(image, parts)
        if self._draw == "maps" and self.source_of_maps is not None:
            return draw_maps(image, self.source_of_maps.maps(), self.source_of_maps.info)
        return draw_parts(image, parts)


def draw_parts(image: NDArray[np.uint8], parts: Parts) -> NDArray[np.uint8]:
    """Return a copy of ``image`` (BGR uint8 [h, w, 3]) with all parts drawn on it, whether or not they have a person.

    Edges are lines, keypoints discs; left is orange, right blue, the middle green.
    """
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


def draw_maps(image: NDArray[np.uint8], maps: NDArray[np.float32], info: BundleInfo) -> NDArray[np.uint8]:
    """Return a dimmed copy of ``image`` (BGR uint8 [h, w, 3]) with the maps of the same frame over it.

    Each joint has its own hue; the mask is a veil. Networks without keypoint maps show the maps they have.
    Args:
        image: the frame.
        maps: [C, H/4, W/4] in [0, 1].
        info: the bundle's; gives the channels' names and the network's input size.
    """
    shown = [i for i, name in enumerate(info.channels) if name in info.skeleton.joints]
    shown = shown or [i for i, name in enumerate(info.channels) if name != "mask"]
    hues = [colorsys.hsv_to_rgb(place / len(shown), 0.9, 1)[::-1] for place in range(len(shown))]
    # Only the strongest map of each cell, because many weak ones would add up to something visible.
    sure = maps[shown].max(axis=0)[..., None].clip(0, 1)
    light = sure * np.array(hues, np.float32)[maps[shown].argmax(axis=0)] * 255
    veil = np.zeros_like(sure)
    if "mask" in info.channels:
        veil = maps[info.channels.index("mask")][..., None].clip(0, 1) * _MASK_SHARE * (1 - sure)
    cover = sure + veil
    light += veil * np.array(_MASK_COLOUR, np.float32)
    size = image.shape[1], image.shape[0]
    left_over = _as_large_as(size, np.repeat(255 * _DIMMED * (1 - cover), 3, axis=2), info.size)
    dimmed = cv2.multiply(image, left_over, scale=1 / 255)
    return np.asarray(cv2.add(dimmed, _as_large_as(size, light, info.size)), np.uint8)


def _as_large_as(size: tuple[int, int], maps: NDArray, network: tuple[int, int]) -> NDArray[np.uint8]:
    """Resample maps [h, w, 3] in [0, 255] onto a frame of this (width, height)."""
    left, top, width, height = Letterbox(size, network).inner
    # Pixels to pixels, with OpenCV's (0, 0) at the first pixel's centre: undoes the letterbox in one step.
    x, y = width / size[0] / STRIDE, height / size[1] / STRIDE
    back = np.array([[x, 0, left / STRIDE + (x - 1) / 2], [0, y, top / STRIDE + (y - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpAffine(maps.astype(np.uint8), back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(large, np.uint8)


def _colour(joint: str) -> tuple[int, int, int]:
    return _LEFT if joint.startswith("left_") else _RIGHT if joint.startswith("right_") else _MIDDLE


def _fixed_point(points: NDArray) -> list[tuple[int, int]]:
    # OpenCV's (0, 0) is the first pixel's centre; ours is its corner.
    return [(int(x), int(y)) for x, y in np.round((points - 0.5) * (1 << _SUBPIXEL_BITS))]
