"""Equal arithmetic that ONNX Runtime has faster code for on a CPU, for FP32 bundles.

TensorRT takes what training computes: of gathered rows TensorRT-RTX makes kernels of up to 300 MB at some sizes, which
take minutes to build, and FP32 products of matrices have no kernel on Turing GPUs.
"""

import copy

import torch
from torch import Tensor

from training.model import Edge, SpaceTimeMemory
from training.model.motion import SEARCH, Motion, every_second, middles
from training.model.network import to_grid


def for_cpu(model: SpaceTimeMemory) -> SpaceTimeMemory:
    """A copy of a network that computes the same for the FP32 graphs of a CPU."""
    model = copy.deepcopy(model)
    if isinstance(model, Edge):
        model.motion = CpuMotion()
        model.channels_first = channels_first  # type: ignore[method-assign]
    return model


def channels_first(maps: Tensor) -> Tensor:
    """See Edge.channels_first. OpenVINO's convolutions give channels last, and turning its results round at a graph's
    end takes it four times as long as these two transpositions, of which the first is none then."""
    height, width = maps.shape[2:]
    return to_grid(maps.permute(0, 2, 3, 1).flatten(1, 2), height, width)


class CpuMotion(Motion):
    """See Motion."""

    def match(self, tokens: Tensor, keys: Tensor, gain: Tensor, height: int, width: int) -> Tensor:
        # The distance's square is a product of positions, but for what all places of a slot have in common. So it comes
        # with the product of the keys, and nothing as large as the attention is added to it.
        places = middles(height, width) - torch.tensor([width / 2, height / 2])
        own, theirs = every_second(places) / SEARCH**2, places.flatten(0, 1)
        own = torch.cat([own, torch.ones(len(own), 1)], dim=-1).to(tokens)
        theirs = torch.cat([theirs, -(theirs**2).sum(-1, keepdim=True) / (2 * SEARCH**2)], dim=-1).to(keys)
        tokens = torch.cat([tokens * gain, own.expand(len(tokens), -1, -1)], dim=-1)
        keys = torch.cat([keys, theirs.expand(*keys.shape[:2], -1, -1)], dim=-1)
        return tokens[:, None] @ keys.transpose(2, 3)

    def best(self, logits: Tensor) -> Tensor:
        # OpenVINO sorts for ``argmax``: a tenth of the read decoder, in bf16 a fifth.
        count = logits.shape[-1]
        largest = (logits >= logits.amax(-1, keepdim=True)).float()
        # FP32 holds every number. Where nothing is the largest, as among NaNs, it is the last.
        from_the_end = (largest * torch.arange(count, 0, -1).float()).amax(-1, keepdim=True)
        return (count - from_the_end).clamp(max=count - 1).to(torch.int64)

    def sample(self, cells: Tensor, moves: Tensor) -> Tensor:
        # Four gathers of whole rows: ONNX Runtime's GridSample works out every position again for each channel.
        pictures, height, width = moves.shape[:3]
        x, y = ((middles(height, width).to(moves) - 0.5)[..., axis] + moves[..., axis] for axis in (0, 1))
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        left, top = x.floor(), y.floor()
        right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
        to_right, down = x - left, y - top
        to_left, up = 1 - to_right, 1 - down
        first = torch.arange(pictures).to(moves)[:, None, None] * (height * width)
        rows = cells.to(moves).flatten(0, 1)

        def corner(row: Tensor, column: Tensor, share: Tensor) -> Tensor:
            # Numbers of cells are whole in FP32 up to 2 ** 24.
            cell = (first + row * width + column).to(torch.int64)
            return rows[cell.flatten()] * share.reshape(-1, 1)

        sampled = corner(top, left, to_left * up) + corner(top, right, to_right * up)
        sampled = sampled + corner(bottom, left, to_left * down) + corner(bottom, right, to_right * down)
        return sampled.unflatten(0, (pictures, height * width))

    def spread(self, coarse: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        by_column = columns @ coarse
        return (rows @ by_column.flatten(3)).unflatten(3, by_column.shape[3:])
