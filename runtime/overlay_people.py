"""Draws people: a colour and id each, a trail of earlier positions, and parts without a person."""

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.parts import Parts
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton

PALETTE = (
    "99ff77", "9955ff", "00eeff", "ee2277", "ddaa22", "11ffbb",
    "dd33bb", "eeee00", "77aaff", "ff8877", "88aa33", "ee88bb",
)  # fmt: skip
"""RGB. As distinguishable as twelve colours can be, also with red-green blindness; black text is legible on each."""
TRAIL = 20
"""Length of a trail in frames."""

_COLOURS = tuple((int(text[4:], 16), int(text[2:4], 16), int(text[:2], 16)) for text in PALETTE)
_UNCONFIRMED = (215, 215, 215)
_NO_PERSON = (150, 150, 150)
_JOINT = (255, 255, 255)
_OUTLINE = (20, 20, 20)
"""BGR outline around everything, so that drawings are visible on snow and at night."""
_SUBPIXEL_BITS = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class PeoplePainter:
    """Draws people on consecutive frames. Forgets people who have been gone for the length of a trail."""

    def __init__(self) -> None:
        self._size = (0, 0)
        self._frame = 0
        self._trails: dict[int, deque[tuple[int, NDArray[np.float32]]]] = {}

    def paint(self, image: NDArray[np.uint8], parts: Parts) -> NDArray[np.uint8]:
        """Return a copy of ``image`` (BGR uint8 [h, w, 3]) with the people of the same frame drawn on it.

        Edges between known joints are drawn, thin if a joint is predicted. People without an id are light grey;
        keypoints without a person are small grey rings.
        """
        canvas = image.copy()
        people, boxes = parts.people, parts.people.boxes()
        self._follow(parts, boxes)
        widths = _widths(boxes, parts.size)
        upwards = range(len(people) - 1, -1, -1)  # best people last, on top
        for i in upwards:
            self._draw_trail(canvas, int(people.ids[i]), widths[i])
        _draw_loose_keypoints(canvas, parts)
        for i in upwards:
            _draw_person(canvas, people, i, widths[i], parts.skeleton)
        for i in upwards:
            if people.ids[i]:
                _draw_number(canvas, int(people.ids[i]), people.keypoints[i])
        return canvas

    def _follow(self, parts: Parts, boxes: NDArray[np.float32]) -> None:
        if parts.size != self._size:  # the frame size changed
            self._trails.clear()
            self._size = parts.size
        self._frame += 1
        ids = parts.people.ids.tolist()
        for number, middle in zip(ids, _middles(parts.people, boxes, parts.skeleton), strict=True):
            if number:
                self._trails.setdefault(number, deque()).append((self._frame, middle))
        for number, trail in list(self._trails.items()):
            while trail and trail[0][0] <= self._frame - TRAIL:
                trail.popleft()
            if not trail:
                del self._trails[number]

    def _draw_trail(self, canvas: NDArray[np.uint8], number: int, width: int) -> None:
        trail = self._trails.get(number, ())
        if len(trail) < 2:
            return
        points = np.array([point for _, point in trail])
        ages = np.array([[(self._frame - frame) / TRAIL] for frame, _ in trail][1:])
        # Fades into a colour sampled halfway along: blending every pixel would cost more than everything else.
        x, y = np.clip((points[:-1] + points[1:]) / 2, 0, np.array(self._size) - 1).astype(int).T
        colours = ages * canvas[y, x] + (1 - ages) * _colour(number)
        widths = np.maximum(np.round((1 - ages[:, 0]) * width), 1).astype(int)
        ends = _fixed_point(points).tolist()
        for start, end, colour, wide in zip(ends, ends[1:], colours.tolist(), widths.tolist(), strict=False):
            cv2.line(canvas, start, end, colour, wide, cv2.LINE_AA, _SUBPIXEL_BITS)


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[(number - 1) % len(_COLOURS)] if number else _UNCONFIRMED


