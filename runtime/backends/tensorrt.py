"""TensorRT: three engines on one GPU with a device-resident memory for each camera. Not yet run on a GPU.

A frame uses two streams (each works from left to right):

    copy     upload n -> landing |                               | download results n | upload n+1 -> landing |
    compute                      | landing -> frame; query; read | memorise n                                 | ...

Compute waits for the upload, the download waits for the read. The host waits once for all cameras, for the last
download; meanwhile the GPU memorises, and the next frames are uploaded in parallel. Uploads have their own landing
buffer, because the memory encoder may still be reading the previous frames.
"""

import logging
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.backends.arena import Block, plan_arena, view_results
from runtime.backends.base import batch_of, named_addresses
from runtime.backends.cuda import Gpu, Graph, Stream
from runtime.backends.engine_runner import EngineRunner
from runtime.backends.loaded_engines import shared_engines
from runtime.stages import Stages
from stm_skeletons.bundle import Bundle, TensorSpec
from stm_skeletons.detections import Detections
from stm_skeletons.errors import BackendError, one_line

_log = logging.getLogger("stm_skeletons")


@dataclass(frozen=True)
class _Work:
    """Work that can be captured as a CUDA graph. All its addresses are fixed."""

    kind: Literal["detect", "query", "read", "memorise", "encode"]
    """"detect": encode all frames of a batch and read for its cameras; "query": only encode; "read": read for one
    camera; "memorise": encode a batch into the same slot of each camera; "encode": only encode."""
    number: int
    """Number of the batch; for "read" of the camera."""
    slot: int = 0


