"""A contact sheet: evenly spaced labelled frames in one image, to check the labels."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from stm_skeletons.geometry import Letterbox
from stm_skeletons.skeleton import Skeleton

_MOST = 20
_COLUMNS = 4
_TILE_AREA = 480 * 300
"""Area of a tile in pixels; its aspect ratio is that of the first frame."""
_NARROWEST = 100
_COLOURS = ((80, 220, 80), (0, 140, 255), (255, 160, 30), (230, 80, 230), (60, 230, 255), (255, 230, 60), (90, 90, 255))
"""BGR colours of people; they repeat if there are more people."""
_IGNORED = (160, 160, 160)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class Drawing:
    """The labels of a frame, in its pixels."""

    poses: list[NDArray]
    """Each [NK, 3]: x, y, and 1 if labelled."""
    scores: list[float]
    """Mean score of each person."""
    tracks: list[int]
    ignored: list[NDArray]
    """Corners [n, 2] of the ignore regions."""


class ContactSheet:
    """Collects small copies of 11 to 20 evenly spaced frames (fewer for short footage) of footage of unknown length."""

    def __init__(self) -> None:
        self._frames: dict[int, tuple[tuple[int, int], NDArray[np.uint8]]] = {}
        self._tile = (0, 0)
        self._seen = 0
        self._step = 1

    @property
    def numbers(self) -> list[int]:
        """Numbers of the frames on the sheet."""
        return list(self._frames)

    def add(self, number: int, image: NDArray[np.uint8]) -> None:
        """Add the next frame (BGR [h, w, 3])."""
        size = (image.shape[1], image.shape[0])
        if not self._seen:
            scale = math.sqrt(_TILE_AREA / (size[0] * size[1]))
            self._tile = max(_NARROWEST, round(size[0] * scale)), max(_NARROWEST, round(size[1] * scale))
        if self._seen % self._step == 0:
            tile = np.empty((self._tile[1], self._tile[0], 3), np.uint8)
            Letterbox(size, self._tile).apply(image, tile)
            self._frames[number] = (size, tile)
        self._seen += 1
        if len(self._frames) > _MOST:
            self._frames = dict(list(self._frames.items())[::2])
            self._step *= 2

    def draw(self, skeleton: Skeleton, drawings: dict[int, Drawing]) -> bytes:
        """The sheet as JPEG: a colour and the mean score for each person; ignore regions are grey and crossed out."""
        tiles = []
        for number, (size, tile) in self._frames.items():
            canvas = tile.copy()
            letterbox = Letterbox(size, self._tile)
            if number in drawings:
                _draw_frame(canvas, drawings[number], skeleton, letterbox)
            _text(canvas, f"frame {number}", (6, self._tile[1] - 8), _WHITE)
            tiles.append(canvas)
        columns = min(_COLUMNS, len(tiles))
        rows = math.ceil(len(tiles) / columns)
        tiles += [np.zeros_like(tiles[0])] * (rows * columns - len(tiles))
        sheet = np.vstack([np.hstack(tiles[row * columns : (row + 1) * columns]) for row in range(rows)])
        encoded, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
        if not encoded:
            raise DataError("cannot encode the contact sheet as JPEG")
        return data.tobytes()


def _draw_frame(canvas: NDArray[np.uint8], drawing: Drawing, skeleton: Skeleton, letterbox: Letterbox) -> None:
    for corners in drawing.ignored:
        points = _pixels(corners, letterbox)
        low, high = points.min(0).tolist(), points.max(0).tolist()
        cv2.rectangle(canvas, low, high, _IGNORED, 1)
        cv2.line(canvas, low, high, _IGNORED, 1, cv2.LINE_AA)
        cv2.line(canvas, [low[0], high[1]], [high[0], low[1]], _IGNORED, 1, cv2.LINE_AA)
    for pose, score, track in zip(drawing.poses, drawing.scores, drawing.tracks, strict=True):
        colour = _COLOURS[track % len(_COLOURS)]
        labelled = pose[:, 2] > 0
        if not labelled.any():
            continue
        points = _pixels(pose[:, :2], letterbox)
        for a, b in skeleton.edges:
            if labelled[a] and labelled[b]:
                cv2.line(canvas, points[a].tolist(), points[b].tolist(), colour, 1, cv2.LINE_AA)
        for point in points[labelled].tolist():
            cv2.circle(canvas, point, 2, colour, cv2.FILLED, cv2.LINE_AA)
        left, top = points[labelled].min(0).tolist()
        _text(canvas, f"{track}: {score:.2f}", (left, max(10, top - 6)), colour)


def _pixels(xy: NDArray, letterbox: Letterbox) -> NDArray[np.int64]:
    # (0, 0) is the centre of the first pixel in OpenCV, and the corner of that pixel in our coordinates.
    return np.rint(letterbox.to_network(xy) - 0.5).astype(int)


def _text(canvas: NDArray[np.uint8], text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    for shade, thickness in ((_BLACK, 2), (colour, 1)):
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, shade, thickness, cv2.LINE_AA)
