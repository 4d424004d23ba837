"""The stand-in's GPU work: host functions on the given streams and addresses.

A job is the work of one ``execute_async_v3``. It runs when the driver runs the stream's host functions, and again on
each replay if the stream was being captured, always on the addresses of that time.
"""

import ctypes
import itertools
import traceback
from dataclasses import dataclass, field
from typing import Any

import numpy as np

failures: list[str] = []
"""Errors in the driver's callbacks, which cannot raise. Tests fail if this is not empty."""

driver = ctypes.CDLL("libcuda.so.1")
_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_SCRIBBLE = 0xFF


@dataclass
class Tensor:
    """An input or output of an engine."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_input: bool

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass
class Job:
    """One run of an engine."""

    session: Any
    """onnxruntime.InferenceSession"""
    tensors: list[Tensor]
    addresses: dict[str, int]
    activations: tuple[int, int]
    """Address and size of the activation memory."""
    captured: bool
    owner: set[int] = field(default_factory=set)
    """Keys of the jobs of its execution context."""


_jobs: dict[int, Job] = {}
_keys = itertools.count(1)


def call(name: str, *arguments: Any) -> None:
    """Make a driver call. Raises RuntimeError with the driver's message."""
    result = getattr(driver, name)(*arguments)
    if result:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(result, ctypes.byref(text))
        raise RuntimeError((text.value or b"unknown error").decode())


def enqueue(job: Job, stream: int) -> None:
    """Queue a job on a stream. Raises RuntimeError with the driver's message."""
    status = ctypes.c_int()
    call("cuStreamIsCapturing", ctypes.c_void_p(stream), ctypes.byref(status))
    job.captured = status.value != 0
    key = next(_keys)
    _jobs[key] = job
    job.owner.add(key)
    try:
        call("cuLaunchHostFunc", ctypes.c_void_p(stream), _run_job, ctypes.c_void_p(key))
    except RuntimeError:
        _forget(key, job)
        raise


def forget(keys: set[int]) -> None:
    """Forget the jobs of a released execution context; they must not run any more."""
    for key in keys:
        _jobs.pop(key, None)


def _forget(key: int, job: Job) -> None:
    _jobs.pop(key, None)
    job.owner.discard(key)


@_HostFunction
def _run_job(key: int) -> None:
    try:
        job = _jobs.get(key)
        if job is None:
            failures.append("work of an execution context ran after the context had been released")
            return
        if not job.captured:
            _forget(key, job)
        _run(job)
    except BaseException:
        failures.append(traceback.format_exc())


def _run(job: Job) -> None:
    address, size = job.activations
    for name, start, length in [
        ("activations", address, size),
        *((tensor.name, job.addresses[tensor.name], tensor.nbytes) for tensor in job.tensors),
    ]:
        if not _is_device(start, length):
            failures.append(f"{name}: {length} bytes at {start:#x} are not in one allocation of device memory")
            return
    # Before and after, so that inputs or outputs that share memory with the activations are destroyed.
    ctypes.memset(address, _SCRIBBLE, size)
    binding = job.session.io_binding()
    for tensor in job.tensors:
        bind = binding.bind_input if tensor.is_input else binding.bind_output
        bind(tensor.name, "cpu", 0, tensor.dtype.type, tensor.shape, job.addresses[tensor.name])
    job.session.run_with_iobinding(binding)
    ctypes.memset(address, _SCRIBBLE, size)


def _is_device(address: int, size: int) -> bool:
    return bool(driver.nullgpu_is_device(ctypes.c_ulonglong(address), ctypes.c_size_t(size)))


class DeviceMemory:
    """Memory that TensorRT allocates for itself in the primary context; ``release`` may be called twice."""

    def __init__(self, size: int) -> None:
        """Raises RuntimeError with the driver's message."""
        self.address = 0
        context = ctypes.c_void_p()
        call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self._context = context
        try:
            pointer = ctypes.c_ulonglong()
            with_context(context, "cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
            self.address = pointer.value
        except RuntimeError:
            driver.cuDevicePrimaryCtxRelease_v2(0)
            raise

    def release(self) -> None:
        if self.address:
            with_context(self._context, "cuMemFree_v2", ctypes.c_ulonglong(self.address))
            self.address = 0
            driver.cuDevicePrimaryCtxRelease_v2(0)


def with_context(context: ctypes.c_void_p, name: str, *arguments: Any) -> None:
    """Make a driver call with a context current. Raises RuntimeError."""
    call("cuCtxPushCurrent_v2", context)
    try:
        call(name, *arguments)
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def compute_capability() -> str:
    """Compute capability of the first device, such as "8.7"; "" without a working driver."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceComputeCapability(ctypes.byref(major), ctypes.byref(minor), 0):
        return ""
    return f"{major.value}.{minor.value}"