class TensorRTBackend:
    """See Backend. Use it from the thread that opened it. Several may be open at once and close in any order.

    A backend that is not closed is released with its last reference, in whatever thread drops it.
    """

    def __init__(self, bundle: Bundle, engines: Path | None = None, cuda_graphs: bool = True, cameras: int = 1) -> None:
        """
        Args:
            bundle: an opened bundle.
            engines: folder of its engines; inside the bundle by default.
            cuda_graphs: replay CUDA graphs instead of queueing call by call. If the driver or TensorRT cannot capture,
                that is logged and the work is queued.
            cameras: each has its own memory; engines are shared, also with other sessions of the process.

        Raises:
            EngineError: engines are missing, damaged, or of another bundle, TensorRT or GPU, or TensorRT rejects them.
            BackendError: GPU, driver, pycuda or TensorRT is missing, memory is too small, or the device fails.
        """
        self._info, self._cameras = bundle.info, cameras
        self.stages = Stages()
        self._graphs: dict[_Work, Graph] = {}
        self._in_flight: set[int] = set()
        """Batches whose upload and download may still be running."""
        gpu = Gpu()
        self._gpu: Gpu | None = gpu
        with ExitStack() as undo:
            undo.callback(gpu.close)
            with gpu.active():
                held = ExitStack()
                undo.callback(_release, gpu, held)
                loaded = held.enter_context(shared_engines(bundle, gpu, engines))
                self._engines = EngineRunner(loaded)
                held.callback(self._engines.close)
                held.callback(gpu.finish)
                self._arena = plan_arena(self._info, self._engines.activation_bytes, cameras)
                self._allocate(gpu)
                self._warm_up(gpu, cuda_graphs)
            self._release = weakref.finalize(self, undo.pop_all().close)

    def frame(self, camera: int) -> NDArray[np.uint8]:
        with self._working():
            self._wait_for(camera // self._info.batch)
        return self._frames[camera]

    def detect(self, valid: Mapping[int, tuple[bool, ...]]) -> None:
        batch = batch_of(valid, self._info.batch)
        with self._working():
            # The previous upload may not have left the page-locked memory that is written now.
            self._wait_for(batch)
            for camera, slots in valid.items():
                self._valid[camera][:] = slots
            self._in_flight.add(batch)
            self._copy.upload(self._address + self._arena.landing.start, self._uploads[batch])
            self._uploaded.record(self._copy)
            self._stage_ends("upload", self._copy)
            self._compute.wait_for(self._uploaded)
            if valid.keys() == set(self._cameras_of(batch)):
                self._queue(_Work("detect", batch))
            else:
                self._queue(_Work("query", batch))
                for camera in valid:
                    self._queue(_Work("read", camera))
            self._detected.record(self._compute)
            # Also without results: no upload may overtake the last use of the landing buffer.
            self._copy.wait_for(self._detected)
            block = self._arena.batch_results(batch, self._info.batch)
            if block.size:
                start = block.start - self._arena.results.start
                self._copy.download(self._downloads[start : start + block.size], self._address + block.start)
                self._stage_ends("download", self._copy)

    def memorise(self, slots: Mapping[int, int]) -> None:
        batch = batch_of(slots, self._info.batch)
        with self._working():
            if slots.keys() == set(self._cameras_of(batch)) and len(set(slots.values())) == 1:
                self._queue(_Work("memorise", batch, next(iter(slots.values()))))
            else:
                self._queue(_Work("encode", batch))
                for camera, slot in slots.items():
                    self._store(camera, slot)
                self._stage_ends("memory_encoder", self._compute)

    def results(self, camera: int) -> Detections:
        with self._working():
            self._wait_for(camera // self._info.batch)
            size = self._arena.camera_results
            mine = slice(camera * size, (camera + 1) * size)
            # Copied to ordinary memory, which remains readable after the page-locked memory is freed.
            self._results[mine] = self._downloads[mine]
        self.stages.done("download")
        return self._found[camera]

    def write_maps(self, camera: int, maps: NDArray[np.float32]) -> None:
        with self._working():
            self._compute.upload(self._decoders[camera]["maps"], np.ascontiguousarray(maps, np.float32))
            self._compute.synchronize()

    def read_maps(self, camera: int) -> NDArray[np.float32]:
        spec = self._info.graphs["read_decoder"].tensor("maps")
        return self._read_back(self._decoders[camera]["maps"], spec)

    def read_slot(self, camera: int, slot: int) -> tuple[NDArray, NDArray]:
        encoder, place = self._info.graphs["memory_encoder"], self._banks[camera].slot(slot)
        key, value = (
            self._read_back(place[name], self._info.row_of(encoder.tensor(name)))
            for name in ("memory_key", "memory_value")
        )
        return key, value

    def addresses(self) -> dict[str, int]:
        shared = {name: address for name, address in self._encoders[0].items() if name != "maps"}
        return named_addresses(shared, self._decoders)

    def close(self) -> None:
        if self._gpu is not None:
            self._gpu = None
            self._release()

    def _allocate(self, gpu: Gpu) -> None:
        """Allocate everything: one block of device memory, two of page-locked memory, streams and events."""
        info, arena, cameras = self._info, self._arena, range(self._cameras)
        advice = "export with fewer --slots or a smaller --size, or stop other programs on this GPU"
        self._address = gpu.allocate(arena.size, advice)
        self._engines.give_memory(self._address + arena.activations.start)
        self._encoders, self._decoders = [
            [self._at(blocks) for blocks in each] for each in (arena.encoders, arena.decoders)
        ]
        self._banks = [arena.bank(camera, info, self._address) for camera in cameras]
        batches = len(arena.encoders)
        self._uploads = gpu.page_locked(batches * arena.upload.size).reshape(batches, arena.upload.size)
        self._frames, self._valid = [], []
        for camera in cameras:
            batch, row = divmod(camera, info.batch)
            size = info.height * info.width * 3
            frame = self._uploads[batch, row * size : (row + 1) * size]
            self._frames.append(frame.reshape(info.height, info.width, 3))
            flags = arena.decoders[camera]["memory_valid"]
            self._valid.append(self._uploads[batch, flags.start : flags.end].view(np.float32))
        # Never empty, because page-locked memory cannot be.
        self._downloads = gpu.page_locked(max(1, arena.results.size))
        self._results = np.zeros(arena.results.size, np.uint8)
        size = arena.camera_results
        self._found = [view_results(info, self._results[camera * size : (camera + 1) * size]) for camera in cameras]
        self._compute, self._copy = gpu.stream(), gpu.stream()
        self._uploaded, self._detected = gpu.event(), gpu.event()

    def _warm_up(self, gpu: Gpu, recording: bool) -> None:
        """Run everything once, because TensorRT initialises itself in first runs; capture it; then clear the memory."""
        for work in self._all_work():
            # Right before capturing, so that TensorRT has done what it defers after a change of address.
            self._enqueue(work)
            recording = recording and self._record(gpu, work)
        self._compute.clear(self._address, self._arena.activations.start)
        self._compute.synchronize()

    def _all_work(self) -> Iterator[_Work]:
        for batch in range(len(self._arena.encoders)):
            yield _Work("detect", batch)
            for slot in range(self._info.slots):
                yield _Work("memorise", batch, slot)
            if self._info.batch > 1:  # some cameras of a batch may have no frame
                yield _Work("query", batch)
                yield _Work("encode", batch)
                yield from (_Work("read", camera) for camera in self._cameras_of(batch))

    def _record(self, gpu: Gpu, work: _Work) -> bool:
        """Capture work as a CUDA graph. Returns False if capture failed; CUDA graphs are then disabled."""
        try:
            self._graphs[work] = gpu.capture(self._compute, lambda: self._enqueue(work))
        except BackendError as error:
            self._graphs.clear()
            _log.warning("CUDA graphs disabled, queueing work call by call: %s", one_line(error))
            return False
        return True

    def _queue(self, work: _Work) -> None:
        # A CUDA graph is one unit, so its stages cannot be timed.
        if work in self._graphs and not self.stages.recording:
            self._graphs[work].launch(self._compute)
        else:
            self._enqueue(work)

    def _enqueue(self, work: _Work) -> None:
        if work.kind == "read":
            self._read(work.number)
        elif work.kind in ("detect", "query"):
            upload, landing = self._arena.upload, self._arena.landing
            self._compute.copy(self._address + upload.start, self._address + landing.start, upload.size)
            self._encode("query_encoder", work.number)
            for camera in self._cameras_of(work.number) if work.kind == "detect" else ():
                self._read(camera)
        else:
            memorise, cameras = work.kind == "memorise", self._cameras_of(work.number)
            direct = "memory_key" not in self._arena.encoders[work.number]
            place = self._banks[cameras[0]].slot(work.slot) if direct else {}
            self._encode("memory_encoder", work.number, place)
            for camera in cameras if memorise and not direct else ():
                self._store(camera, work.slot)

    def _encode(
        self, encoder: Literal["query_encoder", "memory_encoder"], batch: int, place: Mapping[str, int] | None = None
    ) -> None:
        self._engines.run(encoder, self._compute.handle, {**self._encoders[batch], **(place or {})})
        self._stage_ends(encoder, self._compute)

    def _read(self, camera: int) -> None:
        self._engines.run("read_decoder", self._compute.handle, self._decoders[camera])
        self._stage_ends("read_decoder", self._compute)

    def _store(self, camera: int, slot: int) -> None:
        """Copy the memory encoder's output for a camera into a slot of its bank."""
        batch, row = divmod(camera, self._info.batch)
        for name, address in self._banks[camera].slot(slot).items():
            size = self._arena.encoders[batch][name].size // self._info.batch
            self._compute.copy(address, self._encoders[batch][name] + row * size, size)

    def _cameras_of(self, batch: int) -> range:
        size = self._info.batch
        return range(batch * size, min((batch + 1) * size, self._cameras))

    def _wait_for(self, batch: int) -> None:
        """Wait until a batch's upload and download are done. This completes all batches."""
        if batch in self._in_flight:
            self._copy.synchronize()
            self._in_flight.clear()

    def _stage_ends(self, name: str, stream: Stream) -> None:
        """End a stage: wait for the device while stages are recorded, otherwise do nothing."""
        if self.stages.recording:
            stream.synchronize()
            self.stages.done(name)

    def _at(self, blocks: Mapping[str, Block]) -> dict[str, int]:
        """Device addresses of blocks."""
        return {name: self._address + block.start for name, block in blocks.items()}

    def _read_back(self, address: int, spec: TensorSpec) -> NDArray[Any]:
        found = np.empty(spec.shape, spec.dtype)
        with self._working():
            self._compute.download(found, address)
            self._compute.synchronize()
        return found

    @contextmanager
    def _working(self) -> Iterator[None]:
        if self._gpu is None:
            raise BackendError("the session is closed; open a new one")
        with self._gpu.active():
            yield


def _release(gpu: Gpu, held: ExitStack) -> None:
    """Release engines once their work is done, and before the memory they use."""
    with gpu.current():
        held.close()
