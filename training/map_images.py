"""Draws maps over their frames, and arranges images in grids."""

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

GAP = 6
"""Pixels between the images of a grid."""


def paint(frame: NDArray[np.uint8], maps: NDArray[np.float32], names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Maps over a darkened frame, each in its own colour.

    Args:
        frame: BGR [H, W, 3].
        maps: [C, H/4, W/4] in [0, 1].
        names: names of the maps; the mask is drawn only if it is the only map.

    Returns:
        BGR [H, W, 3].
    """
    chosen = [i for i, name in enumerate(names) if name != "mask" or len(names) == 1]
    hues = [colorsys.hsv_to_rgb(place / len(chosen), 1, 1)[::-1] for place in range(len(chosen))]
    colours = np.array(hues, np.float32) * 255
    # Only the strongest map of each cell, because many weak ones would add up.
    strongest = maps[chosen].argmax(axis=0)
    size = (frame.shape[1], frame.shape[0])
    colour = cv2.resize(colours[strongest], size, interpolation=cv2.INTER_NEAREST)
    confidence = cv2.resize(maps[chosen].max(axis=0), size)[..., None].clip(0, 1)
    painted = frame * np.float32(0.45) * (1 - confidence) + colour * confidence
    return painted.clip(0, 255).astype(np.uint8)


def caption(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The image with a line of text above it."""
    strip = np.full((22, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, image])


def grid(rows: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Images of equal size in rows, separated by white gaps."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            top, left = y * (height + GAP), x * (width + GAP)
            sheet[top : top + height, left : left + width] = image
    return sheet
