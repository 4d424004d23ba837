"""The simulated driver through pycuda: schedules, counters and injected failures."""

import ctypes
import gc
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gpu
SCHEDULES = ("eager", "lazy", "random:1", "random:2", "random:3")
FLOATS = 1000


class Buffers:
    """One page-locked upload and download, one piece of device memory, two streams, one event."""

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda
        self.sent = cuda.pagelocked_zeros(FLOATS, np.float32)
        self.received = cuda.pagelocked_zeros(FLOATS, np.float32)
        self.memory = cuda.mem_alloc(4 * FLOATS)
        self.one, self.other = cuda.Stream(1), cuda.Stream(1)
        self.event = cuda.Event(2)

    def round_trip(self, value: float, wait_for_event: bool = True) -> None:
        """Queue an upload on one stream and a download on the other."""
        self.sent[:] = value
        self.cuda.memcpy_htod_async(self.memory, self.sent, self.one)
        self.event.record(self.one)
        if wait_for_event:
            self.other.wait_for_event(self.event)
        self.cuda.memcpy_dtoh_async(self.received, self.memory, self.other)


@contextmanager
def primary_context(gpu) -> Iterator[Any]:
    """pycuda.driver with the primary context current in this thread."""
    driver: Any = importlib.import_module("pycuda.driver")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    yield driver
    gc.collect()
    context.detach()
    # pycuda assumes that detaching destroys the context, but a primary context survives.
    gpu.driver.cuCtxPopCurrent_v2(None)


@pytest.fixture
def cuda(gpu) -> Iterator[Any]:
    """pycuda.driver with the primary context current."""
    if not gpu.simulated:
        pytest.skip("needs the simulated driver")
    with primary_context(gpu) as driver:
        yield driver


@pytest.fixture
def buffers(cuda) -> Iterator[Buffers]:
    opened = Buffers(cuda)
    yield opened
    vars(opened).clear()  # pytest keeps the object itself after the context ends


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_synchronised_work_gives_the_same_results_under_every_schedule(gpu, buffers: Buffers, schedule: str):
    gpu.schedule(schedule)
    for value in range(30):
        buffers.round_trip(value)
        buffers.other.synchronize()
        assert (buffers.received == value).all()


def stale_results(gpu, buffers: Buffers, schedule: str, mistake: str) -> int:
    """Return how many of 30 round trips with a mistake give wrong results."""
    gpu.schedule(schedule)
    buffers.round_trip(0)
    buffers.other.synchronize()
    wrong = 0
    for value in range(1, 31):
        buffers.round_trip(value, wait_for_event=mistake != "no event")
        if mistake == "host writes too early":
            buffers.sent[:] = -1
        if mistake != "no synchronise":
            buffers.other.synchronize()
        wrong += bool((buffers.received != value).any())
    buffers.one.synchronize()
    buffers.other.synchronize()
    return wrong


@pytest.mark.parametrize("mistake", ["no synchronise", "no event", "host writes too early"])
def test_missing_synchronisation_gives_wrong_results(gpu, buffers: Buffers, mistake: str):
    assert stale_results(gpu, buffers, "eager", mistake) == 0, "an eager driver would hide the mistake"
    assert stale_results(gpu, buffers, "lazy", mistake) == 30
    assert sum(stale_results(gpu, buffers, f"random:{seed}", mistake) for seed in range(5)) > 0


def test_lazy_schedule_runs_only_awaited_work(gpu, cuda, buffers: Buffers):
    gpu.schedule("lazy")
    third = cuda.Stream(1)
    cuda.memset_d8_async(buffers.memory, 7, 4, third)
    buffers.round_trip(1)
    assert gpu.pending() == 5  # set, upload, record, wait, download
    buffers.event.synchronize()
    assert gpu.pending() == 3
    buffers.other.synchronize()
    assert gpu.pending() == 1, "nothing waited for the third stream"
    assert not third.is_done()
    assert third.is_done(), "polling lets it finish"


def test_event_wait_refers_to_the_latest_record_when_queued(gpu, buffers: Buffers):
    gpu.schedule("lazy")
    buffers.round_trip(1)
    buffers.sent[:] = 2
    buffers.cuda.memcpy_htod_async(buffers.memory, buffers.sent, buffers.one)
    buffers.event.record(buffers.one)  # the queued wait still refers to the first record
    buffers.other.synchronize()
    assert gpu.pending() == 2


