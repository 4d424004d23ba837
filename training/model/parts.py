"""Peaks of keypoint maps and scores of edges, as computed by the exported graphs and in evaluation."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stm_skeletons.geometry import STRIDE
from stm_skeletons.skeleton import Skeleton

TOKEN = 16
"""Network pixels per token."""

EDGE_SAMPLES = 8
"""Number of points along an edge, including its ends, at which its map is sampled."""


@dataclass(frozen=True)
class FoundParts:
    """Peaks and edge scores of a frame."""

    peaks: Tensor
    """[NK, K, 3]: see find_peaks."""
    cells: Tensor
    """[NK, K, 2]: row and column of each peak's cell."""
    edge_scores: Tensor
    """[NE, K, K]: see score_edges."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the output names of a bundle."""
        return {"peaks": self.peaks, "edge_scores": self.edge_scores}


def find_parts(maps: Tensor, skeleton: Skeleton, count: int) -> FoundParts:
    """Peaks and edge scores from all maps of a skeleton [1 + NK + NE, h, w], FP32; ``count`` is K."""
    joints = len(skeleton.joints)
    peaks, cells = find_peaks(maps[1 : 1 + joints], count)
    starts, ends = (torch.tensor(column) for column in zip(*skeleton.edges, strict=True))
    return FoundParts(peaks, cells, score_edges(maps[1 + joints :], cells[starts], cells[ends]))


def previous_positions(peaks: Tensor, moves: Tensor, valid: Tensor) -> Tensor:
    """Positions [T, NK, K, 2] of peaks [NK, K, 3] in each slot, from movements [T, NK, K, 2] in network pixels.

    For slots that may not be read (``valid`` [T] is 0), the current positions.
    """
    return peaks[None, ..., :2] + valid.float()[:, None, None, None] * moves


def find_peaks(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest local maxima of each map, refined to sub-cell positions by a parabola through the logarithms.

    Args:
        maps: [NK, h, w] in (0, 1).
        count: K; must not exceed h * w.

    Returns:
        peaks [NK, K, 3]: x, y in network pixels, and score; best first. If there are fewer maxima than K, the rest have
            score 0.
        cells [NK, K, 2]: row and column of each peak's cell, in the maps' type.
    """
    joints, height, width = maps.shape
    nudged = maps + _tie_breaker(height, width).to(maps)
    highest = F.max_pool2d(nudged[None], 3, 1, 1).squeeze(0)
    # A product instead of torch.where, which is several times slower with ONNX Runtime on a CPU.
    maxima = (maps * (nudged >= highest).to(maps)).reshape(joints, height * width)
    scores, index = maxima.topk(count, dim=1)
    row = torch.div(index, width, rounding_mode="trunc")
    column = index - row * width
    flat = maps.reshape(joints, height * width)

    def logs(cells: Tensor) -> Tensor:
        return torch.log(flat.gather(1, cells).clamp(min=1e-6))

    centre = logs(index)

    def refine(position: Tensor, length: int, step: int) -> Tensor:
        # A cell at the border lacks a neighbour, so it is not refined in that direction.
        inside = (position > 0) & (position < length - 1)
        before = logs(torch.where(inside, index - step, index))
        after = logs(torch.where(inside, index + step, index))
        return torch.where(inside, vertex(before, centre, after), torch.zeros_like(centre))

    dx, dy = refine(column, width, 1), refine(row, height, width)
    cells = torch.stack([row, column], dim=-1).to(maps.dtype)
    x = (cells[..., 1] + dx + 0.5) * STRIDE
    y = (cells[..., 0] + dy + 0.5) * STRIDE
    return torch.stack([x, y, scores], dim=-1), cells


def _tie_breaker(height: int, width: int) -> Tensor:
    """[h, w]: a ramp of tiny steps, so that a joint exactly between two cells, or a saturated area, is one peak."""
    return torch.arange(height * width).reshape(height, width) * 2e-7


def vertex(before: Tensor, centre: Tensor, after: Tensor) -> Tensor:
    """Vertex of the parabola through values at -1, 0 and 1, which is exact for the logarithm of a Gaussian."""
    # The lower bound prevents rounding errors from moving the vertex of flat values; a joint's curvature is 0.1 to 1.
    curvature = (2 * centre - before - after).clamp(min=1e-3)
    return ((after - before) / (2 * curvature)).clamp(-0.5, 0.5)


def score_edges(maps: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Lowest value of an edge's map along the straight line between each pair of peaks of its two joints.

    The mean would be high for a line through several people's limbs, despite the gaps between them.

    Args:
        maps: [NE, h, w].
        starts, ends: [NE, K, 2] cells (row, column) of the peaks of the edge's first and second joint.

    Returns:
        [NE, K, K]
    """
    edges, _, width = maps.shape
    count = starts.shape[1]
    step = torch.linspace(0, 1, EDGE_SAMPLES).to(maps.dtype)[:, None]

    def nearest(axis: int) -> Tensor:
        """[NE, samples, K, K]: row or column of the nearest cell, which is sufficient for maps as smooth as these."""
        # Terms of a single end are computed before pairing, which reduces their cost by a factor of K.
        start, end = starts[:, None, :, axis] * (1 - step) + 0.5, ends[:, None, :, axis] * step
        # FP32, because FP16 cannot represent every cell index.
        return torch.floor(start[..., None] + end[..., None, :]).float()

    # A line between two cells never leaves the map.
    index = (nearest(0) * width + nearest(1)).reshape(edges, EDGE_SAMPLES * count * count).to(torch.int64)
    return maps.flatten(1).gather(1, index).reshape(edges, EDGE_SAMPLES, count, count).amin(dim=1)
