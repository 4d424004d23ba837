"""The GPU through pycuda: primary context, memory, streams, events; and CUDA graphs, which pycuda lacks, by ctypes.

Run on a GPU by itself, not yet under TensorRT. pycuda is imported only when a ``Gpu`` is opened, so that boards without
it can import this.
"""

import ctypes
import functools
import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.gpu import in_words
from stm_skeletons.engines import device_name
from stm_skeletons.errors import BackendError, one_line

_THREAD_LOCAL_CAPTURE = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do with CUDA meanwhile does not break the capture."""
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no waiting for the default stream, which other users of the GPU may fill."""
_NO_TIMING = 2
"""CU_EVENT_DISABLE_TIMING: cheaper events."""

_log = logging.getLogger("stm_skeletons")


def use_thread_local_capture() -> None:
    """From now on what this thread does with CUDA breaks no recording of another thread.

    For libraries that record in CUDA's default mode, in which any allocation or wait of any thread does. Without a GPU
    nothing happens: who wants one will say so. Raises BackendError when the driver refuses.
    """
    driver = _started_driver()
    if driver is not None:
        name, mode = "cuThreadExchangeStreamCaptureMode", ctypes.c_int(_THREAD_LOCAL_CAPTURE)
        _check(driver, name, getattr(driver, name)(ctypes.byref(mode)))


@functools.cache
def _started_driver() -> ctypes.CDLL | None:
    """The driver's library, ready for calls; None without a GPU. Looked up once: this is asked for every frame."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None


def _check(driver: ctypes.CDLL, name: str, code: int) -> None:
    if code != 0:
        raise BackendError(f"{name} failed: {in_words(driver, code)}")


class Gpu:
    """The first CUDA device, through its primary context, which is shared with every other CUDA user of the process.

    It owns all that is made with it, and ``close`` releases that. Use it, and everything made with it, inside a
    ``with gpu.active()`` block and from the thread that opened it: pycuda's objects belong to one. Only ``close`` may
    come from any thread.
    """

    def __init__(self) -> None:
        """Raises BackendError: no pycuda, no driver, no GPU, or the driver refuses."""
        self._driver: Any = _import_pycuda()
        self._thread = threading.get_ident()
        self._memory: list[Any] = []
        self._streams: list[Stream] = []
        self._events: list[Event] = []
        self._graphs: list[Graph] = []
        self._context: Any = None
        with cuda_errors("no NVIDIA GPU answers"):
            self._driver.init()
            device = self._driver.Device(0)
            self.name = device_name(
                device.name(), device.get_attribute(self._driver.device_attribute.MULTIPROCESSOR_COUNT)
            )
            self.compute_capability = "sm{}{}".format(*device.compute_capability())
            """As "sm87"."""
            self.library = ctypes.CDLL("libcuda.so.1")
            self._context = device.retain_primary_context()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current for a block, and put back whatever was current before.

        CUDA's errors in the block become BackendErrors. Raises BackendError when called from another thread than the
        one that opened the GPU.
        """
        if threading.get_ident() != self._thread:
            raise BackendError("a session on the GPU must be used from the thread that opened it; open one per thread")
        with self.current():
            yield

    @contextmanager
    def current(self) -> Iterator[None]:
        """``active`` in any thread, for releasing: pycuda lets go of what is another thread's while that thread's
        context is current."""
        with cuda_errors("the GPU failed"):
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()

    def allocate(self, size: int, advice: str) -> int:
        """Device address of ``size`` new bytes, all zero.

        Raises BackendError with what was wanted, what is free, and the advice, when the memory does not suffice.
        """
        free, total = self._driver.mem_get_info()
        try:
            allocation = self._driver.mem_alloc(size)
        except self._driver.MemoryError as error:
            raise BackendError(
                f"not enough GPU memory: {size / 1e6:.0f} MB wanted in one piece, {free / 1e6:.0f} MB of "
                f"{total / 1e6:.0f} MB are free; {advice}"
            ) from error
        self._memory.append(allocation)
        self._driver.memset_d8(int(allocation), 0, size)
        return int(allocation)

    def page_locked(self, size: int) -> NDArray[np.uint8]:
        """[size] host bytes that the GPU copies from and to without the driver's detour; all zero.

        They are gone once the GPU is closed.
        """
        array = self._driver.pagelocked_empty(size, np.uint8)
        self._memory.append(array.base)
        array[:] = 0
        return array

    def stream(self) -> "Stream":
        """A new stream, independent of the default one."""
        stream = Stream(self._driver)
        self._streams.append(stream)
        return stream

    def event(self) -> "Event":
        """A new event."""
        event = Event(self._driver)
        self._events.append(event)
        return event

    def capture(self, stream: "Stream", enqueue: Callable[[], None]) -> "Graph":
        """Record what ``enqueue`` puts on a stream; nothing of it runs.

        Raises BackendError when the driver or what is enqueued refuses to be captured; the stream works as before.
        """
        handle = ctypes.c_void_p(stream.handle)
        self.call("cuStreamBeginCapture_v2", handle, ctypes.c_int(_THREAD_LOCAL_CAPTURE))
        recorded, executable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            try:
                with cuda_errors("recording failed"):
                    enqueue()
            finally:
                # Ends the capture in any case, else the stream could not be used again.
                ended = self.library.cuStreamEndCapture(handle, ctypes.byref(recorded))
            _check(self.library, "cuStreamEndCapture", ended)
            self.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), recorded, ctypes.c_ulonglong(0))
        finally:
            if recorded:
                self.library.cuGraphDestroy(recorded)
        graph = Graph(self, executable)
        self._graphs.append(graph)
        return graph

    def finish(self) -> None:
        """Wait for all work of our own streams: others may be recording, or busy for long, in the same context.

        Where the device has failed there is none left to wait for; that is logged.
        """
        for stream in self._streams:
            for _attempt in range(2):  # memory is released next: better to ask twice than to have it written to
                if self._quietly("waiting for the last work", stream.synchronize):
                    break

    def close(self) -> None:
        """Release everything, leave the context; may be called twice, and from any thread.

        What the driver refuses to release is logged and left to it.
        """
        if self._context is None:
            return
        before = self._current_handle()
        context, self._context = self._context, None
        with cuda_errors("the GPU failed"):
            context.push()  # pycuda lets go of what was another thread's only while its context is current here
            for graph in self._graphs:
                graph.close()
            for queue in (*self._streams, *self._events):
                queue.close()
            for memory in self._memory:
                self._quietly("freeing memory", memory.free)
            context.detach()
        # pycuda believes that leaving a context ends that, too; not a primary one. So it is still there, with what was
        # current before on top of it where that was pycuda's, too.
        on_top = self._current_handle() == before
        for _ in range(2 if on_top else 1):
            self.library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        if on_top:
            self.library.cuCtxPushCurrent_v2(ctypes.c_void_p(before))

    def _current_handle(self) -> int | None:
        """The context that is current in this thread."""
        found = ctypes.c_void_p()
        self.library.cuCtxGetCurrent(ctypes.byref(found))
        return found.value

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver. Raises BackendError in the driver's words."""
        _check(self.library, name, getattr(self.library, name)(*arguments))

    def _quietly(self, what: str, release: Callable[[], None]) -> bool:
        try:
            release()
        except self._driver.Error as error:
            _log.warning("%s failed while the GPU was being released: %s", what, one_line(error))
            return False
        return True


