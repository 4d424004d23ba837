"""MoveNet's centres: where people are, and where each of them has his or her joints.

Two heads on the features that the keypoint head has too. A centre tells whose joints belong together without a glance
at what lies between them, which is what edges do; and it expects joints that nobody sees.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stm_skeletons.geometry import STRIDE
from training.model.movenet import FPN_CHANNELS, HEAD_CHANNELS, Head, SeparableConv
from training.model.parts import find_peaks

CENTRES = 30
"""P: the largest number of people whose centre is told."""


class Centres(nn.Module):
    """A heat map of people's centres, and at each centre the way to its joints."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.heat_map = Head(1)
        self.hidden = SeparableConv(FPN_CHANNELS["p2"], HEAD_CHANNELS)
        self.predict = nn.Conv2d(HEAD_CHANNELS, 2 * joints, 1)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.get_parameter("bias"))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [1, 24, h, w] of one frame to what the read decoder gives, FP32 whatever they are.

        Returns:
            centres [P, 3]: x, y of the middle of a cell in network pixels, score, best first; the score is 0 where
                there are fewer maxima.
            centre_joints [P, NK, 2]: x, y in network pixels of where each centre expects its person's joints.
        """
        heat = torch.sigmoid(self.heat_map(features).float()).squeeze(0)
        peaks, cells = find_peaks(heat, CENTRES)
        # FP32 holds every cell's number, FP16 would not.
        row, column = cells[0, :, 0].float(), cells[0, :, 1].float()
        index = (row * features.shape[3] + column).to(torch.int64)
        steps = self.steps(features, index[None])[0].float()
        # MoveNet counts these steps from the corner of the cell, not from its middle.
        joints = (torch.stack([column, row], dim=-1)[:, None] + steps) * STRIDE
        middles = torch.stack([column + 0.5, row + 0.5], dim=-1) * STRIDE
        return torch.cat([middles, peaks[0, :, 2:]], dim=-1), joints

    def steps(self, features: Tensor, index: Tensor) -> Tensor:
        """The way from cells to the joints of the people whose centres they are, computed at these cells only.

        Args:
            features: [B, 24, h, w]
            index: int64 [B, P]: row * w + column of each cell.

        Returns:
            [B, P, NK, 2]: x, y in cells.
        """
        spread = self.hidden.depthwise(features)
        if len(index) == 1:  # as one operation that every compiler has, on whole rows
            chosen = spread.permute(0, 2, 3, 1).flatten(1, 2)[:, index[0]].transpose(1, 2)
        else:
            chosen = spread.flatten(2).gather(2, index[:, None].expand(-1, spread.shape[1], -1))
        steps = self.predict(F.relu(self.hidden.pointwise(chosen[..., None]))).squeeze(-1)
        # MoveNet has y before x.
        return steps.unflatten(1, (self.joints, 2)).flip(2).permute(0, 3, 1, 2)
