"""The parts of MoveNet MultiPose in ``edge``: MobileNetV2 with width 1.5, FPN and keypoint head.

Convolutions use TensorFlow's SAME padding: with stride 2 on even sizes, zeros are added only on the right and below.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.network import RARE

STEM_CHANNELS = 48
# (hidden, out, stride) of each inverted residual; the first has no expansion.
BLOCKS = (
    (48, 24, 1),
    (144, 40, 2),
    (240, 40, 1),
    (240, 48, 2),
    (288, 48, 1),
    (288, 48, 1),
    (288, 96, 2),
    (576, 96, 1),
    (576, 96, 1),
    (576, 96, 1),
    (576, 144, 1),
    (864, 144, 1),
    (864, 144, 1),
    (864, 240, 2),
    (1440, 240, 1),
    (1440, 240, 1),
    (1440, 480, 1),
)
LAST_CHANNELS = 1280
FPN_CHANNELS = {"p4": 64, "p3": 32, "p2": 24}
HEAD_CHANNELS = 96
MATCHING_BLOCK, MATCHING_CHANNELS = 10, 144
"""The block at stride 16 whose features match best between frames (by cosine nearest neighbour)."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.adds_input = stride == 1 and inputs == outputs
        self.expand = nn.Conv2d(inputs, hidden, 1) if hidden != inputs else None
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding=2 - stride, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = F.relu6(self.depthwise(pad_same(y) if self.stride == 2 else y))
        y = self.project(y)
        return x + y if self.adds_input else y


class SeparableConv(nn.Module):
    """Depthwise 3x3 without bias, pointwise with bias, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)))


class Trunk(nn.Module):
    """MobileNetV2 and the FPN's lateral convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, 2)
        widths = (STEM_CHANNELS, *(out for _, out, _ in BLOCKS))
        self.blocks = nn.ModuleList(
            InvertedResidual(inputs, *block) for inputs, block in zip(widths[:-1], BLOCKS, strict=True)
        )
        self.last = nn.Conv2d(widths[-1], LAST_CHANNELS, 1)
        self.top = nn.Conv2d(LAST_CHANNELS, FPN_CHANNELS["p4"], 1)
        self.lateral_16 = nn.Conv2d(96, FPN_CHANNELS["p4"], 1)
        self.lateral_8 = nn.Conv2d(48, FPN_CHANNELS["p3"], 1)
        self.lateral_4 = nn.Conv2d(40, FPN_CHANNELS["p2"], 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """RGB [B, 3, H, W] in [-1, 1] to

        ``features_16`` [B, 144, H/16, W/16], from which keys are made, and the FPN's inputs ``features_p4``
        [B, 64, H/16, W/16] (sum of top and lateral), ``features_p3`` [B, 32, H/8, W/8] and ``features_p2``
        [B, 24, H/4, W/4].
        """
        x = F.relu6(self.stem(pad_same(x)))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        top = self.top(F.relu6(self.last(x)))
        return {
            "features_16": outputs[MATCHING_BLOCK],
            "features_p4": upsample(top) + self.lateral_16(outputs[9]),
            "features_p3": self.lateral_8(outputs[5]),
            "features_p2": self.lateral_4(outputs[2]),
        }


class FPN(nn.Module):
    """Feature pyramid from stride 16 to the features at stride 4 that the heads share."""

    def __init__(self) -> None:
        super().__init__()
        p4, p3, p2 = FPN_CHANNELS.values()
        self.smooth_16 = SeparableConv(p4, p3)
        self.smooth_8 = SeparableConv(p3, p2)
        self.smooth_4 = SeparableConv(p2, p2)

    def forward(self, p4: Tensor, p3: Tensor, p2: Tensor) -> Tensor:
        """[B, 64, H/16, W/16], [B, 32, H/8, W/8], [B, 24, H/4, W/4] to [B, 24, H/4, W/4]."""
        x = upsample(self.smooth_16(p4)) + p3
        x = upsample(self.smooth_8(x)) + p2
        return self.smooth_4(x)


class Head(nn.Module):
    """Logits of maps from the features at stride 4."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.hidden = SeparableConv(FPN_CHANNELS["p2"], HEAD_CHANNELS)
        self.predict = nn.Conv2d(HEAD_CHANNELS, maps, 1)
        self.predict.bias = nn.Parameter(torch.full((maps,), RARE))

    def forward(self, features: Tensor) -> Tensor:
        return self.predict(self.hidden(features))


def pad_same(x: Tensor) -> Tensor:
    """TensorFlow's SAME padding for a 3x3 convolution with stride 2 on an even size."""
    return F.pad(x, (0, 1, 0, 1))


def upsample(x: Tensor) -> Tensor:
    """Bilinear upsampling by 2 with half-pixel centres."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
