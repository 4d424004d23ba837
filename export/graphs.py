"""The three graphs as modules, including peaks and edge scores.

Shape legend: T slots, H x W network input, Q = H/16 * W/16 tokens, C maps, K peaks per joint, P centres; NK joints and
NE edges.

The encoders take one frame without a batch axis or, in a bundle for batches, B frames with a leading axis B. The
decoder reads for one camera.
"""

from torch import Tensor, nn

from training.model import QueryEncoding, SpaceTimeMemory


class QueryEncoder(nn.Module):
    """``frame`` uint8 [H, W, 3] BGR to ``query_key`` [Q, Ck], ``query_value`` [Q, Cv] and ``features_*`` [c, h, w]."""

    def __init__(self, model: SpaceTimeMemory, batched: bool = False) -> None:
        super().__init__()
        self.model, self.batched = model, batched

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        frames = _as_floats(frame, self.model)
        query = self.model.encode_query(frames if self.batched else frames[None])
        tensors = query.key, query.value, *query.features.values()
        return tensors if self.batched else tuple(tensor.squeeze(0) for tensor in tensors)


class MemoryEncoder(nn.Module):
    """``frame`` or ``features_16``, and ``maps`` [C, H/4, W/4] to ``memory_key`` [Q, Ck], ``memory_value`` [Q, Cv]."""

    def __init__(self, model: SpaceTimeMemory, batched: bool = False) -> None:
        super().__init__()
        self.model, self.batched = model, batched

    def forward(self, source: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        sources = _as_floats(source, self.model)
        if self.batched:
            return self.model.encode_memory(sources, maps)
        key, value = self.model.encode_memory(sources[None], maps[None])
        return key.squeeze(0), value.squeeze(0)


class ReadDecoder(nn.Module):
    """Memory and query to ``maps``, ``peaks`` [NK, K, 3], ``edge_scores`` [NE, K, K], ``previous`` [T, NK, K, 2] and,
    for networks with centres, ``centres`` [P, 3] and ``centre_joints`` [P, NK, 2].

    Networks without keypoint maps give only ``maps``.
    """

    def __init__(self, model: SpaceTimeMemory, peaks: int) -> None:
        super().__init__()
        self.model = model
        self.peaks = peaks

    def forward(self, keys: Tensor, values: Tensor, valid: Tensor, *query: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(keys, values, valid, *query).values())

    def named(self, keys: Tensor, values: Tensor, valid: Tensor, *query: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name, in their order."""
        encoding = QueryEncoding(
            query[0][None],
            query[1][None],
            {name: features[None] for name, features in zip(self.model.decoder_features, query[2:], strict=True)},
        )
        return self.model.detect(encoding, keys[None], values[None], valid[None], self.peaks)


def _as_floats(tensor: Tensor, model: nn.Module) -> Tensor:
    """Cast to the weights' type. This must be the first operation: TensorRT accepts only a cast on uint8."""
    return tensor.to(next(model.parameters()).dtype)
