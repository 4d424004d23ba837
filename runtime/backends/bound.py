"""Base of backends that run graphs synchronously on tensors bound once; subclasses only run the graphs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.arena import lay_out_results, view_results
from runtime.backends.base import batch_of, named_addresses
from runtime.backends.buffers import Buffer
from runtime.stages import Stages
from stm_skeletons.bundle import GRAPH_NAMES, BundleInfo, GraphName, TensorSpec
from stm_skeletons.detections import Detections


@dataclass(frozen=True)
class View:
    """A tensor or a camera's part of one: its device address and, on a CPU, the array at that address."""

    address: int
    host: NDArray[Any]


class BoundBackend(ABC):
    """See Backend. The memory encoder has one binding per slot of each camera, whose outputs *are* the slot. With
    batches it has one binding per batch, and slots are copied into place."""

    def __init__(self, info: BundleInfo, cameras: int) -> None:
        """Allocates all buffers; ``_buffer`` must be usable."""
        self._info = info
        self.stages = Stages()
        size = lay_out_results(info)[1]
        encoder, decoder, memory = (info.graphs[name] for name in GRAPH_NAMES)
        batches = range(-(-cameras // info.batch))
        shared = (*encoder.outputs, *(memory.outputs if info.batch > 1 else ()))
        self._shared = {spec.name: self._buffer(spec) for spec in shared}
        self._frames = [self._buffer(encoder.tensor("frame")) for _ in batches]
        self._maps = [self._buffer(info.batch_of(decoder.tensor("maps"))) for _ in batches]
        own = [decoder.tensor(name) for name in ("memory_keys", "memory_values", "memory_valid")]
        self._cameras = [{spec.name: self._buffer(spec) for spec in own} for _ in range(cameras)]
        # One block, so that one copy fetches it. Never empty, because device memory cannot be.
        self._results = [self._results_buffer(max(1, size)) for _ in range(cameras)]
        self._found = [view_results(info, results.host) for results in self._results]

    @abstractmethod
    def _run(self, name: GraphName, number: int) -> None:
        """Run a graph's binding with this number, see ``_all_bindings``. Raises BackendError."""

    @abstractmethod
    def _buffer(self, spec: TensorSpec) -> Buffer:
        """Allocate a zeroed tensor where the graphs run."""

    @abstractmethod
    def _results_buffer(self, size: int) -> Buffer:
        """Allocate a camera's results, uint8 [size]."""

    def frame(self, camera: int) -> NDArray[np.uint8]:
        return self._row(self._frames, camera)

    def detect(self, valid: Mapping[int, tuple[bool, ...]]) -> None:
        batch = batch_of(valid, self._info.batch)
        self._frames[batch].upload()
        for camera, slots in valid.items():
            self._cameras[camera]["memory_valid"].host[:] = slots
            self._cameras[camera]["memory_valid"].upload()
        self.stages.done("upload")
        self._run_stage("query_encoder", batch)
        for camera in valid:
            self._run_stage("read_decoder", camera)

    def memorise(self, slots: Mapping[int, int]) -> None:
        if self._info.batch == 1:
            ((camera, slot),) = slots.items()
            self._run_stage("memory_encoder", camera * self._info.slots + slot)
            return
        self._run_stage("memory_encoder", batch_of(slots, self._info.batch))
        for camera, slot in slots.items():
            for bank, made in (("memory_keys", "memory_key"), ("memory_values", "memory_value")):
                self._cameras[camera][bank].host[slot] = self._shared[made].host[camera % self._info.batch]

    def results(self, camera: int) -> Detections:
        self._results[camera].download()
        self.stages.done("download")
        return self._found[camera]

    def write_maps(self, camera: int, maps: NDArray[np.float32]) -> None:
        self._row(self._maps, camera)[:] = maps
        self._maps[camera // self._info.batch].upload()

    def read_maps(self, camera: int) -> NDArray[np.float32]:
        self._maps[camera // self._info.batch].download()
        return self._row(self._maps, camera).copy()

    def read_slot(self, camera: int, slot: int) -> tuple[NDArray, NDArray]:
        keys, values = (self._cameras[camera][name].download() for name in ("memory_keys", "memory_values"))
        return keys[slot].copy(), values[slot].copy()

    def addresses(self) -> dict[str, int]:
        shared = {name: buffer.address for name, buffer in self._shared.items()}
        decoders = [self._of_decoder(camera) for camera in range(len(self._cameras))]
        return named_addresses(shared, [{name: view.address for name, view in views.items()} for views in decoders])

    def close(self) -> None:
        for buffers in (self._cameras, self._shared, self._frames, self._maps, self._results):
            buffers.clear()

    def _all_bindings(self) -> dict[GraphName, list[dict[str, View]]]:
        """The tensors of all bindings: query encoder by batch, decoder by camera, memory encoder by camera and slot, or
        by batch."""
        encoders = [self._of_encoders(batch) for batch in range(len(self._frames))]
        memorise = encoders
        if self._info.batch == 1:
            slots = range(self._info.slots)
            memorise = [own | self._slot(camera, slot) for camera, own in enumerate(encoders) for slot in slots]
        decoders = [self._of_decoder(camera) for camera in range(len(self._cameras))]
        return {"query_encoder": encoders, "read_decoder": decoders, "memory_encoder": memorise}

    def _run_stage(self, name: GraphName, number: int) -> None:
        self._run(name, number)
        # A run returns when its outputs are ready, on a GPU too, so there is nothing else to wait for.
        self.stages.done(name)

    def _of_encoders(self, batch: int) -> dict[str, View]:
        buffers = {"frame": self._frames[batch], "maps": self._maps[batch], **self._shared}
        return {name: View(buffer.address, buffer.host) for name, buffer in buffers.items()}

    def _of_decoder(self, camera: int) -> dict[str, View]:
        batch, row = divmod(camera, self._info.batch)
        rows = {**self._shared, "maps": self._maps[batch]}
        results, found = self._results[camera], lay_out_results(self._info)[0]
        return {
            **{name: self._view_row(buffer, row) for name, buffer in rows.items()},
            **{
                name: View(results.address + block.start, getattr(self._found[camera], name))
                for name, block in found.items()
            },
            **{name: View(buffer.address, buffer.host) for name, buffer in self._cameras[camera].items()},
        }

    def _slot(self, camera: int, slot: int) -> dict[str, View]:
        """A slot of a camera's bank, by the memory encoder's output names."""
        banks = {"memory_key": "memory_keys", "memory_value": "memory_values"}
        buffers = {name: self._cameras[camera][bank] for name, bank in banks.items()}
        return {
            name: View(buffer.address + slot * buffer.host[0].nbytes, buffer.host[slot])
            for name, buffer in buffers.items()
        }

    def _view_row(self, buffer: Buffer, row: int) -> View:
        if self._info.batch == 1:
            return View(buffer.address, buffer.host)
        return View(buffer.address + row * buffer.host[0].nbytes, buffer.host[row])

    def _row(self, buffers: list[Buffer], camera: int) -> NDArray[Any]:
        batch, row = divmod(camera, self._info.batch)
        return self._view_row(buffers[batch], row).host
