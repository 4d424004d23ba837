"""``edge``: MoveNet MultiPose's detector with a space-time memory, for boards and CPUs.

The image is encoded once: the memory encoder uses the query encoder's features at stride 16 and the maps. The memory is
read with motion compensation (training.model.motion). The current detection and the memory are mixed cell by cell. No
confidence exceeds the highest one of a single frame, so mistakes cannot amplify themselves through the memory. The
current detection has a weight of at least a quarter, so the memory of an empty place cannot suppress people who walk
in. A remembered joint gives way to the same joint seen beside it, so people who walk leave no trail. With an empty
memory, the keypoint maps are MoveNet's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.centres import Centres
from training.model.config import ModelConfig
from training.model.motion import Motion
from training.model.movenet import FPN, FPN_CHANNELS, MATCHING_CHANNELS, Head, Trunk, upsample
from training.model.network import MASKED, RARE, QueryEncoding, SpaceTimeMemory, to_grid, to_tokens
from training.model.parts import TOKEN, find_parts, previous_positions

KEY_CHANNELS = 64
VALUE_CHANNELS = 24
"""Channels of a value at stride 8: a confidence for each joint, learned channels, and the clearness of the cell. A
token has four such cells."""
CONTEXT_CHANNELS = 4 * VALUE_CHANNELS
"""Channels of the query at stride 16; the last is the clearness of the token."""
MEMORY_HIDDEN = 48
CLEARNESS_HIDDEN = 32
FUSION_HIDDEN = 48
EDGE_HIDDEN = 96
START_GAIN = 20.0
"""Initial gain of the similarity of keys, which are unit vectors."""
START_SHARES = (0.05, 0.5)
"""Initial shares before training: of the slots' maximum in the memory (the rest is their mean), and of the memory in
the mix. This is close to the mean of current detection and memory, the best fixed rule."""
MOST_LOWERED = 0.75
"""Factor of memory's share where it is lower than the current detection. Without it, the memory of an empty place could
suppress a person who walks in for ever, because the result is memorised again."""
SURE = 1e-4
"""Smallest distance of confidences from 0 and 1 when they are converted to logits in training."""
P2_SCALE = 5.0
"""Scales the shared features at stride 4 (standard deviation about 0.2) to unit scale for the new heads."""


class Edge(SpaceTimeMemory):
    """The variant ``edge``."""

    memory_source = "features_16"
    decoder_features = ("features_p4", "features_p3", "features_p2")
    motion = Motion()
    """An export may replace it by an equivalent implementation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.joints, edges = len(config.skeleton.joints), len(config.skeleton.edges)
        maps = 1 + self.joints + edges
        self.trunk = Trunk()
        # The scales of MoveNet's features differ widely, so the new layers get normalised features.
        self.standard = nn.BatchNorm2d(MATCHING_CHANNELS, affine=False, momentum=None)
        self.key = Key()
        self.context = nn.Conv2d(MATCHING_CHANNELS, CONTEXT_CHANNELS - 1, 1)
        self.clearness = Clearness()
        self.memory_encoder = MemoryEncoder(maps, self.joints)
        self.slot_match = nn.Parameter(torch.tensor(4.0))
        self.fpn = FPN()
        self.keypoint_head = Head(self.joints)
        self.mask_and_edge_head = MaskAndEdgeHead(1 + edges, self.joints)
        self.centres = Centres(self.joints)
        self.fusion: nn.Module = Fusion(self.joints)

    def encode_query(self, frame: Tensor) -> QueryEncoding:
        frame = frame.to(self.trunk.stem.weight)
        # MoveNet's own scale (2/255 in FP16): RGB in [-1, 1].
        rgb = frame.permute(0, 3, 1, 2).flip(1) * 0.007843017578125 - 1
        features = self.trunk(rgb)
        standard = self.standard(features["features_16"])
        context = torch.cat([F.relu(self.context(standard)), self.clearness(standard)], dim=1)
        changed = {"features_16": standard, "features_p2": self.channels_first(features["features_p2"])}
        return QueryEncoding(self.key(standard), to_tokens(context), {**features, **changed})

    def encode_memory(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        # Query and memory share the key, so a frame matches itself best (cf. STCN, Cheng et al. 2021).
        value = to_tokens(self.memory_encoder(source, maps, upsample(self.clearness(source))))
        # A slot stores the cells at stride 8 in row order, not by token.
        return self.key(source), value.reshape(len(value), -1, CONTEXT_CHANNELS)

    def read(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """See ``recall``."""
        return self.recall(query, keys, values, valid)[0]

    def recall(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Read the memory with motion compensation.

        Returns:
            The mixed values of the slots [B, VALUE_CHANNELS + NK + 1, H/8, W/8]. The channels are: VALUE_CHANNELS - 1
                of the mean over the slots, weighted by clearness and match; the joints' maximum over the slots; the
                clearness of the memory; and 1 if there is a memory. All are 0 without memory.
            The position of each cell in each slot [B, T, H/8, W/8, 2], as x, y relative to its position, in tokens.
        """
        batch, slots = keys.shape[:2]
        height, width = query.features["features_p4"].shape[2:]
        current = to_grid(query.key, height, width)
        every_second = to_tokens(current[:, :, ::2, ::2])
        near = self.motion.match(every_second, keys, self.key.gain, height, width)
        clear_now = to_grid(query.value, height, width)[:, -1:]
        moves = self.motion.movements(near, clear_now[:, :, ::2, ::2], height, width).flatten(0, 1)

        remembered = self.motion.sample(values.reshape(batch * slots, -1, VALUE_CHANNELS), 2 * moves)
        remembered = remembered.unflatten(0, (batch, slots))
        matching = self.motion.sample(keys.flatten(0, 1), _halved(moves)).unflatten(0, (batch, slots))
        match = (matching * query.key[:, None].float()).sum(-1)
        match = _doubled(match.unflatten(2, (height, width))).flatten(2)

        readable = valid.float()[:, :, None]
        # Multiplied as well as masked, because invalid slots may hold values of any size.
        clear = (remembered[..., -1] + self.slot_match.float() * (match - 1)) * readable
        clear = clear + (1 - readable) * MASKED
        mean = (torch.softmax(clear, dim=1)[..., None] * remembered).sum(1)[..., :-1]
        largest = (remembered[..., : self.joints] * readable[..., None]).amax(1)
        known = readable.amax(1)[..., None]
        clearest = _log_sum_exp(clear)[..., None] * known
        read = torch.cat([mean * known, largest, clearest, torch.ones_like(clearest) * known], dim=-1)
        return to_grid(read, 2 * height, 2 * width).to(values), moves.unflatten(0, (batch, slots))

    def forward(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        joints, others = self._parts(self.shared_features(query), self.read(query, keys, values, valid), query)
        return _in_order(joints, torch.sigmoid(others))

    def decode(self, read: Tensor, query: QueryEncoding) -> Tensor:
        joints, others = self._parts(self.shared_features(query), read, query)
        return _in_order(_logit(joints), others.float())

    def shared_features(self, query: QueryEncoding) -> Tensor:
        """The FPN's features [B, 24, H/4, W/4], which all heads use."""
        return self.fpn(*(query.features[name] for name in self.decoder_features))

    def _parts(self, features: Tensor, read: Tensor, query: QueryEncoding) -> tuple[Tensor, Tensor]:
        """Confidences of joints [B, NK, H/4, W/4] and logits of mask and edges [B, 1 + NE, H/4, W/4], from the shared
        features and the memory read."""
        context = to_grid(query.value, read.shape[2] // 2, read.shape[3] // 2)
        scaled = features * P2_SCALE
        joints = self.fusion(read, context, scaled, torch.sigmoid(self.keypoint_head(features)))
        # Detached: the loss of the edges must not change the keypoints.
        return joints, self.mask_and_edge_head(scaled, joints.detach(), context)

    def detect(
        self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor, count: int
    ) -> dict[str, Tensor]:
        read, moves = self.recall(query, keys, values, valid)
        features = self.shared_features(query)
        joints, others = self._parts(features, read, query)
        maps = self.channels_first(_in_order(joints.float(), torch.sigmoid(others.float()))).squeeze(0)
        found = find_parts(maps, self.config.skeleton, count)
        previous = previous_positions(found.peaks, self._moves_of(found.cells, moves.squeeze(0)), valid.squeeze(0))
        centres, centre_joints = self.centres(features)
        return {"maps": maps, **found.tensors, "previous": previous, "centres": centres, "centre_joints": centre_joints}

    @staticmethod
    def channels_first(maps: Tensor) -> Tensor:
        """Maps [B, C, h, w] unchanged; an export may replace it by an equivalent operation."""
        return maps

    @staticmethod
    def _moves_of(cells: Tensor, moves: Tensor) -> Tensor:
        """Movements [T, NK, K, 2] in network pixels at cells [NK, K, 2] of stride 4; ``moves``: [T, H/8, W/8, 2] in
        tokens."""
        slots, _, width, _ = moves.shape
        row, column = torch.floor(cells[..., 0] / 2), torch.floor(cells[..., 1] / 2)
        index = (row * width + column).to(torch.int64)
        return (moves.float().flatten(1, 2)[:, index.flatten()] * TOKEN).reshape(slots, *index.shape, 2)


def _in_order(joints: Tensor, others: Tensor) -> Tensor:
    """Maps of mask, joints and edges in the order of the skeleton's channels."""
    return torch.cat([others[:, :1], joints.to(others), others[:, 1:]], dim=1)


def _logit(confidence: Tensor) -> Tensor:
    clamped = confidence.float().clamp(SURE, 1 - SURE)
    return torch.log(clamped / (1 - clamped))


def _log_sum_exp(logits: Tensor) -> Tensor:
    """torch.logsumexp over the slots, with operations that stay finite in TensorRT even if all slots are MASKED."""
    largest = logits.amax(1)
    return largest + torch.log(torch.exp(logits - largest[:, None]).sum(1))


def _halved(moves: Tensor) -> Tensor:
    """[N, 2h, 2w, 2] to [N, h, w, 2]."""
    return F.avg_pool2d(moves.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="nearest")


class Key(nn.Module):
    """Unit vectors for matching frames."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(MATCHING_CHANNELS, KEY_CHANNELS)
        # An orthogonal projection preserves similarities between features best before training.
        nn.init.orthogonal_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.gain = nn.Parameter(torch.tensor(START_GAIN))

    def forward(self, features: Tensor) -> Tensor:
        """[B, 144, h, w] to [B, h * w, 64]."""
        key = self.project(to_tokens(features))
        return F.normalize(key.float(), dim=-1).to(key)


class MemoryEncoder(nn.Module):
    """Encodes the features at stride 16 and the maps of a frame to the memorised value at stride 8."""

    def __init__(self, maps: int, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.frame = nn.Conv2d(MATCHING_CHANNELS, MEMORY_HIDDEN, 1)
        self.maps = nn.Conv2d(maps, MEMORY_HIDDEN, 2, stride=2)
        self.block = WideBlock(MEMORY_HIDDEN)
        self.learnt = nn.Conv2d(MEMORY_HIDDEN, VALUE_CHANNELS - joints, 1)
        # The last channel corrects the clearness; the correction starts at 0.
        with torch.no_grad():
            self.learnt.weight[-1:].zero_()
            self.learnt.get_parameter("bias")[-1:].zero_()

    def forward(self, features: Tensor, maps: Tensor, clear: Tensor) -> Tensor:
        """Features [B, 144, H/16, W/16], maps [B, C, H/4, W/4] and clearness [B, 1, H/8, W/8] to the value
        [B, VALUE_CHANNELS, H/8, W/8].

        The joints' confidences come first, the clearness comes last.
        """
        confidences = F.max_pool2d(maps[:, 1 : 1 + self.joints], 2)
        x = F.relu(_doubled(self.frame(features)) + self.maps(maps))
        learnt = self.learnt(self.block(x))
        return torch.cat([confidences, learnt[:, :-1], clear + learnt[:, -1:]], dim=1)


class Clearness(nn.Module):
    """How clearly a token is visible, as the logarithm of a weight: low under occluders and in blur; starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(MATCHING_CHANNELS, CLEARNESS_HIDDEN, 1)
        self.predict = nn.Conv2d(CLEARNESS_HIDDEN, 1, 1)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """[B, 144, h, w] to [B, 1, h, w]."""
        return self.predict(F.relu(self.hidden(features)))


class MaskAndEdgeHead(nn.Module):
    """Logits of mask and edges, which MoveNet does not have, computed at stride 8 with four cells each.

    Its input includes the keypoint maps, and its receptive field covers both ends of an edge.
    """

    def __init__(self, maps: int, joints: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(FPN_CHANNELS["p2"], EDGE_HIDDEN, 2, stride=2)
        self.joints = nn.Conv2d(joints, EDGE_HIDDEN, 2, stride=2)
        self.context = nn.Conv2d(CONTEXT_CHANNELS, EDGE_HIDDEN, 1)
        self.blocks = nn.ModuleList(WideBlock(EDGE_HIDDEN) for _ in range(2))
        self.predict = nn.Conv2d(EDGE_HIDDEN, 4 * maps, 1)
        self.predict.bias = nn.Parameter(torch.full((4 * maps,), RARE))

    def forward(self, features: Tensor, joints: Tensor, context: Tensor) -> Tensor:
        """Features [B, 24, H/4, W/4], confidences [B, NK, H/4, W/4] and context [B, CONTEXT_CHANNELS, H/16, W/16] to
        [B, maps, H/4, W/4]."""
        x = self.features(features) + self.joints(joints)
        x = F.relu(x + upsample(self.context(context)))
        for block in self.blocks:
            x = block(x)
        return F.pixel_shuffle(self.predict(x), 2)


class WideBlock(nn.Module):
    """Residual block: depthwise 5x5, then 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.pointwise(F.relu(self.depthwise(x))))


class Fusion(nn.Module):
    """Mixes the current detection and the memory for each cell and joint.

    A mix never exceeds the highest confidence of a single frame, so mistakes cannot amplify themselves through the
    memory. A detection that persists prevails over any memory (MOST_LOWERED). The memory adds a joint only where the
    same joint is not seen beside it.
    """

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.seen = nn.Conv2d(FPN_CHANNELS["p2"] + joints, FUSION_HIDDEN, 2, stride=2)
        self.read = nn.Conv2d(VALUE_CHANNELS + joints + 1, FUSION_HIDDEN, 1)
        self.context = nn.Conv2d(CONTEXT_CHANNELS, FUSION_HIDDEN, 1)
        self.block = WideBlock(FUSION_HIDDEN)
        self.shares = nn.Conv2d(FUSION_HIDDEN, (1 + 4) * joints, 1)
        nn.init.zeros_(self.shares.weight)
        with torch.no_grad():
            start = torch.logit(torch.tensor(START_SHARES)).repeat_interleave(torch.tensor([1, 4]) * joints)
            self.shares.get_parameter("bias").copy_(start)

    def forward(self, read: Tensor, context: Tensor, features: Tensor, seen: Tensor) -> Tensor:
        """Confidences of the joints [B, NK, H/4, W/4]; exactly those of ``seen`` without memory.

        Args:
            read: [B, VALUE_CHANNELS + NK + 1, H/8, W/8], see Edge.recall.
            context: [B, CONTEXT_CHANNELS, H/16, W/16]
            features: [B, 24, H/4, W/4]
            seen: [B, NK, H/4, W/4] confidences of the joints in the current frame alone.
        """
        x = self.seen(torch.cat([features, seen], dim=1)) + self.read(read)
        x = self.block(F.relu(x + upsample(self.context(context))))
        shares = self.shares(x)
        of_largest = torch.sigmoid(shares[:, : self.joints])
        clearer = upsample(read[:, -2:-1] - upsample(context[:, -1:])).float()
        of_memory = torch.sigmoid(F.pixel_shuffle(shares[:, self.joints :], 2).float() + clearer)
        mean, largest, known = split_read(read, self.joints)
        memory = upsample(mean + of_largest * (largest - mean)).float()
        now, known = seen.float(), known.float()
        change = memory - now
        change = F.relu(change) * upsample(_seen_nowhere_near(now)) - MOST_LOWERED * F.relu(-change)
        return (now + known * of_memory * change).to(seen)


def _seen_nowhere_near(seen: Tensor) -> Tensor:
    """[B, NK, H/8, W/8]: near 0 where a neighbouring cell shows the joint clearly and this one does not; 1 where this
    cell shows it best, or nobody does. A joint that is seen where it has moved to is not also kept where it was."""
    cells = F.max_pool2d(seen, 2)
    return torch.square(1 - (F.max_pool2d(cells, 3, stride=1, padding=1) - cells))


def split_read(read: Tensor, joints: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split a memory read (see Edge.recall): mean and maximum of the joints over the slots, each [B, NK, H/8, W/8], and
    whether there is a memory, [B, 1, 1, 1]."""
    return read[:, :joints], read[:, -2 - joints : -2], read[:, -1:, :1, :1]
