"""Runs a network in eager PyTorch frame by frame, with the same memory as the runtime's session of a bundle."""

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stm_skeletons.detections import Detections
from stm_skeletons.geometry import STRIDE
from stm_skeletons.identity import Identities
from stm_skeletons.maps import render_maps, select_channels
from stm_skeletons.memory_policy import newest_slot, readable_slots, write_slot
from stm_skeletons.people import People
from training.model.network import QueryEncoding, SpaceTimeMemory
from training.model.parts import TOKEN

_ENCODED = 64
"""Number of frames whose encodings are cached for sessions that share them."""


class TorchSession:
    """A session like ``runtime.Session`` (seed, step, maps, people, reset) for a network in PyTorch.

    Frames must have the network's size; poses are in network pixels.
    """

    def __init__(self, model: SpaceTimeMemory, slots: int = 6, every: int = 5, peaks: int = 30) -> None:
        """
        Args:
            model: in evaluation mode, on any device.
            slots: slots of the memory: one for the first frame, one for the previous frame, and a ring.
            every: every nth frame goes into the ring.
            peaks: K, the number of peaks for each joint.
        """
        self._model = model
        self._slots = slots
        self._every = every
        self._number = 0
        self._seed: NDArray | None = None
        self._peaks = peaks
        self._keys = self._values = self._maps = torch.empty(0)
        self._identities = Identities(model.config.skeleton)
        self._people: People | None = None
        self._encoded: deque[tuple[NDArray[np.uint8], QueryEncoding]] | None = None

    def reset(self) -> None:
        """Reset the memory; the next frame is the first."""
        self._number = 0
        self._seed = None
        self._identities.reset()

    def seed(self, poses: NDArray) -> None:
        """Restart with people [P, NK, 3] (x, y, visibility) of the next frame.

        They are memorised with that frame in slot 0, which is then read to detect in the frame.
        """
        self.reset()
        self._seed = poses

    @torch.no_grad()
    def step(self, frame: NDArray[np.uint8]) -> None:
        """Detect in the next frame [H, W, 3] BGR, then memorise it."""
        batch = torch.from_numpy(frame)[None].to(next(self._model.parameters()).device)
        query = self._encoding(frame, batch)
        if self._number == 0:
            self._keys = query.key.new_zeros(1, self._slots, *query.key.shape[1:])
            self._values = query.value.new_zeros(1, self._slots, *query.value.shape[1:])
        source = batch if self._model.memory_source == "frame" else query.features[self._model.memory_source]
        if self._seed is not None:
            self._memorise(0, source, self._rendered_seed(frame.shape[:2], self._seed).to(query.key))
            self._detect(query, (True,) + (False,) * (self._slots - 1))
            self._seed = None
        else:
            self._detect(query, readable_slots(self._number, self._slots, self._every))
            self._memorise(write_slot(self._number, self._slots, self._every), source, self._maps)
        self._number += 1

    def with_network(self, model: SpaceTimeMemory) -> "TorchSession":
        """A session with the same options for a network with the same query encoder.

        The sessions share the encodings of the latest 64 frames: a frame that both get (the same array) is encoded
        once.
        """
        self._encoded = deque(maxlen=_ENCODED) if self._encoded is None else self._encoded
        other = TorchSession(model, self._slots, self._every, self._peaks)
        other._encoded = self._encoded
        return other

    @property
    def network(self) -> SpaceTimeMemory:
        """The network of this session."""
        return self._model

    def maps(self) -> NDArray[np.float32]:
        """Maps [C, H/4, W/4] of the latest frame, in the order of the network's channels."""
        return self._maps[0].cpu().numpy()

    def slot(self, slot: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Key [HW, Ck] and value [HW, Cv] of a slot."""
        return self._keys[0, slot].cpu().numpy(), self._values[0, slot].cpu().numpy()

    def people(self) -> People | None:
        """People in the latest frame, in network pixels; None for a network without keypoint maps."""
        return self._people

    def _encoding(self, frame: NDArray[np.uint8], batch: Tensor) -> QueryEncoding:
        if self._encoded is None:
            return self._model.encode_query(batch)
        for known, encoding in self._encoded:
            if known is frame:
                return encoding
        encoding = self._model.encode_query(batch)
        self._encoded.append((frame, encoding))
        return encoding

    def _detect(self, query: QueryEncoding, readable: tuple[bool, ...]) -> None:
        valid = torch.tensor([readable], dtype=query.key.dtype, device=query.key.device)
        count = min(self._peaks, query.key.shape[1] * (TOKEN // STRIDE) ** 2)
        found = self._model.detect(query, self._keys, self._values, valid, count)
        self._maps = found.pop("maps")[None]
        if not found:
            return
        arrays = {name: tensor.cpu().numpy() for name, tensor in found.items()}
        joints = len(self._model.config.skeleton.joints)
        none = {"centres": np.zeros((0, 3), np.float32), "centre_joints": np.zeros((0, joints, 2), np.float32)}
        detections = Detections(**(none | arrays))
        self._people = self._identities.update(detections, newest_slot(self._number, self._slots, self._every))

    def _memorise(self, slot: int, source: Tensor, maps: Tensor) -> None:
        self._keys[:, slot], self._values[:, slot] = self._model.encode_memory(source, maps)

    def _rendered_seed(self, size: tuple[int, ...], poses: NDArray) -> Tensor:
        config = self._model.config
        rendered = render_maps(poses, config.skeleton, (size[0], size[1]))
        return torch.from_numpy(select_channels(rendered, config.skeleton, config.channels))[None]
