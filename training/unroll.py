"""A sequence through the network, as training sees it: memorise what is given, predict the rest (paper section 2.3).

Plain training gives the labels of all frames but the last, which is predicted. Cyclic training gives those of the first
frames only; the others are predicted one after the other and memorised with what was predicted, gradients and all, and
the loss is the sum over them.

Memory holds every earlier frame, as the paper's does, or the slots that the runtime would have.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stm_skeletons.memory_policy import readable_slots, write_slot
from training.data.samples import Sample
from training.losses import LOSSES, LossName
from training.model.network import QueryEncoding, SpaceTimeMemory
from training.recipe import MemorySection


@dataclass  # not frozen: Fabric hangs its hooks into what a network returns
class Unrolled:
    """What came out of a batch."""

    losses: Tensor
    """[B, N]: 0 for frames whose maps were given."""
    maps: dict[int, Tensor]
    """[B, C, h, w] confidences of the frames that were predicted, by number; without gradients."""


class Unroll(nn.Module):
    """The network with its loss: one forward pass is a whole sequence, so that several devices can share batches."""

    def __init__(self, model: SpaceTimeMemory, loss: LossName, memory: MemorySection | None = None) -> None:
        super().__init__()
        self.model = model
        self._loss = LOSSES[loss]
        self._memory = memory or MemorySection()

    def forward(self, batch: Sample) -> Unrolled:
        """B sequences of N frames; see Sample."""
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
        """Logits of a frame, given what it reads of the frames before it."""
        if not memory:  # a cold start: one slot that may not be read
            memory = [_Entry(0, torch.zeros_like(query.key), torch.zeros_like(query.value))]
            readable = torch.zeros_like(readable)
        keys = torch.stack([entry.key for entry in memory], dim=1)
        values = torch.stack([entry.value for entry in memory], dim=1)
        valid = readable[:, [entry.number for entry in memory]]
        return self.model.decode(self.model.read(query, keys, values, valid.to(query.key)), query)


@dataclass(frozen=True)
class _Entry:
    """A frame that is remembered."""

    number: int
    key: Tensor
    value: Tensor


class _Memory:
    """What is remembered of a batch of sequences."""

    def __init__(self, options: MemorySection) -> None:
        self._options = options
        self._entries: dict[int, _Entry] = {}

    def write(self, number: int, key: Tensor, value: Tensor) -> None:
        """Remember frame ``number``."""
        slots, truncate = self._options.slots, self._options.truncate
        slot = number if slots is None else write_slot(number, slots, self._options.every)
        self._entries[slot] = _Entry(number, key, value)
        if truncate is not None and (number + 1) % truncate == 0:
            self._entries = {
                slot: _Entry(entry.number, entry.key.detach(), entry.value.detach())
                for slot, entry in self._entries.items()
            }

    def read(self, number: int) -> list[_Entry]:
        """What frame ``number`` reads."""
        slots = self._options.slots
        if slots is None:
            return list(self._entries.values())
        readable = readable_slots(number, slots, self._options.every)
        return [self._entries[slot] for slot, may in enumerate(readable) if may]


def _frame(query: QueryEncoding, count: int, number: int) -> QueryEncoding:
    """Frame ``number`` of each of ``count`` sequences out of the encoding of all their frames."""

    def take(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (count, -1))[:, number]

    features = {name: take(tensor) for name, tensor in query.features.items()}
    return QueryEncoding(take(query.key), take(query.value), features)
