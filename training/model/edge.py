"""``edge``: MoveNet MultiPose's detector with a space-time memory, for boards and CPUs.

RGB is encoded once: the memory encoder works on the query encoder's features at stride 16 plus the maps. Memory is read
with compensation of movement (training.model.motion). What the detector sees now and what was read are mixed cell by
cell: no keypoint is surer than some frame on its own said, so mistakes cannot feed themselves through the memory,
however long it runs; and what is seen counts for a quarter at least, so the memory of an empty place cannot keep out
who walks into it. With an empty memory the keypoint maps are MoveNet's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.centres import Centres
from training.model.config import ModelConfig
from training.model.motion import Motion
from training.model.movenet import FPN, FPN_CHANNELS, MATCHING_CHANNELS, Head, Trunk, upsample
from training.model.network import MASKED, RARE, QueryEncoding, SpaceTimeMemory, to_grid, to_tokens
from training.model.parts import TOKEN, came_from, find_parts

KEY_CHANNELS = 64
VALUE_CHANNELS = 24
"""Of a value at stride 8: a confidence for each joint, what was learnt, and how clear the cell is. For each token there
are four such cells."""
CONTEXT_CHANNELS = 4 * VALUE_CHANNELS
"""Of the query at stride 16; the last is how clear the token is."""
MEMORY_HIDDEN = 48
CLEARNESS_HIDDEN = 32
FUSION_HIDDEN = 48
EDGE_HIDDEN = 96
START_GAIN = 20.0
"""Of the similarity of keys, which are unit vectors."""
START_SHARES = (0.05, 0.5)
"""In the keypoint maps, before training: of the slots' maximum (the rest is their mean's) in what memory says, and of
memory in the mix. The mean of what is seen and remembered, nearly: the best rule that learns nothing."""
MOST_LOWERED = 0.75
"""Of memory's share in the mix where it says less than is seen. Without a bound what is remembered of an empty place
may outvote for ever what walks into it, since the outcome is what is memorised next."""
SURE = 1e-4
"""Joints' confidences stay so far from 0 and 1 where their logits are taken, in training."""
P2_SCALE = 5.0
"""Brings the shared features at stride 4 (standard deviation about 0.2) to unit scale for the new heads."""


