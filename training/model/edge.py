"""``edge``: MoveNet MultiPose's detector with a space-time memory, for boards and CPUs.

RGB is encoded once: the memory encoder works on the query encoder's features at stride 16 plus the maps. What is read
from memory is added to the maps' logits through layers without bias, the last of which starts at zero. So a freshly
converted network is MoveNet's frame-by-frame detector, and with an empty memory it stays that as long as its trunk, FPN
and head do: keypoints change through what is remembered only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.config import ModelConfig
from training.model.movenet import FPN, FPN_CHANNELS, HEAD_CHANNELS, MATCHING_CHANNELS, Head, Trunk
from training.model.network import QueryEncoding, SpaceTimeMemory, to_grid, to_tokens

MEMORY_CHANNELS = 64
"""Width of keys and values alike, so that compilers fuse the memory read into one attention kernel."""
MEMORY_HIDDEN = 128
KEY_GAIN = 1.7
"""Makes the memory read pick a token's best matches from the start instead of averaging over many."""
UNFOLDED_CHANNELS = 24
"""Of what was read, at stride 4."""
P2_SCALE = 5.0
"""Brings the shared features at stride 4 (standard deviation about 0.2) to unit scale for the new heads."""


class Edge(SpaceTimeMemory):
    """The variant ``edge``."""

    memory_source = "features_16"
    decoder_features = ("features_p4", "features_p3", "features_p2")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        joints, edges = len(config.skeleton.joints), len(config.skeleton.edges)
        self.trunk = Trunk()
        self.key = TokenProjection(KEY_GAIN)
        self.query_value = TokenProjection()
        self.memory_encoder = MemoryEncoder(1 + joints + edges)
        self.memory_residual = MemoryResidual(1 + joints + edges)
        self.fpn = FPN()
        self.keypoint_head = Head(joints)
        self.mask_and_edge_head = Head(1 + edges)

    def encode_query(self, frame: Tensor) -> QueryEncoding:
        frame = frame.to(self.trunk.stem.weight)
        # MoveNet's own scale (it is 2/255 in FP16), RGB in [-1, 1].
        rgb = frame.permute(0, 3, 1, 2).flip(1) * 0.007843017578125 - 1
        features = self.trunk(rgb)
        return QueryEncoding(self.key(features["features_16"]), self.query_value(features["features_16"]), features)

    def encode_memory(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        # One key projection for both sides: a frame matches itself best (cf. STCN, Cheng et al. 2021).
        return self.key(source), self.memory_encoder(source, maps)

    def decode(self, read: Tensor, query: QueryEncoding) -> Tensor:
        features = self.fpn(*(query.features[name] for name in self.decoder_features))
        scaled = features * P2_SCALE
        mask_and_edges = self.mask_and_edge_head(scaled)
        logits = torch.cat([mask_and_edges[:, :1], self.keypoint_head(features), mask_and_edges[:, 1:]], dim=1)
        return logits + self.memory_residual(read, query.value, scaled)


class TokenProjection(nn.Module):
    """Layer-normalised tokens of the features at stride 16, projected to the memory's width."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(MATCHING_CHANNELS)
        self.project = nn.Linear(MATCHING_CHANNELS, MEMORY_CHANNELS)
        # Orthogonal: similarities between features survive the projection as well as they can before training.
        nn.init.orthogonal_(self.project.weight, gain)
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[B, 144, h, w] to [B, h * w, 64]."""
        return self.project(self.norm(to_tokens(features)))


class MemoryEncoder(nn.Module):
    """Features at stride 16 and the maps of a frame to the value that is memorised."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        half = MEMORY_HIDDEN // 2
        self.frame = TokenProjection()
        # Every 4 x 4 cells of the maps become the channels of one token: positions within it are kept.
        self.maps = nn.Conv2d(16 * maps, half, 1)
        self.conv1 = nn.Conv2d(MEMORY_HIDDEN, MEMORY_HIDDEN, 3, padding=1)
        self.conv2 = nn.Conv2d(MEMORY_HIDDEN, MEMORY_HIDDEN, 3, padding=1)
        self.value = nn.Conv2d(MEMORY_HIDDEN, MEMORY_CHANNELS, 1)

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:
        """[B, 144, H/16, W/16] and [B, C, H/4, W/4] to [B, Q, 64]."""
        frame = to_grid(self.frame(features), features.shape[2], features.shape[3])
        x = torch.cat([frame, self.maps(F.pixel_unshuffle(maps, 4))], dim=1)
        x = x + self.conv2(F.relu(self.conv1(F.relu(x))))
        return to_tokens(self.value(F.relu(x)))


class MemoryResidual(nn.Module):
    """What the memory read adds to the logits of all maps: exactly nothing where nothing was read.

    Tokens are unfolded to stride 4 and meet the detector's features there, so that what is remembered roughly finds its
    exact place. No layer has a bias, and the last one starts at zero.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.unfold = nn.Linear(MEMORY_CHANNELS, 16 * UNFOLDED_CHANNELS, bias=False)
        self.depthwise = nn.Conv2d(UNFOLDED_CHANNELS, UNFOLDED_CHANNELS, 5, 1, 2, groups=UNFOLDED_CHANNELS, bias=False)
        self.pointwise = nn.Conv2d(UNFOLDED_CHANNELS, HEAD_CHANNELS, 1, bias=False)
        self.gate = nn.Conv2d(FPN_CHANNELS["p2"], HEAD_CHANNELS, 1)
        self.predict = nn.Conv2d(HEAD_CHANNELS, maps, 1, bias=False)
        nn.init.zeros_(self.predict.weight)

    def forward(self, read: Tensor, query_value: Tensor, features: Tensor) -> Tensor:
        """read and query value [B, Q, 64], features [B, 24, h, w] to [B, C, h, w]."""
        tokens = self.unfold(read * torch.sigmoid(query_value))
        remembered = F.pixel_shuffle(to_grid(tokens, features.shape[2] // 4, features.shape[3] // 4), 4)
        hidden = F.relu(self.pointwise(self.depthwise(remembered)))
        return self.predict(hidden * torch.sigmoid(self.gate(features)))
