"""TensorRT: the three engines on one GPU with a device-resident memory. Not yet run on a GPU.

A frame's way, on two streams (each does its work from left to right):

    copy     upload n -> landing |                               | download results n | upload n+1 -> landing |
    compute                      | landing -> frame; query; read | memorise n                                 | ...

Compute waits for the upload, the download for the read. The host waits once a frame, for the download; meanwhile the
GPU memorises, and the next frame's upload runs beside that. Frames land in a buffer of their own because the memory
encoder may still be reading the frame before.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.arena import plan_arena, view_results
from runtime.backends.cuda import Gpu, Graph, Stream
from runtime.backends.engine_runner import LoadedEngines, load_engines
from runtime.bank import MemoryBank
from runtime.stages import Stages
from stm_skeletons.bundle import Bundle
from stm_skeletons.detections import Detections
from stm_skeletons.errors import BackendError

_log = logging.getLogger("stm_skeletons")
_DETECT = -1
"""Number of the recorded work that detects; that of memorising into a slot is the slot's."""


class TensorRTBackend:
    """See Backend. Use it from the thread that opened it; several may be open at once, and close in any order."""

    def __init__(self, bundle: Bundle, engines: Path | None = None, cuda_graphs: bool = True) -> None:
        """
        Args:
            bundle: an opened bundle.
            engines: folder of its engines; inside the bundle unless given.
            cuda_graphs: replay recorded work instead of queueing it call by call. Where the driver or TensorRT refuses
                to record, that is logged and the work is queued.

        Raises:
            EngineError: no engines, or damaged ones, or of another bundle, TensorRT or GPU, or TensorRT refuses them.
            BackendError: no GPU, driver, pycuda or TensorRT, too little memory, or the device fails.
        """
        self._info = bundle.info
        self.stages = Stages()
        self._graphs: dict[int, Graph] = {}
        self._unread = False
        gpu = Gpu()
        self._gpu: Gpu | None = gpu
        with ExitStack() as undo:
            undo.callback(gpu.close)
            with gpu.active():
                self._engines = load_engines(bundle, gpu, engines)
                undo.callback(_release, gpu, self._engines)
                self._arena = plan_arena(self._info, self._engines.activation_bytes)
                self._allocate(gpu)
                self._warm_up(gpu, cuda_graphs)
            self._undo = undo.pop_all()

    def detect(self, valid: tuple[bool, ...]) -> None:
        with self._working():
            if self._unread:
                # The upload before may not have left the page-locked memory that is written to now.
                self._copy.synchronize()
            self._valid[:] = valid
            self._copy.upload(self._address + self._arena.landing.start, self._upload)
            self._uploaded.record(self._copy)
            self._stage_ends("upload", self._copy)
            self._compute.wait_for(self._uploaded)
            self._queue(_DETECT)
            self._detected.record(self._compute)
            # Also where there are no results: no upload may overtake the landing's last use.
            self._copy.wait_for(self._detected)
            if self._arena.results.size:
                self._copy.download(self._results, self._address + self._arena.results.start)
                self._stage_ends("download", self._copy)
            self._unread = True

    def memorise(self, slot: int) -> None:
        with self._working():
            self._queue(slot)

    def results(self) -> Detections:
        with self._working():
            self._copy.synchronize()
            self._unread = False
        self.stages.done("download")
        return self._found

    def write_maps(self, maps: NDArray[np.float32]) -> None:
        with self._working():
            self._compute.upload(self._tensor("maps"), np.ascontiguousarray(maps, np.float32))
            self._compute.synchronize()

    def read_maps(self) -> NDArray[np.float32]:
        spec = self._info.graphs["read_decoder"].tensor("maps")
        return self._read_back(self._tensor("maps"), spec.shape, spec.dtype)

    def read_slot(self, slot: int) -> tuple[NDArray, NDArray]:
        encoder = self._info.graphs["memory_encoder"]
        key, value = encoder.tensor("memory_key"), encoder.tensor("memory_value")
        return (
            self._read_back(self._bank.key_address(slot), key.shape, key.dtype),
            self._read_back(self._bank.value_address(slot), value.shape, value.dtype),
        )

    def addresses(self) -> dict[str, int]:
        return {name: self._tensor(name) for name in self._arena.tensors}

    def close(self) -> None:
        if self._gpu is None:
            return
        self._gpu.check_thread()
        self._gpu = None
        self.frame = np.empty((0, 0, 3), np.uint8)  # the memory of the other one is freed now
        self._undo.close()

    def _allocate(self, gpu: Gpu) -> None:
        """Everything there will ever be: one piece of device memory, two of page-locked memory, streams and events."""
        info, arena = self._info, self._arena
        advice = "export with fewer --slots or a smaller --size, or stop other programs on this GPU"
        self._address = gpu.allocate(arena.size, advice)
        item_size = np.dtype(info.graphs["read_decoder"].tensor("memory_keys").dtype).itemsize
        self._bank = MemoryBank.at(self._tensor("memory_keys"), self._tensor("memory_values"), info, item_size)
        self._engines.bind(self.addresses(), self._address + arena.activations.start)
        self._upload = gpu.page_locked(arena.upload.size)
        frame, valid = arena.in_upload("frame"), arena.in_upload("memory_valid")
        self.frame = self._upload[frame.start : frame.end].reshape(info.height, info.width, 3)
        self._valid = self._upload[valid.start : valid.end].view(np.float32)
        # Never empty, since page-locked memory cannot be.
        self._results = gpu.page_locked(max(1, arena.results.size))
        self._found = view_results(info, self._results)
        self._compute, self._copy = gpu.stream(), gpu.stream()
        self._uploaded, self._detected = gpu.event(), gpu.event()

    def _warm_up(self, gpu: Gpu, recording: bool) -> None:
        """Run everything once, as TensorRT sets itself up in first runs, record it, and forget what it wrote."""
        for work in (_DETECT, *range(self._info.slots)):
            # Right before it is recorded: what TensorRT puts off after a change of address is done by then.
            self._enqueue(work)
            recording = recording and self._record(gpu, work)
        self._compute.clear(self._address, self._arena.activations.start)
        self._compute.synchronize()

    def _record(self, gpu: Gpu, work: int) -> bool:
        """Whether that was possible; if not, nothing is recorded from now on."""
        try:
            self._graphs[work] = gpu.capture(self._compute, lambda: self._enqueue(work))
        except BackendError as error:
            self._graphs.clear()
            _log.warning("no CUDA graphs, the work is queued call by call: %s", error)
            return False
        return True

    def _queue(self, work: int) -> None:
        # Recorded work is one piece: there are no stages to be seen in it.
        if work in self._graphs and not self.stages.recording:
            self._graphs[work].launch(self._compute)
        else:
            self._enqueue(work)

    def _enqueue(self, work: int) -> None:
        if work == _DETECT:
            upload, landing = self._arena.upload, self._arena.landing
            self._compute.copy(self._address + upload.start, self._address + landing.start, upload.size)
            self._engines.run("query_encoder", self._compute.handle)
            self._stage_ends("query_encoder", self._compute)
            self._engines.run("read_decoder", self._compute.handle)
            self._stage_ends("read_decoder", self._compute)
        else:
            slot = {"memory_key": self._bank.key_address(work), "memory_value": self._bank.value_address(work)}
            self._engines.run("memory_encoder", self._compute.handle, slot)
            self._stage_ends("memory_encoder", self._compute)

    def _stage_ends(self, name: str, stream: Stream) -> None:
        """While stages are recorded, wait for the device; else work is only queued."""
        if self.stages.recording:
            stream.synchronize()
            self.stages.done(name)

    def _tensor(self, name: str) -> int:
        return self._address + self._arena.tensors[name].start

    def _read_back(self, address: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        found = np.empty(shape, dtype)
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


def _release(gpu: Gpu, engines: LoadedEngines) -> None:
    """Engines go when they have finished, and before the memory that they work in."""
    with gpu.active():
        gpu.finish()
        engines.close()
