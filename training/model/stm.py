"""STM-skeletons as in the paper (section 2.2, Figure 2); with a single map, the original STM (Figure 1).

Two ResNet-50 encoders, keys of 128 and values of 512 channels at stride 16, a decoder at 256 channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stm_skeletons.geometry import STRIDE
from training.model.config import ModelConfig
from training.model.network import RARE, QueryEncoding, SpaceTimeMemory, to_grid, to_tokens
from training.model.resnet import Bottleneck, ResNet50

STEM_CHANNELS = 64
"""Channels of the paper's network, like the next three; ``ModelConfig.width`` scales them."""
KEY_CHANNELS = 128
VALUE_CHANNELS = 512
DECODER_CHANNELS = 256
_RESIDUAL_SCALE = 0.25
"""Initial scale of residual branches with random weights: with frozen batch normalisation the signal would grow."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in [0, 1]."""


class STMSkeletons(SpaceTimeMemory):
    """The variants ``resnet50`` and ``stm``."""

    memory_source = "frame"
    decoder_features = ("features_8", "features_4")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        maps = len(config.channels)
        stem, key, value, decoder = (
            max(4, round(channels * config.width))
            for channels in (STEM_CHANNELS, KEY_CHANNELS, VALUE_CHANNELS, DECODER_CHANNELS)
        )
        self.query_encoder = ResNet50(inputs=3, width=stem)
        # One stem for frame and maps together, which equals the sum of STM's separate stems.
        self.memory_encoder = ResNet50(inputs=3 + maps, width=stem)
        self.query_head = KeyValue(16 * stem, key, value)
        self.memory_head = KeyValue(16 * stem, key, value)
        self.decoder = Decoder(value, stem, decoder, maps)
        self.apply(_initialise)

    def encode_query(self, frame: Tensor) -> QueryEncoding:
        stride_4, stride_8, stride_16 = self.query_encoder(_normalise(frame, self.decoder.predict.weight))
        key, value = self.query_head(stride_16)
        return QueryEncoding(key, value, {"features_8": stride_8, "features_4": stride_4})

    def encode_memory(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        maps = F.interpolate(maps, scale_factor=STRIDE, mode="bilinear", align_corners=False)
        features = self.memory_encoder(torch.cat([_normalise(source, maps), maps], dim=1))
        return self.memory_head(features[-1])

    def decode(self, read: Tensor, query: QueryEncoding) -> Tensor:
        stride_8, stride_4 = query.features["features_8"], query.features["features_4"]
        memory = torch.cat([read, query.value], dim=-1)
        return self.decoder(to_grid(memory, stride_8.shape[2] // 2, stride_8.shape[3] // 2), stride_8, stride_4)


def _normalise(frame: Tensor, like: Tensor) -> Tensor:
    """BGR [B, H, W, 3] from 0 to 255 to ImageNet-normalised RGB [B, 3, H, W] with type and device of ``like``."""
    # The cast comes first, because some compilers support no other operation on uint8.
    frame = frame.to(like).permute(0, 3, 1, 2).flip(1)
    mean = torch.tensor(IMAGENET_MEAN).to(like)[:, None, None]
    std = torch.tensor(IMAGENET_STD).to(like)[:, None, None]
    return (frame - 255 * mean) / (255 * std)


def _initialise(module: nn.Module) -> None:
    """Initialise random weights such that the signal keeps its scale, because normalisation is frozen."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Bottleneck):
        module.bn3.weight.fill_(_RESIDUAL_SCALE)
    elif isinstance(module, ResidualBlock):
        module.conv2.weight.data.mul_(_RESIDUAL_SCALE)
    elif isinstance(module, Decoder):
        module.predict.weight.data.mul_(_RESIDUAL_SCALE)
        nn.init.constant_(module.predict.get_parameter("bias"), RARE)


class KeyValue(nn.Module):
    """3x3 convolutions to key and value, both token-major."""

    def __init__(self, inputs: int, key: int, value: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(inputs, key, 3, padding=1)
        self.value = nn.Conv2d(inputs, value, 3, padding=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return to_tokens(self.key(features)), to_tokens(self.value(features))


class Decoder(nn.Module):
    """Refines from stride 16 to stride 4 with the query encoder's features; predicts one logit per map."""

    def __init__(self, value: int, stem: int, channels: int, maps: int) -> None:
        super().__init__()
        self.convert = nn.Conv2d(2 * value, channels, 3, padding=1)
        self.residual = ResidualBlock(channels)
        self.refine_8 = Refine(8 * stem, channels)
        self.refine_4 = Refine(4 * stem, channels)
        self.predict = nn.Conv2d(channels, maps, 3, padding=1)

    def forward(self, memory: Tensor, stride_8: Tensor, stride_4: Tensor) -> Tensor:
        x = self.residual(self.convert(memory))
        x = self.refine_8(stride_8, x)
        x = self.refine_4(stride_4, x)
        return self.predict(F.relu(x))


class Refine(nn.Module):
    """Doubles the resolution and adds encoder features."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.convert = nn.Conv2d(inputs, channels, 3, padding=1)
        self.skip_residual = ResidualBlock(channels)
        self.merge_residual = ResidualBlock(channels)

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        skip = self.skip_residual(self.convert(features))
        return self.merge_residual(skip + F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False))


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))