def _widths(boxes: NDArray[np.float32], size: tuple[int, int]) -> list[int]:
    """Line width of each person in pixels: suits the frame, and is smaller for small people."""
    suits = min(size) / 240
    return [max(1, round(min(suits, extent / 50))) for extent in boxes[:, 2:].max(axis=1, initial=0).tolist()]


def _middles(people: People, boxes: NDArray[np.float32], skeleton: Skeleton) -> NDArray[np.float32]:
    """[M, 2]: centre of each person's trunk; of the box if no trunk joint is known."""
    trunk = [i for i, name in enumerate(skeleton.joints) if name.endswith(("_shoulder", "_hip"))]
    joints = people.keypoints[:, trunk]
    known = joints[..., 2:] > 0
    means = (joints[..., :2] * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known.any(axis=1), means, boxes[:, :2] + boxes[:, 2:] / 2).astype(np.float32)


def _draw_person(canvas: NDArray[np.uint8], people: People, person: int, width: int, skeleton: Skeleton) -> None:
    colour, outline = _colour(int(people.ids[person])), max(1, round(width / 3))
    xy, found = people.keypoints[person, :, :2], people.found[person]
    known = found | people.predicted[person]
    edges = np.array(skeleton.edges)
    seen = found[edges].all(axis=1)
    placed = known[edges].all(axis=1) & ~seen
    _lines(canvas, xy[edges[placed]], colour, max(1, width // 3))
    _lines(canvas, xy[edges[seen]], _OUTLINE, width + 2 * outline)
    _discs(canvas, xy[found], _OUTLINE, width + outline)
    _lines(canvas, xy[edges[seen]], colour, width)
    _discs(canvas, xy[found], colour, width)
    if width > 2:  # wide enough for the joint to be visible
        _discs(canvas, xy[found], _JOINT, width / 2)


def _draw_loose_keypoints(canvas: NDArray[np.uint8], parts: Parts) -> None:
    radius = max(2, round(min(parts.size) / 300)) << _SUBPIXEL_BITS
    width = max(1, round(min(parts.size) / 1000))
    for point in _fixed_point(parts.keypoints[parts.owners < 0]).tolist():
        cv2.circle(canvas, point, radius, _NO_PERSON, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_number(canvas: NDArray[np.uint8], number: int, joints: NDArray[np.float32]) -> None:
    """Draw the id on a plate of the person's colour above the head (or predicted head), always inside the frame."""
    text = str(number)
    short = min(canvas.shape[:2])
    scale = max(0.35, short / 1200)
    thickness = max(1, round(short / 600))
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(2, round(height / 4))
    known = joints[joints[:, 2] > 0, :2]
    (left, top), right = known.min(axis=0).tolist(), float(known[:, 0].max())
    x = min(max(round((left + right - width) / 2), margin), canvas.shape[1] - width - margin)
    y = min(max(round(top) - 3 * margin, height + margin), canvas.shape[0] - margin)
    corners = (x - margin, y - height - margin), (x + width + margin, y + margin)
    cv2.rectangle(canvas, *corners, _colour(number), cv2.FILLED)
    cv2.rectangle(canvas, *corners, _OUTLINE, max(1, thickness // 2))
    cv2.putText(canvas, text, (x, y), _FONT, scale, (0, 0, 0), thickness, cv2.LINE_AA)


def _lines(canvas: NDArray[np.uint8], segments: NDArray, colour: tuple[int, int, int], width: int) -> None:
    """Draw segments [N, 2, 2] with this line width in pixels."""
    if len(segments):
        cv2.polylines(canvas, list(_fixed_point(segments)), False, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _discs(canvas: NDArray[np.uint8], points: NDArray, colour: tuple[int, int, int], radius: float) -> None:
    for point in _fixed_point(points).tolist():
        scaled = round(radius * (1 << _SUBPIXEL_BITS))
        cv2.circle(canvas, point, scaled, colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed_point(points: NDArray) -> NDArray[np.int32]:
    # OpenCV's (0, 0) is the first pixel's centre; ours is its corner.
    return np.round((points - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
