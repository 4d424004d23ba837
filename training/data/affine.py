"""Random affine motion about the centre of the frame, in continuous coordinates (see stm_skeletons.geometry)."""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.geometry import PADDING_GREY
from stm_skeletons.strict import Exact


class Motion(Exact):
    """Largest motion of a synthetic sequence from frame to frame. Each value is drawn between plus and minus the limit.

    The paper (section 2.3, Figure 3) names the transformations but no amounts; the defaults are ours.
    """

    rotation: float = Field(default=3.0, ge=0, le=180)
    """Rotation in degrees."""
    scale: float = Field(default=0.03, ge=0, lt=1)
    """Relative change of size; 0.03 means 0.97 to 1.03."""
    shear: float = Field(default=0.02, ge=0, le=1)
    """Horizontal shift per pixel of height, and vertical shift per pixel of width."""
    shift_x: float = Field(default=8.0, ge=0)
    """Horizontal shift in network pixels for an input 448 pixels wide; scaled for other widths."""
    shift_y: float = Field(default=6.0, ge=0)
    """Vertical shift in network pixels for an input 256 pixels high; scaled for other heights."""


def random_step(motion: Motion, size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """A frame's motion about the centre of a frame of ``size`` (width, height), as a 3 x 3 matrix for (x, y, 1)."""
    angle = np.deg2rad(random.uniform(-motion.rotation, motion.rotation))
    scale = 1 + random.uniform(-motion.scale, motion.scale)
    shear = random.uniform(-motion.shear, motion.shear, 2)
    shift = random.uniform(-1, 1, 2) * [motion.shift_x * size[0] / 448, motion.shift_y * size[1] / 256]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    step = np.eye(3)
    step[:2, :2] = scale * rotation @ np.array([[1, shear[0]], [shear[1], 1]])
    centre = np.array(size) / 2
    step[:2, 2] = centre + shift - step[:2, :2] @ centre
    return step


def move_points(matrix: NDArray[np.float64], xy: NDArray) -> NDArray[np.float32]:
    """Points [..., 2] moved by a 3 x 3 matrix."""
    return (np.asarray(xy, np.float64) @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], border: int = PADDING_GREY) -> NDArray[np.uint8]:
    """An image [H, W] or [H, W, 3] moved by the matrix that moves its points; uncovered pixels become ``border``."""
    # (0, 0) is the centre of the first pixel in OpenCV's warp, and the corner of that pixel in our coordinates.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centred = np.linalg.inv(half) @ matrix @ half
    size = (image.shape[1], image.shape[0])
    value = (border,) * 3
    return np.asarray(cv2.warpAffine(image, centred[:2], size, flags=cv2.INTER_LINEAR, borderValue=value), np.uint8)
