"""Base of all variants: two encoders, a memory read and a decoder.

Shape legend: B batch, T slots, H x W network input in pixels, Q = H/16 * W/16 tokens, Ck and Cv key and value width,
C maps.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stm_skeletons.geometry import STRIDE
from training.model.config import ModelConfig
from training.model.parts import TOKEN, find_parts, previous_positions

MASKED = -3e4
"""Added to the logits of a masked slot: its exponential underflows to 0, and FP16 can represent it."""
RARE = -4.6
"""Initial bias of maps: sigmoid(-4.6) = 0.01, since parts are rare (focal loss, Lin et al. 2017, section 3.3)."""


@dataclass(frozen=True)
class QueryEncoding:
    """The query encoder's result for a frame."""

    key: Tensor
    """[B, Q, Ck]"""
    value: Tensor
    """[B, Q, Cv]"""
    features: dict[str, Tensor]
    """Feature maps [B, c, h, w] for the decoder and, for edge, the memory encoder; named features_*."""


class SpaceTimeMemory(nn.Module, ABC):
    """Base of the variants: memory read and forward pass of a frame."""

    memory_source: str
    """Input of ``encode_memory``: "frame", or the name of one of the query encoder's features."""
    decoder_features: tuple[str, ...]
    """Names of the query encoder's features that ``decode`` uses."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def encode_query(self, frame: Tensor) -> QueryEncoding:
        """Encode frames [B, H, W, 3], BGR from 0 to 255 of any type."""

    @abstractmethod
    def encode_memory(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames for the memory.

        Args:
            source: the input named by ``memory_source``, of the same frames as the maps.
            maps: [B, C, H/4, W/4] in [0, 1].

        Returns:
            key [B, Q, Ck] and value [B, Q, Cv].
        """

    @abstractmethod
    def decode(self, read: Tensor, query: QueryEncoding) -> Tensor:
        """Logits [B, C, H/4, W/4] from the memory read and the query."""

    def read(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """Read a memory (see read_memory): [B, Q, Cv], or another form that ``decode`` accepts."""
        return self.attention(query.key, keys, values, valid)

    @staticmethod
    def attention(query_key: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """The computation of ``read``; an export may replace it by an equivalent one."""
        return read_memory(query_key, keys, values, valid)

    def detect(
        self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor, count: int
    ) -> dict[str, Tensor]:
        """Detections of a frame (B = 1) by the output names of a bundle, without the batch axis.

        These are ``maps`` [C, H/4, W/4] in FP32, and for networks with keypoint maps ``peaks`` [NK, K, 3],
        ``edge_scores`` [NE, K, K] and ``previous`` [T, NK, K, 2], where K is ``count``; see stm_skeletons.detections.
        """
        read = self.read(query, keys, values, valid)
        maps = torch.sigmoid(self.decode(read, query).float()).squeeze(0)
        skeleton = self.config.skeleton
        if self.config.channels != skeleton.channels:
            return {"maps": maps}
        found = find_parts(maps, skeleton, count)
        moves = attended_moves(query.key.squeeze(0), keys.squeeze(0), found.cells, maps.shape[2] * STRIDE // TOKEN)
        return {"maps": maps, **found.tensors, "previous": previous_positions(found.peaks, moves, valid.squeeze(0))}

    def forward(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """Maps [B, C, H/4, W/4] in [0, 1] of the query frames, given a memory (see read_memory)."""
        return torch.sigmoid(self.decode(self.read(query, keys, values, valid), query))


def read_memory(query_key: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """STM's memory read: softmax(Q K^T / sqrt(Ck)) V over the tokens of all valid slots.

    The order of the slots is arbitrary. Without valid slots, the result is exactly zero.

    Args:
        query_key: [B, Q, Ck]
        keys: [B, T, Q, Ck]; the values of invalid slots must be finite.
        values: [B, T, Q, Cv]
        valid: [B, T], 1 if a slot may be read, else 0.

    Returns:
        [B, Q, Cv]
    """
    batch, slots, tokens, _ = keys.shape
    # Scaling the query instead of the logits is cheaper and keeps FP16 products in range.
    logits = (query_key / math.sqrt(query_key.shape[-1])) @ keys.flatten(1, 2).transpose(1, 2)
    mask = ((1 - valid) * MASKED)[:, :, None].expand(batch, slots, tokens).reshape(batch, 1, slots * tokens)
    weights = torch.softmax(logits + mask, dim=-1)
    return (weights @ values.flatten(1, 2)) * valid.amax(dim=1)[:, None, None]


def read_memory_in_heads(query_key: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """``read_memory`` in a form that NVIDIA's compiler fuses into one attention kernel in FP16.

    The compiler requires several heads [B, heads, tokens, width], values as wide as keys, and keys that are expanded,
    not broadcast. So wider values are split into heads of the keys' width that share query and keys (resnet50: 4 of
    128). Values as wide as the keys are read by 2 heads with half of the query's tokens each; other widths too, but
    without fusion. Logits, mask and softmax are FP32 for any type of the inputs.
    """
    batch, slots, tokens, width = keys.shape
    heads = values.shape[-1] // width if values.shape[-1] % width == 0 else 1
    scaled = query_key / math.sqrt(width)
    memory = keys.reshape(batch, 1, slots * tokens, width)
    if heads > 1:
        query = scaled[:, None].expand(batch, heads, tokens, width)
        values = values.reshape(batch, slots * tokens, heads, width).transpose(1, 2)
    else:
        query = scaled.reshape(batch, 2, tokens // 2, width)
        values = values.reshape(batch, 1, slots * tokens, -1).expand(batch, 2, slots * tokens, values.shape[-1])
    memory = memory.expand(batch, query.shape[1], slots * tokens, width)
    mask = ((1 - valid.float()) * MASKED)[:, :, None].expand(batch, slots, tokens).reshape(batch, 1, 1, slots * tokens)
    weights = torch.softmax((query @ memory.transpose(2, 3)).float() + mask, dim=-1).to(values)
    read = weights @ values
    read = (read.transpose(1, 2) if heads > 1 else read).reshape(batch, tokens, -1)
    return read * valid.amax(dim=1)[:, None, None].to(read)


def attended_moves(query_key: Tensor, keys: Tensor, cells: Tensor, width: int) -> Tensor:
    """Movements from cells to their expected position in each slot, according to attention.

    Args:
        query_key: [Q, Ck]
        keys: [T, Q, Ck]
        cells: [NK, K, 2]: row and column at stride 4.
        width: tokens per row.

    Returns:
        [T, NK, K, 2]: x, y in network pixels, FP32.
    """
    slots, tokens, channels = keys.shape
    cells_to_token = TOKEN // STRIDE
    row, column = torch.floor(cells[..., 0] / cells_to_token), torch.floor(cells[..., 1] / cells_to_token)
    index = (row * width + column).to(torch.int64).flatten()
    chosen = query_key[index] / math.sqrt(channels)
    attention = torch.softmax((chosen @ keys.transpose(1, 2)).float(), dim=-1)
    number = torch.arange(tokens)
    positions = torch.stack([number % width, torch.div(number, width, rounding_mode="floor")], dim=-1).to(attention)
    # Sums instead of a matrix product, which has no FP32 kernel on Turing GPUs; FP16 is too coarse for positions.
    expected = torch.stack([(attention * axis).sum(-1) for axis in positions.unbind(-1)], dim=-1)
    moves = (expected.reshape(slots, *row.shape, 2) - torch.stack([column, row], dim=-1)) * TOKEN
    return moves.float()


def to_tokens(features: Tensor) -> Tensor:
    """[B, c, h, w] to token-major [B, h * w, c]."""
    return features.flatten(2).transpose(1, 2)


def to_grid(tokens: Tensor, height: int, width: int) -> Tensor:
    """Token-major [B, h * w, c] to [B, c, h, w]."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)