def test_waiting_for_an_unrecorded_event_queues_nothing(gpu, cuda, buffers: Buffers):
    gpu.schedule("lazy")
    buffers.other.wait_for_event(cuda.Event(2))
    assert gpu.pending() == 0


def test_pageable_memory_is_staged(gpu, cuda, buffers: Buffers):
    gpu.schedule("lazy")
    pageable = np.full(FLOATS, 3, np.float32)
    cuda.memcpy_htod_async(buffers.memory, pageable, buffers.one)
    pageable[:] = 4
    received = np.zeros(FLOATS, np.float32)
    cuda.memcpy_dtoh_async(received, buffers.memory, buffers.one)
    assert (received == 3).all(), "copies to pageable memory wait, copies from it read at once"


def test_a_synchronous_copy_waits_for_blocking_streams_only(gpu, cuda, buffers: Buffers):
    gpu.schedule("lazy")
    blocking = cuda.Stream()
    for stream, value, seen in ((blocking, 5, 5), (buffers.one, 6, 5)):
        cuda.memset_d8_async(buffers.memory, value, 4 * FLOATS, stream)
        found = np.zeros(4 * FLOATS, np.uint8)
        cuda.memcpy_dtoh(found, buffers.memory)
        assert (found == seen).all()


def test_freeing_waits_for_the_device(gpu, cuda, buffers: Buffers):
    gpu.schedule("lazy")
    buffers.round_trip(8)
    buffers.memory.free()
    assert (buffers.received == 8).all()


def test_new_memory_is_filled_with_nan(gpu, cuda):
    memory = cuda.mem_alloc(4 * FLOATS)
    found = np.zeros(FLOATS, np.float32)
    cuda.memcpy_dtoh(found, memory)
    assert np.isnan(found).all()
    assert np.isnan(cuda.pagelocked_empty(FLOATS, np.float32)).all()


def test_copies_waits_and_calls_are_counted(gpu, cuda, buffers: Buffers):
    gpu.reset()
    buffers.round_trip(1)
    cuda.memcpy_dtod_async(int(buffers.memory), int(buffers.memory) + 400, 400, buffers.other)
    buffers.other.synchronize()
    work = [gpu.count(name) for name in ("h2d", "h2d_bytes", "d2h", "d2h_bytes", "d2d", "d2d_bytes", "syncs")]
    assert work == [1, 4 * FLOATS, 1, 4 * FLOATS, 1, 400, 1]
    calls = gpu.calls()
    assert calls["cuStreamSynchronize"] == calls["cuMemcpyHtoDAsync"] == calls["cuStreamWaitEvent"] == 1
    assert "cuMemAlloc" not in calls
    cuda.memcpy_dtoh(buffers.received, buffers.memory)
    assert gpu.count("syncs") == 2


def test_live_objects_are_counted(gpu, cuda):
    before = gpu.live()
    buffers = Buffers(cuda)
    after = gpu.live()
    grown = {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]}
    assert grown == {"device": 1, "device_bytes": grown["device_bytes"], "host": 2, "streams": 2, "events": 1}
    assert grown["device_bytes"] >= 4 * FLOATS
    del buffers
    assert gpu.live() == before


def test_only_the_chosen_call_fails(gpu, cuda, buffers: Buffers):
    gpu.reset()
    buffers.round_trip(1)
    count = gpu.fallible()
    assert count == 4
    names = []
    for n in range(1, count + 2):
        gpu.fail_call(n, 700)
        expected = pytest.raises(cuda.Error, match="illegal memory access") if n <= count else nullcontext()
        with expected:
            buffers.round_trip(n)
        names.append(gpu.failed())
    assert names == [
        "cuMemcpyHtoDAsync_v2",
        "cuEventRecordWithFlags",
        "cuStreamWaitEvent",
        "cuMemcpyDtoHAsync_v2",
        None,
    ]


def test_sticky_fault_persists_but_allows_releasing(gpu, cuda):
    before = gpu.live()
    buffers = Buffers(cuda)
    gpu.fail_call(2, 700, sticky=True)
    buffers.cuda.memcpy_htod_async(buffers.memory, buffers.sent, buffers.one)
    for _ in range(2):
        with pytest.raises(cuda.Error, match="illegal memory access"):
            buffers.one.synchronize()
    del buffers
    assert gpu.live() == before


