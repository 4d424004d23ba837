"""Rendering of people as maps: the person mask, one channel a joint, one channel an edge (paper section 2.3).

The paper prints S(p) = exp(||p - x|| / sigma), which grows with distance. The minus sign and the square are those of
Cao et al. (Realtime Multi-Person 2D Pose Estimation, equation 6), which it says it follows:
exp(-||p - x||^2 / sigma^2). Edges use the distance to the segment, so they spread along the line and around its ends.
People are merged by maximum.
"""

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.geometry import STRIDE
from stm_skeletons.skeleton import Skeleton

SIGMA = 7.0
"""Spread of keypoints and edges, in network pixels."""

MASK_RADIUS = 0.1
"""Thickness of the outline mask: this share of the diagonal of the person's visible joints, on both sides of edges."""

_CUT = 9.0  # exp(-9) = 1e-4: what lies further than 3 sigma away is nothing


def render_maps(poses: NDArray, skeleton: Skeleton, size: tuple[int, int], sigma: float = SIGMA) -> NDArray[np.float32]:
    """The maps of a frame with these people.

    Args:
        poses: [people, NK, 3]: x, y in network pixels (see geometry) and visibility; 0 is not there, > 0 is there.
            People and joints may lie outside the frame.
        skeleton: gives the channels.
        size: (height, width) of the network input in pixels, multiples of 4.
        sigma: spread in network pixels.

    Returns:
        float32 [1 + NK + NE, height/4, width/4] in [0, 1]. The mask is drawn from the skeleton's own outline.
    """
    poses = np.asarray(poses, np.float32).reshape(-1, len(skeleton.joints), 3)
    visible = (poses[..., 2] > 0) & np.isfinite(poses[..., :2]).all(-1)
    xy = np.where(visible[..., None], poses[..., :2], 0)
    maps = np.zeros((len(skeleton.channels), size[0] // STRIDE, size[1] // STRIDE), np.float32)
    if not len(poses):
        return maps
    centres_y, centres_x = (np.arange(n, dtype=np.float32) * STRIDE + STRIDE / 2 for n in maps.shape[1:])
    for channel in range(len(skeleton.joints)):
        points = xy[visible[:, channel], channel]
        if len(points):
            maps[1 + channel] = _keypoint_map(points, centres_x, centres_y, sigma)
    radius = _mask_radius(xy, visible, sigma)
    for channel, (a, b) in enumerate(skeleton.edges, start=1 + len(skeleton.joints)):
        both = visible[:, a] & visible[:, b]
        if both.any():
            squared = _squared_distance_to_segments(xy[both, a], xy[both, b], centres_x, centres_y)
            maps[channel] = _gaussian(squared.min(axis=0) / sigma**2)
            inside = (squared < radius[both, None, None] ** 2).any(axis=0)
            np.maximum(maps[0], inside, out=maps[0])
    return maps


def _gaussian(exponent: NDArray) -> NDArray:
    return np.where(exponent < _CUT, np.exp(-exponent), np.float32(0))


def _keypoint_map(points: NDArray, centres_x: NDArray, centres_y: NDArray, sigma: float) -> NDArray:
    # The Gaussian is separable: two vectors a point, then one outer product.
    along_x = _gaussian(((centres_x - points[:, :1]) / sigma) ** 2)
    along_y = _gaussian(((centres_y - points[:, 1:]) / sigma) ** 2)
    return (along_y[:, :, None] * along_x[:, None, :]).max(axis=0)


def _squared_distance_to_segments(
    start: NDArray, end: NDArray, centres_x: NDArray, centres_y: NDArray
) -> NDArray[np.float32]:
    """[N, 2] segments to [N, h, w] squared distances of every cell's centre, in network pixels squared."""
    direction = end - start
    length2 = np.maximum((direction**2).sum(1), 1e-6)[:, None, None]
    from_x, from_y = centres_x - start[:, :1], centres_y - start[:, 1:]  # [N, w], [N, h]
    # Position along the segment (0 at the start, 1 at the end) is affine in x and y: a sum of two vectors.
    along = (from_y * direction[:, 1:])[:, :, None] / length2 + (from_x * direction[:, :1])[:, None, :] / length2
    nearest = np.clip(along, 0, 1)
    # |p - start - t d|^2 = |p - start|^2 - t (2 s - t) |d|^2 with s the unclipped position and t the clipped one.
    along *= -2
    along += nearest
    along *= nearest
    along *= length2
    along += (from_y**2)[:, :, None]
    along += (from_x**2)[:, None, :]
    return np.maximum(along, 0, out=along)


def _mask_radius(xy: NDArray, visible: NDArray, sigma: float) -> NDArray[np.float32]:
    """Half the thickness of each person's outline, in network pixels, at least sigma."""
    low = np.where(visible[..., None], xy, np.inf).min(axis=1)
    high = np.where(visible[..., None], xy, -np.inf).max(axis=1)
    diagonal = np.where(visible.any(axis=1), np.hypot(*np.maximum(high - low, 0).T), 0)
    return np.maximum(MASK_RADIUS * diagonal, sigma).astype(np.float32)
