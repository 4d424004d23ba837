"""The first NVIDIA GPU, by its driver and nvidia-smi alone: without pycuda, and so on machines that have none of it."""

import ctypes
import functools
import os
from dataclasses import dataclass

from runtime.machine import ask
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
    """The first GPU, as the driver tells it without making a context."""

    name: str
    compute_capability: str
    """As "sm87"."""
    cuda: str
    """Newest CUDA that the driver runs, as "12.6"."""
    memory: int
    """Bytes."""
    integrated: bool
    """Shares the system's memory, as on a Jetson."""


class NoGpu(Exception):  # noqa: N818 - not an error of a run: what the doctor says of it
    """Why there is none, or why it does not answer."""


def find_gpu() -> GpuInfo:
    """Ask the driver; makes no context and takes no memory. Raises NoGpu with what to do."""
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
    """Bytes (free, total) of the whole GPU, by a context: at once where a session has one open, else it is made for it.

    On a GPU that shares the system's memory, free is what the driver would give. Raises NoGpu where it refuses.
    """
    driver, device = _first_device()
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if failed := driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        raise NoGpu(f"the GPU takes no more work: {in_words(driver, failed)}; end what else uses it")
    try:
        driver.cuCtxPushCurrent_v2(context)
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    if failed:
        raise NoGpu(f"the GPU does not tell its memory: {in_words(driver, failed)}; look at 'nvidia-smi' and dmesg")
    return free.value, total.value


def _first_device() -> tuple[ctypes.CDLL, ctypes.c_int]:
    driver = _driver()
    count, device = ctypes.c_int(), ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if failed or count.value == 0 or driver.cuDeviceGet(ctypes.byref(device), 0):
        why = in_words(driver, failed or _NO_DEVICE)
        raise NoGpu(f"a driver is there but no GPU answers: {why}; look at 'nvidia-smi' and dmesg")
    return driver, device


@functools.cache  # a driver that is found stays; one that is missing is looked for again
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        raise NoGpu("no driver: frames run on the CPU; install NVIDIA's driver for a GPU") from None


def in_words(driver: ctypes.CDLL, code: int) -> str:
    """An error of the driver, with its number."""
    text = ctypes.c_char_p()
    driver.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
    return f"{(text.value or b'unknown error').decode(errors='replace')} (CUDA error {code})"


def ask_smi(names: tuple[str, ...]) -> dict[str, str]:
    """What nvidia-smi knows of the first GPU, by the names of its query; nothing where there is no nvidia-smi."""
    asked = ask("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits")
    return parse_smi(asked or "", names)


def parse_smi(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """What nvidia-smi printed of the first GPU, by the names of its query; what it does not know is left out."""
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(names):
            pairs = zip(names, values, strict=True)
            return {name: value for name, value in pairs if value != "N/A" and not value.startswith("[")}
    return {}
