"""Renders people as maps: the person mask, one channel per joint, one channel per edge (paper section 2.3).

The paper prints S(p) = exp(||p - x|| / sigma), which grows with distance. We use the minus sign and the square of Cao
et al. (Realtime Multi-Person 2D Pose Estimation, equation 6), which the paper says it follows:
exp(-||p - x||^2 / sigma^2). Edges use the distance to the segment, so they spread along the line and around its ends.
Several people are merged by the maximum.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.geometry import STRIDE
from stm_skeletons.skeleton import Skeleton

SIGMA = 7.0
"""Spread of keypoints and edges, in network pixels."""

MASK_RADIUS = 0.1
"""Half width of the outline mask around edges, as a share of the diagonal of the person's visible joints."""

SKELETON_CHANNEL = "skeleton"
"""Name of the original STM's single map (paper section 3.1): the maximum over all keypoint and edge maps."""

_REACH = 3.0  # sigmas; beyond this the value is below exp(-9) = 1e-4
_FAR_OUT = 2000.0  # cells; OpenCV draws with 16-bit coordinates
_TOGETHER = 8  # segments per NumPy step


def render_maps(poses: NDArray, skeleton: Skeleton, size: tuple[int, int], sigma: float = SIGMA) -> NDArray[np.float32]:
    """Return the maps of a frame with these people.

    Args:
        poses: [people, NK, 3]: x, y in network pixels (see geometry) and visibility; 0 is absent, > 0 is present.
            People and joints may lie outside the frame.
        skeleton: gives the channels.
        size: (height, width) of the network input in pixels, multiples of 4.
        sigma: spread in network pixels.

    Returns:
        float32 [1 + NK + NE, height/4, width/4] in [0, 1]. The mask is the outline drawn from the skeleton.
    """
    poses = np.asarray(poses, np.float32).reshape(-1, len(skeleton.joints), 3)
    visible = (poses[..., 2] > 0) & np.isfinite(poses[..., :2]).all(-1)
    xy = np.where(visible[..., None], poses[..., :2], np.float32(0))
    # Exponents first, merged by maximum over people; then one exponential for all.
    maps = np.full((len(skeleton.channels), size[0] // STRIDE, size[1] // STRIDE), -np.inf, np.float32)
    first_edge = 1 + len(skeleton.joints)
    if visible.any():
        people, joints = np.nonzero(visible)
        _draw_points(maps, xy[people, joints], 1 + joints, sigma)
        pairs = np.array(skeleton.edges)
        people, edges = np.nonzero(visible[:, pairs].all(-1))
        segments = xy[people[:, None], pairs[edges]]
        _draw_segments(maps, segments, first_edge + edges, sigma)
        np.exp(maps, out=maps)
        maps[0] = _outlines(segments, _mask_radius(xy, visible, sigma)[people], maps.shape[1:])
    else:
        maps[:] = 0
    return maps


def select_channels(maps: NDArray, skeleton: Skeleton, channels: tuple[str, ...]) -> NDArray:
    """Select channels by name from maps [.., 1 + NK + NE, h, w]; see SKELETON_CHANNEL for the original STM."""
    if channels == (SKELETON_CHANNEL,):
        return maps[..., 1:, :, :].max(axis=-3, keepdims=True)
    if channels == skeleton.channels:
        return maps
    return maps[..., [skeleton.channels.index(name) for name in channels], :, :]


def _centres(maps: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x of every column and y of every row of cells, in network pixels."""
    height, width = maps.shape[1:]
    x, y = (np.asarray((np.arange(n) + 0.5) * STRIDE, np.float32) for n in (width, height))
    return x, y


def _windows(maps: NDArray, low: NDArray, high: NDArray) -> NDArray[np.int64]:
    """[N, 2] corners in network pixels to [N, 4] (left, right, top, bottom) of the cells between them."""
    sides = [
        np.searchsorted(centres, corner[:, axis])
        for axis, centres in enumerate(_centres(maps))
        for corner in (low, high)
    ]
    return np.stack(sides, axis=1)


def _draw_points(maps: NDArray, points: NDArray, channels: NDArray, sigma: float) -> None:
    """Draw the exponents of Gaussians around points [N, 2] into their channels, only where they are visible."""
    centres_x, centres_y = _centres(maps)
    along_x = ((centres_x - points[:, :1]) / sigma) ** 2
    along_y = ((centres_y - points[:, 1:]) / sigma) ** 2
    windows = _windows(maps, points - _REACH * sigma, points + _REACH * sigma)
    for (left, right, top, bottom), channel, x, y in zip(
        windows.tolist(), channels.tolist(), along_x, along_y, strict=True
    ):
        window = maps[channel, top:bottom, left:right]
        np.maximum(window, -y[top:bottom, None] - x[left:right], out=window)


def _draw_segments(maps: NDArray, segments: NDArray, channels: NDArray, sigma: float) -> None:
    """Draw the exponents around segments [N, 2, 2] into their channels, only where they are visible.

    Segments with windows of about equal size are computed together: fewer and larger NumPy steps.
    """
    windows = _windows(maps, segments.min(1) - _REACH * sigma, segments.max(1) + _REACH * sigma)
    size = windows[:, 1::2] - windows[:, ::2]  # columns, rows
    by_area = np.argsort(size.prod(1))
    for group in (by_area[i : i + _TOGETHER] for i in range(0, len(by_area), _TOGETHER)):
        exponents = _segment_exponents(segments[group], windows[group, ::2], size[group].max(0), sigma)
        for exponent, channel, (left, right, top, bottom) in zip(
            exponents, channels[group].tolist(), windows[group].tolist(), strict=True
        ):
            window = maps[channel, top:bottom, left:right]
            np.maximum(window, exponent[: bottom - top, : right - left], out=window)


def _segment_exponents(segments: NDArray, first: NDArray, size: NDArray, sigma: float) -> NDArray:
    """[N, rows, columns]: negative squared distance to each segment [N, 2, 2], in sigmas, for ``size`` (columns, rows)
    cells starting at ``first`` [N, 2] (column, row)."""
    start, direction = segments[:, 0], segments[:, 1] - segments[:, 0]
    length = np.sqrt((direction**2).sum(1, keepdims=True))
    unit = np.where(length > 1e-3, direction / np.maximum(length, 1e-3), np.array([1, 0], np.float32))
    corner = (first * STRIDE + STRIDE / 2 - start).astype(np.float32)
    x = corner[:, :1] + np.arange(size[0], dtype=np.float32) * STRIDE
    y = corner[:, 1:] + np.arange(size[1], dtype=np.float32) * STRIDE
    # The coordinates along and across the segment are affine in x and y: sums of two vectors.
    along = (y * unit[:, 1:])[:, :, None] + (x * unit[:, :1])[:, None, :]
    squared = (y * unit[:, :1])[:, :, None] - (x * unit[:, 1:])[:, None, :]
    nearest = np.maximum(along, 0)
    along -= np.minimum(nearest, length[:, :, None], out=nearest)
    along *= along
    squared *= squared
    squared += along
    squared *= -1 / sigma**2
    return squared


def _outlines(segments: NDArray, radii: NDArray, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 [h, w]: 1 in cells closer than the radius to a segment [N, 2, 2], to within half a cell."""
    mask = np.zeros(size, np.uint8)
    fixed_point = np.rint(np.clip((segments / STRIDE - 0.5), -_FAR_OUT, _FAR_OUT) * 16).astype(int).tolist()
    for (start, end), thickness in zip(fixed_point, np.rint(2 * radii / STRIDE).astype(int).tolist(), strict=True):
        cv2.line(mask, start, end, 1, max(thickness, 1), shift=4)
    return mask


def _mask_radius(xy: NDArray, visible: NDArray, sigma: float) -> NDArray[np.float32]:
    """Half width of each person's outline in network pixels, at least sigma."""
    low = np.where(visible[..., None], xy, np.inf).min(axis=1)
    high = np.where(visible[..., None], xy, -np.inf).max(axis=1)
    diagonal = np.where(visible.any(axis=1), np.hypot(*np.maximum(high - low, 0).T), 0)
    return np.maximum(MASK_RADIUS * diagonal, sigma).astype(np.float32)
