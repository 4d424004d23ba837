"""MoveNet's centres: the position of each person, and the expected positions of the person's joints.

Two heads on the same features as the keypoint head. A centre groups joints without looking at the image between them,
as edges do, and it also predicts joints that are not visible.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stm_skeletons.geometry import STRIDE
from training.model.movenet import FPN_CHANNELS, HEAD_CHANNELS, Head, SeparableConv
from training.model.parts import find_peaks

CENTRES = 30
"""P: largest number of centres in a frame."""


class Centres(nn.Module):
    """A heat map of people's centres, and offsets from each centre to the joints."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.heat_map = Head(1)
        self.hidden = SeparableConv(FPN_CHANNELS["p2"], HEAD_CHANNELS)
        self.predict = nn.Conv2d(HEAD_CHANNELS, 2 * joints, 1)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.get_parameter("bias"))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Centres of a frame from its features [1, 24, h, w], in FP32 for any type of the features.

        Returns:
            centres [P, 3]: x, y of a cell's centre in network pixels, and score; best first. If there are fewer maxima
                than P, the rest have score 0.
            centre_joints [P, NK, 2]: x, y in network pixels at which each centre expects the person's joints.
        """
        heat = torch.sigmoid(self.heat_map(features).float()).squeeze(0)
        peaks, cells = find_peaks(heat, CENTRES)
        # FP32, because FP16 cannot represent every cell index.
        row, column = cells[0, :, 0].float(), cells[0, :, 1].float()
        index = (row * features.shape[3] + column).to(torch.int64)
        steps = self.steps(features, index[None])[0].float()
        # MoveNet's offsets start at the corner of the cell, not at its centre.
        joints = (torch.stack([column, row], dim=-1)[:, None] + steps) * STRIDE
        positions = torch.stack([column + 0.5, row + 0.5], dim=-1) * STRIDE
        return torch.cat([positions, peaks[0, :, 2:]], dim=-1), joints

    def steps(self, features: Tensor, index: Tensor) -> Tensor:
        """Offsets from centres to joints, computed only at the cells of the centres.

        Args:
            features: [B, 24, h, w]
            index: int64 [B, P]: row * w + column of each cell.

        Returns:
            [B, P, NK, 2]: x, y in cells.
        """
        spread = self.hidden.depthwise(features)
        if len(index) == 1:  # a single operation on whole rows, which every compiler supports
            chosen = spread.permute(0, 2, 3, 1).flatten(1, 2)[:, index[0]].transpose(1, 2)
        else:
            chosen = spread.flatten(2).gather(2, index[:, None].expand(-1, spread.shape[1], -1))
        steps = self.predict(F.relu(self.hidden.pointwise(chosen[..., None]))).squeeze(-1)
        # MoveNet stores y before x.
        return steps.unflatten(1, (self.joints, 2)).flip(2).permute(0, 3, 1, 2)
