"""A network with equal arithmetic that runs faster on CPUs, for FP32 bundles.

Graphs for TensorRT keep the arithmetic of training: for gathered rows, TensorRT-RTX generates kernels of up to 300 MB
at some sizes, which take minutes to build; and Turing GPUs have no FP32 matrix products.
"""

import copy

import torch
from torch import Tensor

from training.model import Edge, SpaceTimeMemory
from training.model.motion import SEARCH, Motion, cell_centres, every_second
from training.model.network import to_grid


def for_cpu(model: SpaceTimeMemory) -> SpaceTimeMemory:
    """Return a copy of a network with equal results, for the FP32 graphs of a CPU."""
    model = copy.deepcopy(model)
    if isinstance(model, Edge):
        model.motion = CpuMotion()
        model.channels_first = channels_first  # type: ignore[method-assign]
    return model


def channels_first(maps: Tensor) -> Tensor:
    """See Edge.channels_first. OpenVINO's convolutions give channels last. Converting them back at the end of a graph
    takes four times as long as these two transpositions, the first of which is then free."""
    height, width = maps.shape[2:]
    return to_grid(maps.permute(0, 2, 3, 1).flatten(1, 2), height, width)


class CpuMotion(Motion):
    """See Motion."""

    def match(self, tokens: Tensor, keys: Tensor, gain: Tensor, height: int, width: int) -> Tensor:
        # Up to a constant per place, the squared distance is a product of positions. Appended to the keys, it costs
        # one matrix product and no addition to a tensor as large as the attention.
        places = cell_centres(height, width) - torch.tensor([width / 2, height / 2])
        own, theirs = every_second(places) / SEARCH**2, places.flatten(0, 1)
        own = torch.cat([own, torch.ones(len(own), 1)], dim=-1).to(tokens)
        theirs = torch.cat([theirs, -(theirs**2).sum(-1, keepdim=True) / (2 * SEARCH**2)], dim=-1).to(keys)
        tokens = torch.cat([tokens * gain, own.expand(len(tokens), -1, -1)], dim=-1)
        keys = torch.cat([keys, theirs.expand(*keys.shape[:2], -1, -1)], dim=-1)
        return tokens[:, None] @ keys.transpose(2, 3)

    def best(self, logits: Tensor) -> Tensor:
        # OpenVINO sorts to compute ``argmax``: 10% of the read decoder's time, 20% in bf16.
        count = logits.shape[-1]
        largest = (logits >= logits.amax(-1, keepdim=True)).float()
        # FP32 represents all these indices exactly. If no value is the largest (NaNs), the result is the last index.
        from_the_end = (largest * torch.arange(count, 0, -1).float()).amax(-1, keepdim=True)
        return (count - from_the_end).clamp(max=count - 1).to(torch.int64)

    def sample(self, cells: Tensor, moves: Tensor) -> Tensor:
        # Four gathers of whole rows: ONNX Runtime's GridSample recomputes every position for each channel.
        images, height, width = moves.shape[:3]
        x, y = ((cell_centres(height, width).to(moves) - 0.5)[..., axis] + moves[..., axis] for axis in (0, 1))
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        left, top = x.floor(), y.floor()
        right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
        to_right, down = x - left, y - top
        to_left, up = 1 - to_right, 1 - down
        first = torch.arange(images).to(moves)[:, None, None] * (height * width)
        rows = cells.to(moves).flatten(0, 1)

        def corner(row: Tensor, column: Tensor, share: Tensor) -> Tensor:
            # FP32 represents cell indices exactly up to 2 ** 24.
            cell = (first + row * width + column).to(torch.int64)
            return rows[cell.flatten()] * share.reshape(-1, 1)

        sampled = corner(top, left, to_left * up) + corner(top, right, to_right * up)
        sampled = sampled + corner(bottom, left, to_left * down) + corner(bottom, right, to_right * down)
        return sampled.unflatten(0, (images, height * width))

    def spread(self, coarse: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        by_column = columns @ coarse
        return (rows @ by_column.flatten(3)).unflatten(3, by_column.shape[3:])