class Stream:
    """A queue of work on the GPU, done in order."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._stream: Any = driver.Stream(_NON_BLOCKING)
        self.handle: int = self._stream.handle
        """What C libraries take for it."""

    def upload(self, address: int, source: NDArray[Any]) -> None:
        """Queue a copy of a host array to the device. Page-locked memory must stay as it is until it has run."""
        self._driver.memcpy_htod_async(address, source, self._stream)

    def download(self, target: NDArray[Any], address: int) -> None:
        """Queue a copy from the device into a host array."""
        self._driver.memcpy_dtoh_async(target, address, self._stream)

    def copy(self, target: int, source: int, size: int) -> None:
        """Queue a copy of bytes on the device."""
        self._driver.memcpy_dtod_async(target, source, size, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Queue setting bytes on the device to zero."""
        self._driver.memset_d8_async(address, 0, size, self._stream)

    def wait_for(self, event: "Event") -> None:
        """What is queued from now on waits for the event's latest record."""
        self._stream.wait_for_event(event.event)

    def synchronize(self) -> None:
        """Block the host until everything queued has been done."""
        self._stream.synchronize()

    def close(self) -> None:
        """Release it."""
        self._stream = None  # pycuda destroys it with its last reference


class Event:
    """A mark in a stream that another stream can wait for."""

    def __init__(self, driver: Any) -> None:
        self.event: Any = driver.Event(_NO_TIMING)

    def record(self, stream: Stream) -> None:
        """Set the mark behind what the stream holds now."""
        self.event.record(stream._stream)

    def close(self) -> None:
        """Release it."""
        self.event = None


class Graph:
    """Recorded work that one call puts on a stream. All addresses in it are those at the time of recording."""

    def __init__(self, gpu: Gpu, executable: ctypes.c_void_p) -> None:
        self._gpu = gpu
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Queue the recorded work on a stream."""
        self._gpu.call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Release it; may be called twice."""
        if self._executable:
            self._gpu.library.cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()


@contextmanager
def cuda_errors(what: str) -> Iterator[None]:
    """Turn pycuda's errors into BackendErrors in the driver's own words."""
    try:
        yield
    except _import_pycuda().Error as error:
        raise BackendError(f"{what}: {one_line(error)}; 'stm-skeletons doctor' tells more") from error


def _import_pycuda() -> Any:
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        if "libcuda" in str(error):
            raise BackendError(
                f"NVIDIA's driver is not installed ({one_line(error)}); install it. Without it frames run on the CPU: "
                "--backend onnxruntime"
            ) from error
        raise BackendError(
            f"pycuda is not installed or does not load ({one_line(error)}); pip install pycuda (needs the CUDA "
            "toolkit). Without it frames run on the CPU: --backend onnxruntime"
        ) from error
