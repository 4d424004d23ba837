"""A sequence through the network, as training sees it: memorise what is given, predict the rest (paper section 2.3).

Plain training gives the labels of all frames but the last, which is predicted. Cyclic training gives those of the first
frames only; the others are predicted one after the other and memorised with what was predicted, gradients and all, and
the loss is the sum over them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data.samples import Sample
from training.losses import LOSSES, LossName
from training.model.network import QueryEncoding, SpaceTimeMemory


@dataclass  # not frozen: Fabric hangs its hooks into what a network returns
class Unrolled:
    """What came out of a batch."""

    losses: Tensor
    """[B, N]: 0 for frames whose maps were given."""
    maps: dict[int, Tensor]
    """[B, C, h, w] confidences of the frames that were predicted, by number; without gradients."""


class Unroll(nn.Module):
    """The network with its loss: one forward pass is a whole sequence, so that several devices can share batches."""

    def __init__(self, model: SpaceTimeMemory, loss: LossName) -> None:
        super().__init__()
        self.model = model
        self._loss = LOSSES[loss]

    def forward(self, batch: Sample) -> Unrolled:
        """B sequences of N frames; see Sample."""
        frames, given = batch["frames"], batch["given"]
        count, number = frames.shape[:2]
        query = self.model.encode_query(frames.flatten(0, 1))
        memory: list[tuple[Tensor, Tensor]] = []
        losses, predicted = query.key.new_zeros(count, number), {}
        for n in range(number):
            current = _frame(query, count, n)
            known = batch["maps"][:, n]
            if not bool(given[:, n].all()):
                logits = self._predict(current, memory, batch["readable"])
                loss = self._loss(logits.float(), known, batch["weights"][:, n].to(known))
                losses[:, n] = loss * ~given[:, n]
                maps = torch.sigmoid(logits)
                predicted[n] = maps.detach()
                known = torch.where(given[:, n, None, None, None], known, maps.to(known))
            if n < number - 1:
                name = self.model.memory_source
                source = frames[:, n] if name == "frame" else current.features[name]
                memory.append(self.model.encode_memory(source, known.to(query.key)))
        return Unrolled(losses, predicted)

    def _predict(self, query: QueryEncoding, memory: list[tuple[Tensor, Tensor]], readable: Tensor) -> Tensor:
        """Logits of a frame, given the frames before it."""
        if not memory:  # a cold start: one slot that may not be read
            memory = [(torch.zeros_like(query.key), torch.zeros_like(query.value))]
            valid = readable.new_zeros(len(readable), 1)
        else:
            valid = readable[:, : len(memory)]
        keys, values = (torch.stack(tensors, dim=1) for tensors in zip(*memory, strict=True))
        return self.model.decode(self.model.read(query, keys, values, valid.to(query.key)), query)


def _frame(query: QueryEncoding, count: int, number: int) -> QueryEncoding:
    """Frame ``number`` of each of ``count`` sequences out of the encoding of all their frames."""

    def take(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (count, -1))[:, number]

    features = {name: take(tensor) for name, tensor in query.features.items()}
    return QueryEncoding(take(query.key), take(query.value), features)
