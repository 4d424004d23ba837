"""What every variant is: two encoders, a memory read and a decoder.

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
from training.model.parts import TOKEN, came_from, find_parts

MASKED = -3e4
"""Added to the logits of a slot that may not be read: exp underflows to 0, and FP16 can hold it."""
RARE = -4.6
"""Starting bias of maps: sigmoid(-4.6) = 0.01, since parts are rare (focal loss, Lin et al. 2017, section 3.3)."""


@dataclass(frozen=True)
class QueryEncoding:
    """What the query encoder makes of a frame."""

    key: Tensor
    """[B, Q, Ck]"""
    value: Tensor
    """[B, Q, Cv]"""
    features: dict[str, Tensor]
    """Feature maps [B, c, h, w] for the decoder and, for edge, the memory encoder; named features_*."""


class SpaceTimeMemory(nn.Module, ABC):
    """Base of the variants: reading the memory, and the forward pass of one frame."""

    memory_source: str
    """What ``encode_memory`` works on: "frame", or the name of one of the query encoder's features."""
    decoder_features: tuple[str, ...]
    """Names of the query encoder's features that ``decode`` works on."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def encode_query(self, frame: Tensor) -> QueryEncoding:
        """Encode frames [B, H, W, 3], BGR 0..255 of any type."""

    @abstractmethod
    def encode_memory(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Encode what is to be memorised.

        Args:
            source: what ``memory_source`` names, of the same frames as the maps.
            maps: [B, C, H/4, W/4] in [0, 1].

        Returns:
            key [B, Q, Ck] and value [B, Q, Cv].
        """

    @abstractmethod
    def decode(self, read: Tensor, query: QueryEncoding) -> Tensor:
        """What was read from memory and the query to logits [B, C, H/4, W/4]."""

    def read(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """What the query reads from a memory (see read_memory): [B, Q, Cv], or what ``decode`` takes instead."""
        return self.attention(query.key, keys, values, valid)

    @staticmethod
    def attention(query_key: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """The arithmetic of ``read``; an export may put an equal one in its place."""
        return read_memory(query_key, keys, values, valid)

    def detect(
        self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor, count: int
    ) -> dict[str, Tensor]:
        """All that is found in one frame (B = 1), by the names of the bundle's contract, without the batch axis.

        ``maps`` [C, H/4, W/4], FP32, and of networks with keypoint maps ``peaks`` [NK, K, 3], ``edge_scores``
        [NE, K, K] and ``previous`` [T, NK, K, 2], where K is ``count``; see stm_skeletons.detections.
        """
        read = self.read(query, keys, values, valid)
        maps = torch.sigmoid(self.decode(read, query).float()).squeeze(0)
        skeleton = self.config.skeleton
        if self.config.channels != skeleton.channels:
            return {"maps": maps}
        found = find_parts(maps, skeleton, count)
        moves = attended_moves(query.key.squeeze(0), keys.squeeze(0), found.cells, maps.shape[2] * STRIDE // TOKEN)
        return {"maps": maps, **found.tensors, "previous": came_from(found.peaks, moves, valid.squeeze(0))}

    def forward(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """Maps [B, C, H/4, W/4] in [0, 1] of the query frames, given a memory (see read_memory)."""
        return torch.sigmoid(self.decode(self.read(query, keys, values, valid), query))


def read_memory(query_key: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """STM's memory read: softmax(Q K^T / sqrt(Ck)) V over the tokens of all valid slots.

    The order of the slots does not matter. With no valid slot the result is exactly zero.

    Args:
        query_key: [B, Q, Ck]
        keys: [B, T, Q, Ck]; what invalid slots hold must be finite.
        values: [B, T, Q, Cv]
        valid: [B, T], 1 where a slot may be read, else 0.

    Returns:
        [B, Q, Cv]
    """
    batch, slots, tokens, _ = keys.shape
    # The query is scaled, not the logits: it is smaller, and FP16 products stay in range.
    logits = (query_key / math.sqrt(query_key.shape[-1])) @ keys.flatten(1, 2).transpose(1, 2)
    mask = ((1 - valid) * MASKED)[:, :, None].expand(batch, slots, tokens).reshape(batch, 1, slots * tokens)
    weights = torch.softmax(logits + mask, dim=-1)
    return (weights @ values.flatten(1, 2)) * valid.amax(dim=1)[:, None, None]


def read_memory_in_heads(query_key: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """``read_memory`` in the form that NVIDIA's compiler makes one fused attention kernel of in FP16.

    It wants several heads [B, heads, tokens, width], values as wide as keys, keys expanded rather than broadcast. So
    wider values become heads of the keys' width that share query and keys (resnet50: 4 of 128); values as wide as keys
    are read by 2 heads with half of the query's tokens each. Logits, mask and softmax are FP32 whatever the inputs are.
    Values whose width is no multiple of the keys' are read like the latter, correctly but not fused.
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
    """How far what is in some cells was from there in each slot, by the place that attention expects it at.

    Args:
        query_key: [Q, Ck]
        keys: [T, Q, Ck]
        cells: [NK, K, 2]: row and column at stride 4.
        width: tokens in a row.

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
    places = torch.stack([number % width, torch.div(number, width, rounding_mode="floor")], dim=-1).to(attention)
    # Sums, not a product of matrices: that has no FP32 kernel on Turing GPUs, and FP16 is too coarse for positions.
    expected = torch.stack([(attention * axis).sum(-1) for axis in places.unbind(-1)], dim=-1)
    moves = (expected.reshape(slots, *row.shape, 2) - torch.stack([column, row], dim=-1)) * TOKEN
    return moves.float()


def to_tokens(features: Tensor) -> Tensor:
    """[B, c, h, w] to token-major [B, h * w, c]."""
    return features.flatten(2).transpose(1, 2)


def to_grid(tokens: Tensor, height: int, width: int) -> Tensor:
    """Token-major [B, h * w, c] to [B, c, h, w]."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)
