"""Random affine movement about the middle of the frame, in continuous coordinates (see stm_skeletons.geometry)."""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.geometry import PADDING_GREY
from stm_skeletons.strict import Exact


class Motion(Exact):
    """How far a synthetic sequence may move from one frame to the next: each is drawn between plus and minus this.

    The paper (section 2.3, Figure 3) names the transformations but gives no amounts; these are ours.
    """

    rotation: float = Field(default=3.0, ge=0, le=180)
    """Degrees."""
    scale: float = Field(default=0.03, ge=0, lt=1)
    """Relative change of size: 0.03 is from 0.97 to 1.03."""
    shear: float = Field(default=0.02, ge=0, le=1)
    """Pixels to the side for each pixel up or down, and up for each to the side."""
    shift_x: float = Field(default=8.0, ge=0)
    """Network pixels to the side in an input 448 pixels wide; in proportion for other widths."""
    shift_y: float = Field(default=6.0, ge=0)
    """Network pixels up or down in an input 256 pixels high; in proportion for other heights."""


def random_step(motion: Motion, size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """One frame's movement about the middle of a frame of ``size`` (width, height): a 3 x 3 matrix for x, y, 1."""
    angle = np.deg2rad(random.uniform(-motion.rotation, motion.rotation))
    scale = 1 + random.uniform(-motion.scale, motion.scale)
    shear = random.uniform(-motion.shear, motion.shear, 2)
    shift = random.uniform(-1, 1, 2) * [motion.shift_x * size[0] / 448, motion.shift_y * size[1] / 256]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    step = np.eye(3)
    step[:2, :2] = scale * rotation @ np.array([[1, shear[0]], [shear[1], 1]])
    middle = np.array(size) / 2
    step[:2, 2] = middle + shift - step[:2, :2] @ middle
    return step


def move_points(matrix: NDArray[np.float64], xy: NDArray) -> NDArray[np.float32]:
    """Points [..., 2] moved by a 3 x 3 matrix."""
    return (np.asarray(xy, np.float64) @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def warp(picture: NDArray[np.uint8], matrix: NDArray[np.float64], border: int = PADDING_GREY) -> NDArray[np.uint8]:
    """A picture [H, W] or [H, W, 3] moved by the matrix that moves its points; what comes into view is ``border``."""
    # OpenCV's warp has (0, 0) in the middle of the first pixel, we have it at that pixel's corner.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centred = np.linalg.inv(half) @ matrix @ half
    size = (picture.shape[1], picture.shape[0])
    value = (border,) * 3
    return np.asarray(cv2.warpAffine(picture, centred[:2], size, flags=cv2.INTER_LINEAR, borderValue=value), np.uint8)
