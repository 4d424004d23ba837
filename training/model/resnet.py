"""ResNet-50 up to stride 16, with torchvision's parameter names, so that its weight files can be loaded by name.

torchvision is not used: its compiled part only works with matching builds of PyTorch, and only two classes of plain
convolutions are needed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and affine terms ("disabled", paper section 2.3)."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the width, plus the input."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = FrozenBatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = FrozenBatchNorm2d(4 * width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), FrozenBatchNorm2d(4 * width))
            if stride != 1 or inputs != 4 * width
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """The stem and the first three stages, with ``inputs`` input channels and ``width`` channels after the stem."""

    def __init__(self, inputs: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks=3, stride=1)
        self.layer2 = _stage(4 * width, 2 * width, blocks=4, stride=2)
        self.layer3 = _stage(8 * width, 4 * width, blocks=6, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 4, 8 and 16, with 4, 8 and 16 times ``width`` channels, from [B, inputs, H, W]."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        stride_4 = self.layer1(x)
        stride_8 = self.layer2(stride_4)
        return stride_4, stride_8, self.layer3(stride_8)


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Bottleneck(inputs, width, stride), *(Bottleneck(4 * width, width) for _ in range(1, blocks)))
