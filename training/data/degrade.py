"""Augmentations that make frames harder to read, so that the network learns to use its memory. Not in the paper.

The labels stay: a joint under an occluder keeps its position and is marked as hidden.
"""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.sequence import Sequence, SequenceFrame


def occlude(sequence: Sequence, first: int, random: np.random.Generator) -> Sequence:
    """A rectangle of noise moves through the frames, starting at frame ``first``.

    For an input 256 pixels high, its sides are 50 to 90 pixels long and it moves up to 18 pixels per frame; both are
    scaled for other heights.
    """
    height, width = sequence.frames[0].image.shape[:2]
    unit = height / 256
    box_width, box_height = (max(2, round(side * unit)) for side in random.uniform(50, 90, 2))
    texture = random.integers(0, 256, (box_height, box_width, 3), np.uint8)
    position = random.uniform([0, 0], [max(width - box_width, 1), max(height - box_height, 1)])
    speed = random.uniform(-18, 18, 2) * unit
    frames = list(sequence.frames)
    for number in range(first, len(frames)):
        left, top = np.rint(position + speed * (number - first)).astype(int).tolist()
        frames[number] = _cover(frames[number], texture, left, top)
    return dataclasses.replace(sequence, frames=tuple(frames))


def _cover(frame: SequenceFrame, texture: NDArray[np.uint8], left: int, top: int) -> SequenceFrame:
    height, width = texture.shape[:2]
    image = frame.image.copy()
    rows = slice(max(top, 0), max(top + height, 0))
    columns = slice(max(left, 0), max(left + width, 0))
    window = image[rows, columns]
    window[:] = texture[rows.start - top :, columns.start - left :][: window.shape[0], : window.shape[1]]
    xy = frame.poses[..., :2]
    under = (xy >= [left, top]).all(-1) & (xy < [left + width, top + height]).all(-1)
    return dataclasses.replace(frame, image=image, hidden=frame.hidden | (frame.inside & under))


def blur(frame: SequenceFrame, length: float, angle: float) -> SequenceFrame:
    """Motion blur along a line of ``length`` network pixels at ``angle`` radians."""
    size = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((size, size), np.uint8)
    half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = np.rint((size // 2 + np.array([-half, half])) * 16).astype(int).tolist()
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, shift=4)
    weights = kernel.astype(np.float32) / kernel.sum()
    return dataclasses.replace(frame, image=np.asarray(cv2.filter2D(frame.image, -1, weights), np.uint8))


def soften(frame: SequenceFrame, sigma: float) -> SequenceFrame:
    """Gaussian blur of ``sigma`` network pixels, as from a camera out of focus."""
    return dataclasses.replace(frame, image=np.asarray(cv2.GaussianBlur(frame.image, (0, 0), sigma), np.uint8))


def recolour(sequence: Sequence, strength: float, random: np.random.Generator) -> Sequence:
    """Change brightness, contrast and saturation of the whole sequence, and brightness slightly from frame to frame.

    Args:
        strength: 1 changes each by up to a half, 0 changes nothing.
    """
    contrast, saturation = 1 + strength * random.uniform(-0.5, 0.5, 2)
    brightness = strength * random.uniform(-64, 64)
    frames = []
    for frame in sequence.frames:
        grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)[..., None].astype(np.float32)
        image = grey + (frame.image - grey) * np.float32(saturation)
        shift = brightness + strength * random.uniform(-8, 8)
        image = (image - 128) * np.float32(contrast) + np.float32(128 + shift)
        frames.append(dataclasses.replace(frame, image=np.clip(np.rint(image), 0, 255).astype(np.uint8)))
    return dataclasses.replace(sequence, frames=tuple(frames))
