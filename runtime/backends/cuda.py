"""GPU access through pycuda: primary context, memory, streams, events; and, through ctypes, CUDA graphs, which pycuda
lacks.

Has run on a GPU by itself, not yet with TensorRT. pycuda is imported only when a ``Gpu`` is opened, so that boards
without it can import this module.
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

from runtime.gpu import describe_error
from stm_skeletons.engines import device_name
from stm_skeletons.errors import BackendError, one_line

_THREAD_LOCAL_CAPTURE = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: CUDA calls of other threads do not break the capture."""
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: never wait for the default stream, which other GPU users may fill."""
_NO_TIMING = 2
"""CU_EVENT_DISABLE_TIMING: events without timing are cheaper."""

_log = logging.getLogger("stm_skeletons")


def use_thread_local_capture() -> None:
    """Prevent this thread's CUDA calls from breaking another thread's stream capture.

    Needed with libraries that capture in CUDA's default mode, in which any thread's allocation or wait breaks the
    capture. Does nothing without a GPU. Raises BackendError if the driver fails.
    """
    driver = _started_driver()
    if driver is not None:
        name, mode = "cuThreadExchangeStreamCaptureMode", ctypes.c_int(_THREAD_LOCAL_CAPTURE)
        _check(driver, name, getattr(driver, name)(ctypes.byref(mode)))


@functools.cache
def _started_driver() -> ctypes.CDLL | None:
    """The initialised driver library; None without a GPU. Cached, because it is needed for every frame."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None


def _check(driver: ctypes.CDLL, name: str, code: int) -> None:
    if code != 0:
        raise BackendError(f"{name} failed: {describe_error(driver, code)}")


class Gpu:
    """The first CUDA device, through its primary context, which all CUDA users of the process share.

    Owns everything created with it; ``close`` releases that. Use it and its objects inside a ``with gpu.active()``
    block and from the thread that opened it, because pycuda's objects belong to one thread. Only ``close`` may be
    called from any thread.
    """

    def __init__(self) -> None:
        """Raises BackendError if pycuda, the driver or a GPU is missing, or the driver fails."""
        self._driver: Any = _import_pycuda()
        self._thread = threading.get_ident()
        self._memory: list[Any] = []
        self._streams: list[Stream] = []
        self._events: list[Event] = []
        self._graphs: list[Graph] = []
        self._context: Any = None
        with cuda_errors("no NVIDIA GPU responds"):
            self._driver.init()
            device = self._driver.Device(0)
            self.name = device_name(
                device.name(), device.get_attribute(self._driver.device_attribute.MULTIPROCESSOR_COUNT)
            )
            self.compute_capability = "sm{}{}".format(*device.compute_capability())
            """Such as "sm87"."""
            self.library = ctypes.CDLL("libcuda.so.1")
            self._context = device.retain_primary_context()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current for a block, and restore the previous one afterwards.

        CUDA errors in the block become BackendErrors. Raises BackendError if called from another thread than the one
        that opened the GPU.
        """
        if threading.get_ident() != self._thread:
            raise BackendError("a GPU session must be used from the thread that opened it; open one session per thread")
        with self.current():
            yield

    @contextmanager
    def current(self) -> Iterator[None]:
        """Like ``active`` but in any thread, for releasing: pycuda releases another thread's objects only while that
        thread's context is current."""
        with cuda_errors("the GPU failed"):
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()

    def allocate(self, size: int, advice: str) -> int:
        """Allocate ``size`` zeroed bytes and return their device address.

        Raises BackendError with the requested and free memory and the advice if there is not enough.
        """
        free, total = self._driver.mem_get_info()
        try:
            allocation = self._driver.mem_alloc(size)
        except self._driver.MemoryError as error:
            raise BackendError(
                f"not enough GPU memory: need one block of {size / 1e6:.0f} MB, {free / 1e6:.0f} of "
                f"{total / 1e6:.0f} MB are free; {advice}"
            ) from error
        self._memory.append(allocation)
        self._driver.memset_d8(int(allocation), 0, size)
        return int(allocation)

    def page_locked(self, size: int) -> NDArray[np.uint8]:
        """Allocate [size] zeroed host bytes that the GPU copies directly, without the driver's staging buffer.

        They are freed when the GPU is closed.
        """
        array = self._driver.pagelocked_empty(size, np.uint8)
        self._memory.append(array.base)
        array[:] = 0
        return array

    def stream(self) -> "Stream":
        """Create a stream that is independent of the default stream."""
        stream = Stream(self._driver)
        self._streams.append(stream)
        return stream

    def event(self) -> "Event":
        """Create an event."""
        event = Event(self._driver)
        self._events.append(event)
        return event

    def capture(self, stream: "Stream", enqueue: Callable[[], None]) -> "Graph":
        """Capture what ``enqueue`` puts on a stream, without running it.

        Raises BackendError if the driver or the enqueued work cannot be captured; the stream remains usable.
        """
        handle = ctypes.c_void_p(stream.handle)
        self.call("cuStreamBeginCapture_v2", handle, ctypes.c_int(_THREAD_LOCAL_CAPTURE))
        recorded, executable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            try:
                with cuda_errors("CUDA graph capture failed"):
                    enqueue()
            finally:
                # Always end the capture, or the stream could not be used again.
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
        """Wait for all work on our own streams; other streams of the context may be capturing, or busy for long.

        If the device has failed, logs that and does not wait.
        """
        for stream in self._streams:
            for _attempt in range(2):  # retry, because the memory is released next
                if self._quietly("waiting for the last work", stream.synchronize):
                    break

    def close(self) -> None:
        """Release everything and leave the context. May be called twice, and from any thread.

        Objects that the driver fails to release are logged and left to it.
        """
        if self._context is None:
            return
        before = self._current_handle()
        context, self._context = self._context, None
        with cuda_errors("the GPU failed"):
            context.push()  # pycuda releases another thread's objects only while that thread's context is current
            for graph in self._graphs:
                graph.close()
            for queue in (*self._streams, *self._events):
                queue.close()
            for memory in self._memory:
                self._quietly("freeing memory", memory.free)
            context.detach()
        # pycuda assumes that leaving a context ends it, which is not true of a primary context. So it is still on the
        # stack, below the previously current context if that belonged to pycuda too.
        on_top = self._current_handle() == before
        for _ in range(2 if on_top else 1):
            self.library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        if on_top:
            self.library.cuCtxPushCurrent_v2(ctypes.c_void_p(before))

    def _current_handle(self) -> int | None:
        """Handle of this thread's current context."""
        found = ctypes.c_void_p()
        self.library.cuCtxGetCurrent(ctypes.byref(found))
        return found.value

    def call(self, name: str, *arguments: Any) -> None:
        """Call a driver function. Raises BackendError with the driver's message."""
        _check(self.library, name, getattr(self.library, name)(*arguments))

    def _quietly(self, what: str, release: Callable[[], None]) -> bool:
        try:
            release()
        except self._driver.Error as error:
            _log.warning("%s failed while releasing the GPU: %s", what, one_line(error))
            return False
        return True