def capture(gpu, cuda, stream, enqueue) -> int:
    """A CUgraphExec of the work that ``enqueue`` queues. Raises RuntimeError(name of the call, CUresult)."""
    graph, executable, handle = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(stream.handle)

    def check(name: str, *arguments: Any) -> None:
        if result := getattr(gpu.driver, name)(*arguments):
            raise RuntimeError(name, result)

    check("cuStreamBeginCapture_v2", handle, 0)
    try:
        enqueue()
    finally:
        check("cuStreamEndCapture", handle, ctypes.byref(graph))
    try:
        check("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
    finally:
        check("cuGraphDestroy", graph)
    assert executable.value is not None
    return executable.value


def launch(gpu, executable: int, stream) -> None:
    assert gpu.driver.cuGraphLaunch(ctypes.c_void_p(executable), ctypes.c_void_p(stream.handle)) == 0


def destroy(gpu, executable: int) -> None:
    assert gpu.driver.cuGraphExecDestroy(ctypes.c_void_p(executable)) == 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_graph_runs_at_launch_and_in_stream_order(gpu, cuda, buffers: Buffers, schedule: str):
    gpu.schedule(schedule)
    stream = buffers.one

    def enqueue() -> None:
        cuda.memcpy_htod_async(buffers.memory, buffers.sent, stream)
        cuda.memcpy_dtoh_async(buffers.received, buffers.memory, stream)

    executable = capture(gpu, cuda, stream, enqueue)
    buffers.sent[:] = 1
    stream.synchronize()
    assert (buffers.received == 0).all(), "recording runs nothing"
    for value in (2, 3):
        buffers.sent[:] = value
        launch(gpu, executable, stream)
        stream.synchronize()
        assert (buffers.received == value).all()
    destroy(gpu, executable)


@pytest.mark.parametrize(
    ("stage", "failed"),
    [
        ("begin", ("cuStreamBeginCapture_v2", 900)),
        ("end", ("cuStreamEndCapture", 901)),
        ("instantiate", ("cuGraphInstantiateWithFlags", 801)),
    ],
)
def test_refused_capture_leaves_the_stream_usable(gpu, cuda, buffers: Buffers, stage, failed):
    gpu.refuse_capture(stage)
    with pytest.raises(RuntimeError) as caught:
        capture(gpu, cuda, buffers.one, lambda: buffers.event.record(buffers.one))
    assert caught.value.args == failed
    gpu.refuse_capture(None)
    buffers.event.record(buffers.one)
    buffers.round_trip(4)
    buffers.other.synchronize()
    assert (buffers.received == 4).all()


def test_allocating_breaks_a_capture(gpu, cuda, buffers: Buffers):
    def enqueue() -> None:
        with pytest.raises(cuda.Error, match="not permitted when stream is capturing"):
            cuda.mem_alloc(100)

    with pytest.raises(RuntimeError) as caught:
        capture(gpu, cuda, buffers.one, enqueue)
    assert caught.value.args == ("cuStreamEndCapture", 901)


def test_capture_cannot_wait_for_uncaptured_work(gpu, cuda, buffers: Buffers):
    buffers.event.record(buffers.other)

    def enqueue() -> None:
        with pytest.raises(cuda.Error, match="uncaptured work"):
            buffers.one.wait_for_event(buffers.event)

    with pytest.raises(RuntimeError) as caught:
        capture(gpu, cuda, buffers.one, enqueue)
    assert caught.value.args == ("cuStreamEndCapture", 901)


def test_threads_can_use_their_own_streams(gpu):
    """Host functions of each thread need Python's lock (GIL), which pycuda holds during some calls."""
    gpu.schedule("random:4")
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    seen: list[list[int]] = [[], []]

    def work(index: int) -> None:
        callback = function(lambda value: seen[index].append(value or 0))
        with primary_context(gpu) as cuda:
            stream = cuda.Stream(1)
            for value in range(200):
                gpu.driver.cuLaunchHostFunc(ctypes.c_void_p(stream.handle), callback, ctypes.c_void_p(value))
                if value % 10 == 0:
                    cuda.mem_alloc(256).free()  # waits for both threads' work
            stream.synchronize()
            del stream

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert seen == [list(range(200))] * 2
