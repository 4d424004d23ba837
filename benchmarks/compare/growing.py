"""Baselines in PyTorch: STM's memory, which grows with the video, and torch.compile."""

import numpy as np
import torch
from numpy.typing import NDArray

from training.model.network import SpaceTimeMemory
from training.model.session import TorchSession


class GrowingSession(TorchSession):
    """A session with the memory of STM's own evaluation (Oh et al. 2019, section 3.4).

    The memory holds the first frame, every n-th and the previous one. It is concatenated again for each frame, and no
    frame but the previous one is ever dropped.
    """

    @torch.no_grad()
    def step(self, frame: NDArray[np.uint8]) -> None:
        """Detect in the next frame [H, W, 3] BGR, then memorise it."""
        model = self._model
        batch = torch.from_numpy(frame)[None].to(next(model.parameters()).device)
        query = model.encode_query(batch)
        if self._number == 0:
            # The memory is empty: one slot that is masked out.
            self._keys, self._values = query.key[:, None], query.value[:, None]
            self._kept = self._keys[:, :0], self._values[:, :0]
        readable = query.key.new_full((1, self._keys.shape[1]), float(self._number > 0))
        self._maps = model(query, self._keys, self._values, readable)
        source = batch if model.memory_source == "frame" else query.features[model.memory_source]
        key, value = model.encode_memory(source, self._maps)
        self._keys = torch.cat([self._kept[0], key[:, None]], dim=1)
        self._values = torch.cat([self._kept[1], value[:, None]], dim=1)
        if self._number % self._every == 0:
            self._kept = self._keys, self._values
        self._number += 1


def compiled(model: SpaceTimeMemory) -> SpaceTimeMemory:
    """The same network with its parts wrapped in ``torch.compile``; each is compiled on its first call."""
    for part in ("encode_query", "encode_memory", "read", "decode"):
        setattr(model, part, torch.compile(getattr(model, part), dynamic=False))
    return model
