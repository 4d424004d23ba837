"""Equal arithmetic that ONNX Runtime has faster code for on a CPU, for FP32 bundles.

TensorRT takes what training computes: of gathered rows TensorRT-RTX makes kernels of up to 300 MB at some sizes, which
take minutes to build, and FP32 products of matrices have no kernel on Turing GPUs.
"""

import copy

import torch
from torch import Tensor

from training.model import Edge, SpaceTimeMemory
from training.model.motion import Motion, middles


def for_cpu(model: SpaceTimeMemory) -> SpaceTimeMemory:
    """A copy of a network that computes the same for the FP32 graphs of a CPU."""
    model = copy.deepcopy(model)
    if isinstance(model, Edge):
        model.motion = CpuMotion()
    return model


class CpuMotion(Motion):
    """See Motion."""

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