class Edge(SpaceTimeMemory):
    """The variant ``edge``."""

    memory_source = "features_16"
    decoder_features = ("features_p4", "features_p3", "features_p2")
    motion = Motion()
    """An export may put an equal one in its place."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.joints, edges = len(config.skeleton.joints), len(config.skeleton.edges)
        maps = 1 + self.joints + edges
        self.trunk = Trunk()
        # MoveNet's features have wild scales: what is new takes them at unit scale.
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
        # MoveNet's own scale (it is 2/255 in FP16), RGB in [-1, 1].
        rgb = frame.permute(0, 3, 1, 2).flip(1) * 0.007843017578125 - 1
        features = self.trunk(rgb)
        standard = self.standard(features["features_16"])
        context = torch.cat([F.relu(self.context(standard)), self.clearness(standard)], dim=1)
        handed_on = {"features_16": standard, "features_p2": self.channels_first(features["features_p2"])}
        return QueryEncoding(self.key(standard), to_tokens(context), {**features, **handed_on})

    def encode_memory(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        # One key for both sides: a frame matches itself best (cf. STCN, Cheng et al. 2021).
        value = to_tokens(self.memory_encoder(source, maps, upsample(self.clearness(source))))
        # A slot holds the cells at stride 8 one after the other, whatever token they belong to.
        return self.key(source), value.reshape(len(value), -1, CONTEXT_CHANNELS)

    def read(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """See ``recall``."""
        return self.recall(query, keys, values, valid)[0]

    def recall(self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The slots' values where they were then, mixed: [B, VALUE_CHANNELS + NK + 1, H/8, W/8]; and where each cell
        was in each slot: [B, T, H/8, W/8, 2], x, y to be added to its position, in tokens.

        Channels: VALUE_CHANNELS - 1 of the mean of the slots, each weighted by how clear it is there and how well it
        matches; the joints' maximum over the slots; how clear the memory is; 1 where there is one. All zero without.
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
        # Multiplied as well as masked: what invalid slots hold may be of any size.
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
        """[B, 24, H/4, W/4]: the FPN's, which all heads work on."""
        return self.fpn(*(query.features[name] for name in self.decoder_features))

    def _parts(self, features: Tensor, read: Tensor, query: QueryEncoding) -> tuple[Tensor, Tensor]:
        """Of the shared features and what was read: the joints' confidences [B, NK, H/4, W/4], and the logits of mask
        and edges [B, 1 + NE, H/4, W/4]."""
        context = to_grid(query.value, read.shape[2] // 2, read.shape[3] // 2)
        scaled = features * P2_SCALE
        joints = self.fusion(read, context, scaled, torch.sigmoid(self.keypoint_head(features)))
        # Edges follow the keypoints; how well they do must not move these in training.
        return joints, self.mask_and_edge_head(scaled, joints.detach(), context)

    def detect(
        self, query: QueryEncoding, keys: Tensor, values: Tensor, valid: Tensor, count: int
    ) -> dict[str, Tensor]:
        read, moves = self.recall(query, keys, values, valid)
        features = self.shared_features(query)
        joints, others = self._parts(features, read, query)
        maps = self.channels_first(_in_order(joints.float(), torch.sigmoid(others.float()))).squeeze(0)
        found = find_parts(maps, self.config.skeleton, count)
        previous = came_from(found.peaks, self._moves_of(found.cells, moves.squeeze(0)), valid.squeeze(0))
        centres, centre_joints = self.centres(features)
        return {"maps": maps, **found.tensors, "previous": previous, "centres": centres, "centre_joints": centre_joints}

    @staticmethod
    def channels_first(maps: Tensor) -> Tensor:
        """Maps [B, C, h, w] as they leave a graph: as they are; an export may put an equal one in its place."""
        return maps

    @staticmethod
    def _moves_of(cells: Tensor, moves: Tensor) -> Tensor:
        """[T, NK, K, 2]: the movements [T, H/8, W/8, 2] (tokens) at cells [NK, K, 2] of stride 4, in network pixels."""
        slots, _, width, _ = moves.shape
        row, column = torch.floor(cells[..., 0] / 2), torch.floor(cells[..., 1] / 2)
        index = (row * width + column).to(torch.int64)
        return (moves.float().flatten(1, 2)[:, index.flatten()] * TOKEN).reshape(slots, *index.shape, 2)


def _in_order(joints: Tensor, others: Tensor) -> Tensor:
    """The maps of mask, joints and edges, in the order of the skeleton's channels."""
    return torch.cat([others[:, :1], joints.to(others), others[:, 1:]], dim=1)


def _logit(confidence: Tensor) -> Tensor:
    sure = confidence.float().clamp(SURE, 1 - SURE)
    return torch.log(sure / (1 - sure))


def _log_sum_exp(logits: Tensor) -> Tensor:
    """torch.logsumexp over the slots, in operations that stay finite in TensorRT too, also where all is MASKED."""
    largest = logits.amax(1)
    return largest + torch.log(torch.exp(logits - largest[:, None]).sum(1))


def _halved(moves: Tensor) -> Tensor:
    """[N, 2h, 2w, 2] to [N, h, w, 2]."""
    return F.avg_pool2d(moves.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="nearest")


class Key(nn.Module):
    """Unit vectors by which frames are matched."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(MATCHING_CHANNELS, KEY_CHANNELS)
        # Orthogonal: similarities between features survive the projection as well as they can before training.
        nn.init.orthogonal_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.gain = nn.Parameter(torch.tensor(START_GAIN))

    def forward(self, features: Tensor) -> Tensor:
        """[B, 144, h, w] to [B, h * w, 64]."""
        key = self.project(to_tokens(features))
        return F.normalize(key.float(), dim=-1).to(key)


class MemoryEncoder(nn.Module):
    """Features at stride 16 and the maps of a frame to the value that is memorised, at stride 8."""

    def __init__(self, maps: int, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.frame = nn.Conv2d(MATCHING_CHANNELS, MEMORY_HIDDEN, 1)
        self.maps = nn.Conv2d(maps, MEMORY_HIDDEN, 2, stride=2)
        self.block = WideBlock(MEMORY_HIDDEN)
        self.learnt = nn.Conv2d(MEMORY_HIDDEN, VALUE_CHANNELS - joints, 1)
        # The last one says how much clearer or less clear a cell is than its features tell: nothing, at first.
        with torch.no_grad():
            self.learnt.weight[-1:].zero_()
            self.learnt.get_parameter("bias")[-1:].zero_()

    def forward(self, features: Tensor, maps: Tensor, clear: Tensor) -> Tensor:
        """[B, 144, H/16, W/16], [B, C, H/4, W/4] and [B, 1, H/8, W/8] to [B, VALUE_CHANNELS, H/8, W/8].

        The joints' confidences come first, how clear a cell is comes last.
        """
        confidences = F.max_pool2d(maps[:, 1 : 1 + self.joints], 2)
        x = F.relu(_doubled(self.frame(features)) + self.maps(maps))
        learnt = self.learnt(self.block(x))
        return torch.cat([confidences, learnt[:, :-1], clear + learnt[:, -1:]], dim=1)


class Clearness(nn.Module):
    """How clearly a token is seen, as the logarithm of a weight: low behind occluders and in blur, at first 0."""

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
    """Logits of mask and edges, which MoveNet does not have, at stride 8 with four cells each.

    It sees the keypoint maps, and far enough to see both ends of an edge.
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
    """Residual: depthwise 5x5, then 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.pointwise(F.relu(self.depthwise(x))))


class Fusion(nn.Module):
    """What is seen now and what was read, mixed cell by cell and joint by joint.

    It can only mix, so no keypoint is surer than some frame on its own said: mistakes do not feed themselves through
    the memory. What is seen frame after frame comes through, whatever was remembered (MOST_LOWERED).
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
        """The joints' confidences [B, NK, H/4, W/4]; those seen, exactly, where there is no memory.

        Args:
            read: [B, VALUE_CHANNELS + NK + 1, H/8, W/8], see Edge.recall.
            context: [B, CONTEXT_CHANNELS, H/16, W/16]
            features: [B, 24, H/4, W/4]
            seen: [B, NK, H/4, W/4] the joints' confidences in this frame alone.
        """
        x = self.seen(torch.cat([features, seen], dim=1)) + self.read(read)
        x = self.block(F.relu(x + upsample(self.context(context))))
        shares = self.shares(x)
        of_largest = torch.sigmoid(shares[:, : self.joints])
        clearer = upsample(read[:, -2:-1] - upsample(context[:, -1:])).float()
        of_memory = torch.sigmoid(F.pixel_shuffle(shares[:, self.joints :], 2).float() + clearer)
        mean, largest, known = remembered(read, self.joints)
        memory = upsample(mean + of_largest * (largest - mean)).float()
        now, known = seen.float(), known.float()
        change = memory - now
        change = change + (1 - MOST_LOWERED) * F.relu(-change)
        return (now + known * of_memory * change).to(seen)


def remembered(read: Tensor, joints: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of what was read (see Edge.recall): the joints' mean and maximum over the slots, [B, NK, H/8, W/8], and whether
    there is a memory at all, [B, 1, 1, 1]."""
    return read[:, :joints], read[:, -2 - joints : -2], read[:, -1:, :1, :1]
