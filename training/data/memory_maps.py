"""Maps to memorise in training, with simulated mistakes of predictions (paper section 2.3, Figure 4).

Each of the paper's four augmentations has its own strength. With all at 0, the maps are the ground truth. The paper
gives no amounts; the scales are ours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.geometry import STRIDE
from stm_skeletons.maps import SIGMA, render_maps
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import Exact
from training.data.labels import LABELLED, UNLABELLED

_REACH = 3.0  # sigmas


class Mistakes(Exact):
    """Strength of each augmentation of memorised maps; 0 disables it."""

    jitter: float = Field(default=0.0, ge=0)
    """Standard deviation of keypoint displacement in network pixels for a height of 256; scaled for other heights.
    Edges move with their keypoints."""
    rand: float = Field(default=0.0, ge=0, le=1)
    """Random size, shape and orientation of each peak. At 1, both axes are drawn between half and twice sigma."""
    baits: float = Field(default=0.0, ge=0)
    """Mean number of false keypoints, and of false edges, in a frame's maps (Poisson)."""
    dull_clouds: float = Field(default=0.0, ge=0, le=1)
    """Each peak's intensity is multiplied by a random factor from 1 - this to 1. The paper's interval [0, 1] is 1."""

    @property
    def none(self) -> bool:
        return not (self.jitter or self.rand or self.baits or self.dull_clouds)


@dataclass
class _Peaks:
    """Keypoints and edges to draw; a keypoint is an edge of length 0."""

    segments: NDArray[np.float32]  # [N, 2, 2]: end points in network pixels
    channels: NDArray[np.int64]  # [N]
    axes: NDArray[np.float32]  # [N, 2, 2]: matrix from network pixels to sigmas
    intensity: NDArray[np.float32]  # [N]


def memory_maps(
    poses: NDArray[np.float32],
    skeleton: Skeleton,
    size: tuple[int, int],
    mistakes: Mistakes,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Maps of a frame with mistakes. The mask remains the outline of the true skeleton, as for a seed.

    Args:
        poses: [P, NK, 3] in network pixels.
        skeleton: determines the channels.
        size: (height, width) of the network input.
        mistakes: strength of each mistake.
        random: source of randomness.

    Returns:
        float32 [1 + NK + NE, height/4, width/4] in [0, 1].
    """
    if mistakes.none:
        return render_maps(poses, skeleton, size)
    maps = np.full((len(skeleton.channels), size[0] // STRIDE, size[1] // STRIDE), -np.inf, np.float32)
    moved = poses.copy()
    moved[..., :2] += random.normal(0, 1, moved[..., :2].shape) * mistakes.jitter * size[0] / 256
    segments, channels = _parts(moved, skeleton)
    false_segments, false_channels = _baits(skeleton, size, mistakes.baits, random)
    segments, channels = np.concatenate([segments, false_segments]), np.concatenate([channels, false_channels])
    axes = _random_axes(len(segments), mistakes.rand, random)
    intensity = 1 - mistakes.dull_clouds * random.random(len(segments), np.float32)
    _draw(maps, _Peaks(segments, channels, axes, intensity))
    np.exp(maps, out=maps)
    maps[0] = render_maps(poses, skeleton, size)[0]
    return maps


def _parts(poses: NDArray[np.float32], skeleton: Skeleton) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    labelled = poses[..., 2] == LABELLED
    people, joints = np.nonzero(labelled)
    points = poses[people, joints, None, :2].repeat(2, axis=1)
    pairs = np.array(skeleton.edges)
    owners, edges = np.nonzero(labelled[:, pairs].all(-1))
    lines = poses[owners[:, None], pairs[edges], :2]
    return np.concatenate([points, lines]), np.concatenate([1 + joints, 1 + len(skeleton.joints) + edges])


def _baits(
    skeleton: Skeleton, size: tuple[int, int], mean: float, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """False keypoints anywhere, and false edges that extend up to a quarter of the frame's height in x and y."""
    points, lines = random.poisson(mean, 2)
    start = random.uniform([0, 0], [size[1], size[0]], (points + lines, 2))
    end = start.copy()
    end[points:] += random.uniform(-size[0] / 4, size[0] / 4, (lines, 2))
    joints = random.integers(0, len(skeleton.joints), points)
    edges = random.integers(0, len(skeleton.edges), lines)
    segments = np.stack([start, end], axis=1).astype(np.float32)
    return segments, np.concatenate([1 + joints, 1 + len(skeleton.joints) + edges])


def _random_axes(count: int, strength: float, random: np.random.Generator) -> NDArray[np.float32]:
    angle = random.uniform(0, np.pi, count)
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosine, sine], [-sine, cosine]]).transpose(2, 0, 1)
    sigmas = SIGMA * 2.0 ** (strength * random.uniform(-1, 1, (count, 2)))
    return (rotation / sigmas[:, :, None]).astype(np.float32)


def _draw(maps: NDArray[np.float32], peaks: _Peaks) -> None:
    """Draw the maximum of the exponents of all peaks, each within its reach."""
    height, width = maps.shape[1:]
    # The longest axis determines the reach of a peak.
    reach = _REACH / np.linalg.svd(peaks.axes, compute_uv=False)[:, -1:]
    low = np.floor((peaks.segments.min(1) - reach) / STRIDE).astype(int).clip(0, [width, height])
    high = np.ceil((peaks.segments.max(1) + reach) / STRIDE).astype(int).clip(0, [width, height])
    log_intensity = np.log(np.maximum(peaks.intensity, 1e-6))
    for segment, channel, axes, log, (left, top), (right, bottom) in zip(
        peaks.segments, peaks.channels, peaks.axes, log_intensity, low, high, strict=True
    ):
        if left >= right or top >= bottom:
            continue
        x = (np.arange(left, right, dtype=np.float32) + 0.5) * STRIDE - segment[0, 0]
        y = ((np.arange(top, bottom, dtype=np.float32) + 0.5) * STRIDE - segment[0, 1])[:, None]
        # In its own axes the peak is round, so the distance to the segment can be used.
        u, v = x * axes[0, 0] + y * axes[0, 1], x * axes[1, 0] + y * axes[1, 1]
        du, dv = axes @ (segment[1] - segment[0])
        along = np.clip((u * du + v * dv) / max(du * du + dv * dv, 1e-9), 0, 1)
        window = maps[channel, top:bottom, left:right]
        np.maximum(window, log - (u - along * du) ** 2 - (v - along * dv) ** 2, out=window)


def without_labels(poses: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same poses with all joints unlabelled, for a cold start."""
    empty = poses.copy()
    empty[..., 2] = UNLABELLED
    return empty
