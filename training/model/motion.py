"""The memory read of ``edge`` with motion compensation: a slot is read at the position where each cell was then.

This is ours, not the paper's. Attention between the keys of the query and of a slot, near the same position, gives the
movement of each part of the image since the slot was written. The movements are smoothed over the image, weighted by
their confidence, and so extend to parts that are not visible now (under an occluder, in a blur). The slot's values are
sampled at the position that each cell comes from, and the slots are mixed cell by cell. So positions stay sharp instead
of being averaged over tokens, and an old slot is as useful as the latest one.

This implementation is for training and for GPUs; ``export.cpu`` replaces parts by equivalents that are faster on CPUs.

Shape legend: B batch, T slots, h x w tokens (stride 16), Ck key width, Cs channels of a value at stride 8.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from training.model.network import to_grid, to_tokens
from training.model.parts import vertex

SEARCH = 3.0
"""Standard deviation of the expected movement between a slot and the current frame, in tokens."""
NEAR, FAR = 1.0, 4.0
"""Standard deviations of the smoothing weights of movements, in tokens. The near weights let people move independently
of the background. The far weights apply where no near movement is reliable (under an occluder, on a blank wall)."""
FAR_SHARE = 0.01
"""Weight of the far smoothing relative to the near one."""
MOST_CLEAR = 4.0
"""Upper bound of clearness, which keeps weights finite in FP16."""
LARGEST_MOVE = 12.0
"""Largest movement in tokens. It keeps sampling positions in the range of FP16; attention hardly reaches farther."""


class Motion:
    """The part of the memory read that has no weights."""

    def match(self, tokens: Tensor, keys: Tensor, gain: Tensor, height: int, width: int) -> Tensor:
        """Match every 2nd token of a frame with all tokens of each slot, weighted by a prior on the distance.

        Args:
            tokens: [B, h/2 * w/2, Ck]: keys of every 2nd token in both directions.
            keys: [B, T, h * w, Ck]
            gain: factor of the products of keys.
            height, width: h and w; even.

        Returns:
            Logits [B, T, h/2 * w/2, h * w], FP32.
        """
        logits = (tokens[:, None].expand(-1, keys.shape[1], -1, -1) @ keys.transpose(2, 3)).float() * gain.float()
        near_y, near_x = _prior(height).to(logits.device), _prior(width).to(logits.device)
        # Rows and columns separately: together they would be a constant as large as the attention.
        near = logits.unflatten(2, (height // 2, width // 2)).unflatten(-1, (height, width))
        near = near + near_y[:, None, :, None] + near_x[:, None, :]
        return near.flatten(4).flatten(2, 3)

    def movements(self, near: Tensor, clear: Tensor, height: int, width: int) -> Tensor:
        """The position of each cell of a frame in each slot.

        Args:
            near: result of ``match``.
            clear: [B, 1, h/2, w/2]: logarithm of the tokens' weights; low for occluders, which move independently.
            height, width: h and w.

        Returns:
            [B, T, 2h, 2w, 2]: x, y relative to a cell's position at stride 8, in tokens.
        """
        coarse = every_second(cell_centres(height, width)).to(near.device)
        attention = torch.softmax(near, dim=-1)
        moves = (best_positions(near, self.best(near), width) - coarse).clamp(-LARGEST_MOVE, LARGEST_MOVE)
        # 1 if a token matches a single token, near 0 if it matches many.
        confidence = (attention * attention).sum(-1, keepdim=True) ** 2
        confidence = confidence * torch.exp(clear.float().clamp(max=MOST_CLEAR)).flatten(1)[:, None, :, None]
        weighted = torch.cat([moves * confidence, confidence], dim=-1)
        smoothed = self._smooth(weighted.unflatten(2, (height // 2, width // 2)), height, width)
        x, y, weight = smoothed.unbind(-1)
        weight = weight.clamp(min=1e-12)
        return torch.stack([x / weight, y / weight], dim=-1)

    def best(self, logits: Tensor) -> Tensor:
        """[..., 1]: index of the largest value of the last axis; the first of equal values."""
        return logits.argmax(dim=-1, keepdim=True)

    def sample(self, cells: Tensor, moves: Tensor) -> Tensor:
        """Sample grids bilinearly at the positions of their cells plus ``moves``. The border values continue outside.

        Args:
            cells: [N, H * W, C], cell-major.
            moves: [N, H, W, 2], FP32: x, y in cells.

        Returns:
            [N, H * W, C] in FP32 for any type of the cells, because FP16 would round the sampling positions by up to a
            hundredth of a cell.
        """
        height, width = moves.shape[1:3]
        shares = (cell_centres(height, width).to(moves) + moves) / torch.tensor([width, height]).to(moves)
        maps = to_grid(cells.to(moves), height, width)
        sampled = F.grid_sample(maps, 2 * shares - 1, mode="bilinear", padding_mode="border", align_corners=False)
        return to_tokens(sampled)

    def spread(self, coarse: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """[B, T, h, w, C] to [B, T, H, W, C]: weighted sums over columns, then rows, with weights [W, w] and [H, h]."""
        by_column = (columns[:, :, None] * coarse[:, :, :, None]).sum(-2)
        return (rows[:, :, None, None] * by_column[:, :, None]).sum(-3)

    def _smooth(self, coarse: Tensor, height: int, width: int) -> Tensor:
        """[B, T, h/2, w/2, C] to [B, T, 2h, 2w, C]: sums with Gaussian weights, near and far."""
        near, far = (
            self.spread(
                coarse,
                _weights(2 * height, height // 2, deviation).to(coarse),
                _weights(2 * width, width // 2, deviation).to(coarse),
            )
            for deviation in (NEAR, FAR)
        )
        return near + FAR_SHARE * far


def best_positions(logits: Tensor, best: Tensor, width: int) -> Tensor:
    """The position at which each of n tokens matches best: x, y in tokens, refined by a parabola through the logits.

    The mean over the attention is too sharp: it is almost always the centre of a token.

    Args:
        logits: [B, T, n, h * w]
        best: [B, T, n, 1], int64: index of the largest logit.
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
    """Every 2nd cell in both directions: [h, w, n] to [h/2 * w/2, n]."""
    return grid[::2, ::2].flatten(0, 1)


@cache
def cell_centres(height: int, width: int) -> Tensor:
    """[h, w, 2]: x, y of the centres of cells, in cells."""
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)


@cache
def _prior(count: int) -> Tensor:
    """[count / 2, count]: log prior of finding every 2nd token at each position, along one axis."""
    positions = torch.arange(count)
    return -((positions[::2, None] - positions) ** 2) / (2 * SEARCH**2)


@cache
def _weights(fine: int, coarse: int, deviation: float) -> Tensor:
    """[fine, coarse]: weights of every 2nd token for the cells at stride 8, along one axis."""
    cells, tokens = (torch.arange(fine) + 0.5) / 2, 2 * torch.arange(coarse) + 0.5
    return torch.exp(-((cells[:, None] - tokens) ** 2) / (2 * deviation**2))
