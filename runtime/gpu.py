"""Properties of the first NVIDIA GPU, from the driver and nvidia-smi alone, so that pycuda is not needed."""

import ctypes
import functools
import os
from dataclasses import dataclass

from runtime.machine import run_tool
from stm_skeletons.engines import device_name

LIBRARY = "libcuda.so.1" if os.name != "nt" else "nvcuda.dll"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_MULTIPROCESSORS = 16
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT."""
_INTEGRATED = 18
"""CU_DEVICE_ATTRIBUTE_INTEGRATED."""
_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""


@dataclass(frozen=True)
class GpuInfo:
    """The first GPU, as reported by the driver without creating a context."""

    name: str
    compute_capability: str
    """Such as "sm87"."""
    cuda: str
    """Newest CUDA version that the driver supports, such as "12.6"."""
    memory: int
    """Bytes."""
    integrated: bool
    """Whether it shares the system's memory, as on a Jetson."""


class NoGpu(Exception):  # noqa: N818 - not an error of a run: the doctor reports it
    """There is no GPU, or it does not respond; the text says why."""


def find_gpu() -> GpuInfo:
    """Query the driver; creates no context and takes no memory. Raises NoGpu with advice."""
    driver, device = _first_device()
    cuda, memory = ctypes.c_int(), ctypes.c_size_t()
    driver.cuDriverGetVersion(ctypes.byref(cuda))
    name = ctypes.create_string_buffer(100)
    driver.cuDeviceGetName(name, 100, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    return GpuInfo(
        device_name(name.value.decode(errors="replace"), attribute(_MULTIPROCESSORS)),
        f"sm{attribute(_CAPABILITY_MAJOR)}{attribute(_CAPABILITY_MINOR)}",
        f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
        memory.value,
        bool(attribute(_INTEGRATED)),
    )


def device_memory() -> tuple[int, int]:
    """Return (free, total) bytes of the GPU.

    Uses the process's context if a session has one open, otherwise creates one for the query. On a GPU that shares the
    system's memory, free is what the driver would allocate. Raises NoGpu if the driver fails.
    """
    driver, device = _first_device()
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if failed := driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        raise NoGpu(f"the GPU accepts no more work: {describe_error(driver, failed)}; stop other programs on it")
    try:
        driver.cuCtxPushCurrent_v2(context)
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    if failed:
        raise NoGpu(f"the GPU does not report its memory: {describe_error(driver, failed)}; see 'nvidia-smi' and dmesg")
    return free.value, total.value


def _first_device() -> tuple[ctypes.CDLL, ctypes.c_int]:
    driver = _driver()
    count, device = ctypes.c_int(), ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if failed or count.value == 0 or driver.cuDeviceGet(ctypes.byref(device), 0):
        why = describe_error(driver, failed or _NO_DEVICE)
        raise NoGpu(f"the driver is installed but no GPU responds: {why}; see 'nvidia-smi' and dmesg")
    return driver, device


@functools.cache  # caches a driver that was found, but not a failure
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        raise NoGpu("no NVIDIA driver, so frames run on the CPU; install the driver to use a GPU") from None


def describe_error(driver: ctypes.CDLL, code: int) -> str:
    """Describe a driver error, with its number."""
    text = ctypes.c_char_p()
    driver.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
    return f"{(text.value or b'unknown error').decode(errors='replace')} (CUDA error {code})"


def query_smi(names: tuple[str, ...]) -> dict[str, str]:
    """Query nvidia-smi for the first GPU; return the values by name, empty if there is no nvidia-smi."""
    asked = run_tool("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits")
    return parse_smi(asked or "", names)


def parse_smi(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Parse nvidia-smi's output for the first GPU into values by name, without unknown ones."""
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(names):
            pairs = zip(names, values, strict=True)
            return {name: value for name, value in pairs if value != "N/A" and not value.startswith("[")}
    return {}
