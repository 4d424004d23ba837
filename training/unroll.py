"""Runs the network over a training sequence: memorises given frames and predicts the others (paper section 2.3).

In plain training, the labels of all frames but the last are given, and the last frame is predicted. In cyclic training,
only the labels of the first frames are given. The others are predicted one after the other and memorised with their
predictions, through which gradients flow. The loss is the sum over the predicted frames.

The memory holds all earlier frames, as in the paper, or the slots that the runtime would have.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stm_skeletons.memory_policy import readable_slots, write_slot
from training.data.samples import Sample
from training.losses import LOSSES, LossName
from training.model.network import QueryEncoding, SpaceTimeMemory
from training.recipe import MemorySection


@dataclass  # not frozen: Fabric adds hooks to the output of a network
class Unrolled:
    """Losses and predictions of a batch."""

    losses: Tensor
    """[B, N]: 0 for frames whose maps were given."""
    maps: dict[int, Tensor]
    """[B, C, h, w] confidences of the predicted frames by frame number, without gradients."""


class Unroll(nn.Module):
    """The network with its loss. One forward pass is a whole sequence, so that devices can share a batch."""

    def __init__(self, model: SpaceTimeMemory, loss: LossName, memory: MemorySection | None = None) -> None:
        super().__init__()
        self.model = model
        self._loss = LOSSES[loss]
        self._memory = memory or MemorySection()

    def forward(self, batch: Sample) -> Unrolled:
        """Unroll a batch of B sequences with N frames, see Sample."""
        frames, given = batch["frames"], batch["given"]
        count, number = frames.shape[:2]
        query = self.model.encode_query(frames.flatten(0, 1))
        memory = _Memory(self._memory)
        losses, predicted = query.key.new_zeros(count, number), {}
        for n in range(number):
            current = _frame(query, count, n)
            known = batch["maps"][:, n]
            if not bool(given[:, n].all()):
                logits = self._predict(current, memory.read(n), batch["readable"])
                loss = self._loss(logits.float(), known, batch["weights"][:, n].to(known))
                losses[:, n] = loss * ~given[:, n]
                maps = torch.sigmoid(logits)
                predicted[n] = maps.detach()
                known = torch.where(given[:, n, None, None, None], known, maps.to(known))
            if n < number - 1:
                name = self.model.memory_source
                source = frames[:, n] if name == "frame" else current.features[name]
                memory.write(n, *self.model.encode_memory(source, known.to(query.key)))
        return Unrolled(losses, predicted)

    def _predict(self, query: QueryEncoding, memory: "list[_Entry]", readable: Tensor) -> Tensor:
        """Logits of a frame, given the memory of the frames before it."""
        if not memory:  # a cold start: one slot that is masked out
            memory = [_Entry(0, torch.zeros_like(query.key), torch.zeros_like(query.value))]
            readable = torch.zeros_like(readable)
        keys = torch.stack([entry.key for entry in memory], dim=1)
        values = torch.stack([entry.value for entry in memory], dim=1)
        valid = readable[:, [entry.number for entry in memory]]
        return self.model.decode(self.model.read(query, keys, values, valid.to(query.key)), query)


@dataclass(frozen=True)
class _Entry:
    """A memorised frame."""

    number: int
    key: Tensor
    value: Tensor


class _Memory:
    """The memory of a batch of sequences."""

    def __init__(self, options: MemorySection) -> None:
        self._options = options
        self._entries: dict[int, _Entry] = {}

    def write(self, number: int, key: Tensor, value: Tensor) -> None:
        """Memorise frame ``number``."""
        slots, truncate = self._options.slots, self._options.truncate
        slot = number if slots is None else write_slot(number, slots, self._options.every)
        self._entries[slot] = _Entry(number, key, value)
        if truncate is not None and (number + 1) % truncate == 0:
            self._entries = {
                slot: _Entry(entry.number, entry.key.detach(), entry.value.detach())
                for slot, entry in self._entries.items()
            }

    def read(self, number: int) -> list[_Entry]:
        """The entries that frame ``number`` may read."""
        slots = self._options.slots
        if slots is None:
            return list(self._entries.values())
        readable = readable_slots(number, slots, self._options.every)
        return [self._entries[slot] for slot, is_readable in enumerate(readable) if is_readable]


def _frame(query: QueryEncoding, count: int, number: int) -> QueryEncoding:
    """The encoding of frame ``number`` of each of ``count`` sequences, from the encoding of all their frames."""

    def take(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (count, -1))[:, number]

    features = {name: take(tensor) for name, tensor in query.features.items()}
    return QueryEncoding(take(query.key), take(query.value), features)
