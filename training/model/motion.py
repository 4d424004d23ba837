"""The memory read of ``edge``: what is remembered is looked up where it was then, not where it is now.

Ours, not the paper's. Attention between the query's keys and those of a slot, near the same place, tells how every part
of the picture has moved since that slot was written. Those movements, smoothed over the picture and weighted by how
sure each is, carry over to places that cannot be seen now (behind an occluder, in a blur). The slot's values are then
sampled at the place that each cell comes from, and the slots are mixed cell by cell. So no sharp position is lost to an
average over tokens, and a slot from long ago serves as well as the latest one.

Written for training and for GPUs; ``export.cpu`` puts equal arithmetic that CPUs are faster at in the place of parts.

Shape legend: B batch, T slots, h x w tokens (stride 16), Ck key width, Cs channels of a value at stride 8.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from training.model.network import to_grid, to_tokens
from training.model.parts import vertex

SEARCH = 3.0
"""Standard deviation, in tokens, of how far things are expected to move between a slot and now."""
NEAR, FAR = 1.0, 4.0
"""Standard deviations, in tokens, of the weights with which movements are averaged over the picture: near ones, so that
people move apart from what is behind them,"""
FAR_SHARE = 0.01
"""and far ones, which count so much, for where nothing near is sure (behind an occluder, on a blank wall)."""
MOST_CLEAR = 4.0
"""Keeps weights finite in FP16."""
LARGEST_MOVE = 12.0
"""Tokens. Attention cannot point much farther; a bound keeps sampling positions in FP16's range."""


class Motion:
    """The arithmetic of the read that does not depend on weights."""

    def match(self, tokens: Tensor, keys: Tensor, gain: Tensor, height: int, width: int) -> Tensor:
        """How well every second token of a frame matches each token of a slot, and how likely it is found there.

        Args:
            tokens: [B, h/2 * w/2, Ck]: the keys of every second token in both directions.
            keys: [B, T, h * w, Ck]
            gain: of their products.
            height, width: h and w; even.

        Returns:
            Logits [B, T, h/2 * w/2, h * w], FP32.
        """
        logits = (tokens[:, None].expand(-1, keys.shape[1], -1, -1) @ keys.transpose(2, 3)).float() * gain.float()
        near_y, near_x = _prior(height).to(logits.device), _prior(width).to(logits.device)
        # Row and column apart: together they would be a constant as large as the attention.
        near = logits.unflatten(2, (height // 2, width // 2)).unflatten(-1, (height, width))
        near = near + near_y[:, None, :, None] + near_x[:, None, :]
        return near.flatten(4).flatten(2, 3)

    def movements(self, near: Tensor, clear: Tensor, height: int, width: int) -> Tensor:
        """Where the cells of a frame were in each slot.

        Args:
            near: what ``match`` gives.
            clear: [B, 1, h/2, w/2]: logarithm of how much those tokens count: what hides people moves its own way.
            height, width: h and w.

        Returns:
            [B, T, 2h, 2w, 2]: x, y to be added to a cell's position at stride 8, in tokens.
        """
        coarse = every_second(middles(height, width)).to(near.device)
        attention = torch.softmax(near, dim=-1)
        moves = (best_places(near, self.best(near), width) - coarse).clamp(-LARGEST_MOVE, LARGEST_MOVE)
        # 1 where a token matches a single one, near 0 where it matches many.
        sureness = (attention * attention).sum(-1, keepdim=True) ** 2
        sureness = sureness * torch.exp(clear.float().clamp(max=MOST_CLEAR)).flatten(1)[:, None, :, None]
        weighted = torch.cat([moves * sureness, sureness], dim=-1)
        smoothed = self._smooth(weighted.unflatten(2, (height // 2, width // 2)), height, width)
        x, y, weight = smoothed.unbind(-1)
        weight = weight.clamp(min=1e-12)
        return torch.stack([x / weight, y / weight], dim=-1)

    def best(self, logits: Tensor) -> Tensor:
        """[..., 1]: the number of the largest of the last axis, the first of equal ones."""
        return logits.argmax(dim=-1, keepdim=True)

    def sample(self, cells: Tensor, moves: Tensor) -> Tensor:
        """Pictures at their own cells' positions plus ``moves``, bilinear; beyond the border they go on as there.

        Args:
            cells: [N, H * W, C], cell-major.
            moves: [N, H, W, 2], FP32: x, y in cells.

        Returns:
            [N, H * W, C], FP32 whatever the cells are: what they are sampled at would be rounded by up to a hundredth
            of a cell.
        """
        height, width = moves.shape[1:3]
        shares = (middles(height, width).to(moves) + moves) / torch.tensor([width, height]).to(moves)
        maps = to_grid(cells.to(moves), height, width)
        sampled = F.grid_sample(maps, 2 * shares - 1, mode="bilinear", padding_mode="border", align_corners=False)
        return to_tokens(sampled)

    def spread(self, coarse: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """[B, T, h, w, C] to [B, T, H, W, C]: sums with the weights [H, h] and [W, w], columns and rows in turn."""
        by_column = (columns[:, :, None] * coarse[:, :, :, None]).sum(-2)
        return (rows[:, :, None, None] * by_column[:, :, None]).sum(-3)

    def _smooth(self, coarse: Tensor, height: int, width: int) -> Tensor:
        """[B, T, h/2, w/2, C] to [B, T, 2h, 2w, C]: sums with Gaussian weights."""
        near, far = (
            self.spread(
                coarse,
                _weights(2 * height, height // 2, deviation).to(coarse),
                _weights(2 * width, width // 2, deviation).to(coarse),
            )
            for deviation in (NEAR, FAR)
        )
        return near + FAR_SHARE * far


def best_places(logits: Tensor, best: Tensor, width: int) -> Tensor:
    """Where each of n tokens matches best: x, y in tokens, between them by a parabola through the logits.

    The mean over the attention would nearly always be the middle of a token: it is too sure of one.

    Args:
        logits: [B, T, n, h * w]
        best: [B, T, n, 1], int64: the number of the largest.
        width: w

    Returns:
        [B, T, n, 2]
    """
    height = logits.shape[-1] // width
    row = torch.div(best, width, rounding_mode="trunc")
    column = best - row * width
    centre = logits.gather(-1, best)

    def between(position: Tensor, length: int, step: int) -> Tensor:
        inside = (position > 0) & (position < length - 1)
        before = logits.gather(-1, torch.where(inside, best - step, best))
        after = logits.gather(-1, torch.where(inside, best + step, best))
        return position.to(logits) + 0.5 + torch.where(inside, vertex(before, centre, after), torch.zeros_like(centre))

    return torch.cat([between(column, width, 1), between(row, height, width)], dim=-1)


def every_second(grid: Tensor) -> Tensor:
    """[h, w, n] to [h/2 * w/2, n]."""
    return grid[::2, ::2].flatten(0, 1)


@cache
def middles(height: int, width: int) -> Tensor:
    """[h, w, 2]: x, y of the middles of cells, in cells."""
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)


@cache
def _prior(count: int) -> Tensor:
    """[count / 2, count]: logarithm of how likely a token is found at each place, along one axis."""
    places = torch.arange(count)
    return -((places[::2, None] - places) ** 2) / (2 * SEARCH**2)


@cache
def _weights(fine: int, coarse: int, deviation: float) -> Tensor:
    """[fine, coarse]: of every second token for the cells at stride 8, along one axis."""
    cells, tokens = (torch.arange(fine) + 0.5) / 2, 2 * torch.arange(coarse) + 0.5
    return torch.exp(-((cells[:, None] - tokens) ** 2) / (2 * deviation**2))