class Stream:
    """A queue of GPU work, executed in order."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._stream: Any = driver.Stream(_NON_BLOCKING)
        self.handle: int = self._stream.handle
        """The handle for C libraries."""

    def upload(self, address: int, source: NDArray[Any]) -> None:
        """Queue a copy of a host array to the device. Page-locked memory must stay unchanged until it has run."""
        self._driver.memcpy_htod_async(address, source, self._stream)

    def download(self, target: NDArray[Any], address: int) -> None:
        """Queue a copy from the device to a host array."""
        self._driver.memcpy_dtoh_async(target, address, self._stream)

    def copy(self, target: int, source: int, size: int) -> None:
        """Queue a copy on the device."""
        self._driver.memcpy_dtod_async(target, source, size, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Queue zeroing bytes on the device."""
        self._driver.memset_d8_async(address, 0, size, self._stream)

    def wait_for(self, event: "Event") -> None:
        """Make work queued from now on wait for the event's latest record."""
        self._stream.wait_for_event(event.event)

    def synchronize(self) -> None:
        """Block the host until all queued work is done."""
        self._stream.synchronize()

    def close(self) -> None:
        """Release the stream."""
        self._stream = None  # pycuda destroys it with its last reference


class Event:
    """A marker in a stream that other streams can wait for."""

    def __init__(self, driver: Any) -> None:
        self.event: Any = driver.Event(_NO_TIMING)

    def record(self, stream: Stream) -> None:
        """Set the marker after the work now queued on the stream."""
        self.event.record(stream._stream)

    def close(self) -> None:
        """Release the event."""
        self.event = None


class Graph:
    """A captured CUDA graph, queued by one call. All its addresses are those at capture time."""

    def __init__(self, gpu: Gpu, executable: ctypes.c_void_p) -> None:
        self._gpu = gpu
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Queue the captured work on a stream."""
        self._gpu.call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Release the graph. May be called twice."""
        if self._executable:
            self._gpu.library.cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()


@contextmanager
def cuda_errors(what: str) -> Iterator[None]:
    """Turn pycuda's errors into BackendErrors with the driver's message."""
    try:
        yield
    except _import_pycuda().Error as error:
        raise BackendError(f"{what}: {one_line(error)}; run 'stm-skeletons doctor' for details") from error


def _import_pycuda() -> Any:
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        if "libcuda" in str(error):
            raise BackendError(
                f"no NVIDIA driver ({one_line(error)}); install it, or run on the CPU with --backend onnxruntime"
            ) from error
        raise BackendError(
            f"pycuda is not installed or does not load ({one_line(error)}); pip install pycuda (needs the CUDA "
            "toolkit), or run on the CPU with --backend onnxruntime"
        ) from error
