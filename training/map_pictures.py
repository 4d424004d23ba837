"""Pictures of maps: on the frame they belong to, and side by side."""

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

GAP = 6
"""Pixels between the parts of a picture."""


def paint(frame: NDArray[np.uint8], maps: NDArray[np.float32], names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Maps over a darkened frame, each in a colour of its own.

    Args:
        frame: BGR [H, W, 3].
        maps: [C, H/4, W/4] in [0, 1].
        names: of the maps; the mask is left out where there is more than it.

    Returns:
        BGR [H, W, 3].
    """
    chosen = [i for i, name in enumerate(names) if name != "mask" or len(names) == 1]
    hues = [colorsys.hsv_to_rgb(place / len(chosen), 1, 1)[::-1] for place in range(len(chosen))]
    colours = np.array(hues, np.float32) * 255
    # The strongest map of each cell alone: many weak ones together would look like something.
    strongest = maps[chosen].argmax(axis=0)
    size = (frame.shape[1], frame.shape[0])
    colour = cv2.resize(colours[strongest], size, interpolation=cv2.INTER_NEAREST)
    confidence = cv2.resize(maps[chosen].max(axis=0), size)[..., None].clip(0, 1)
    painted = frame * np.float32(0.45) * (1 - confidence) + colour * confidence
    return painted.clip(0, 255).astype(np.uint8)


def caption(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The picture with a line of text above it."""
    strip = np.full((22, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, picture])


def grid(rows: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Pictures of one size in rows, white between them."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            top, left = y * (height + GAP), x * (width + GAP)
            sheet[top : top + height, left : left + width] = picture
    return sheet
