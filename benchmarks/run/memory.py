"""Samples the memory of this process and of the GPU once a second, in a thread."""

import threading
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from runtime.gpu import NoGpu, device_memory, query_smi
from runtime.machine import resident_memory
from stm_skeletons.strict import Strict

SECONDS = 1.0
"""Time between samples."""
DAY = 24 * 3600
"""Capacity in samples for a run of unknown duration."""
_MB = 1e6


class Memory(Strict):
    """Memory in MB (10^6 bytes). Null: unknown on this machine, or the GPU is not used."""

    before: float | None = Field(description="Resident before the bundle was opened: Python and the libraries.")
    steady: float | None = Field(description="Resident: median over the second half of the measurement.")
    peak: float | None = Field(description="Largest resident memory since the start of the process (VmHWM).")
    device_before: float | None = Field(description="In use on the whole GPU before the session was opened.")
    device_steady: float | None = Field(description="In use on the whole GPU: median over the second half.")
    device_peak: float | None = Field(description="In use on the whole GPU: largest sample.")


class MemorySampler:
    """Context manager that samples memory in a thread. Its own memory is allocated in advance."""

    def __init__(self, origin: float, device: bool = False, capacity: int = DAY) -> None:
        """
        Args:
            origin: perf_counter at second 0.
            device: also sample the GPU, on which a session must be open.
            capacity: largest number of samples; sampling stops after that.
        """
        # Filled instead of empty: pages first touched during the run would look like a leak.
        self._samples = np.full((capacity, 4), np.nan, np.float32)
        self._count = 0
        self._origin = origin
        self._device = device
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory sampler", daemon=True)

    def __enter__(self) -> "MemorySampler":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._sample()

    @property
    def samples(self) -> NDArray[np.float32]:
        """[N, 4]: seconds, resident MB, peak resident MB, MB in use on the GPU; NaN if unknown."""
        return self._samples[: self._count].copy()

    def _run(self) -> None:
        self._sample()
        while not self._ended.wait(SECONDS):
            self._sample()

    def _sample(self) -> None:
        if self._count == len(self._samples):
            return
        device = _used_on_device() if self._device else np.nan
        self._samples[self._count] = (perf_counter() - self._origin, *resident_mb(), device)
        self._count += 1


def resident_mb() -> tuple[float, float]:
    """Current and peak resident memory of this process in MB; the peak is NaN if unknown."""
    now, peak = resident_memory()
    return now / _MB, np.nan if peak is None else peak / _MB


def summarise_memory(samples: NDArray, before: float, device_before: float | None) -> Memory:
    """Summary of a sampler's ``samples``.

    Args:
        samples: [N, 4], at least one.
        before: resident MB before the bundle was opened; may be NaN.
        device_before: MB in use on the GPU before, from device_before_mb.
    """
    later = samples[len(samples) // 2 :]
    return Memory(
        before=_known(before),
        steady=_known(np.median(later[:, 1])),
        peak=_known(samples[:, 2].max()),
        device_before=None if device_before is None else _known(device_before),
        device_steady=_known(np.median(later[:, 3])),
        device_peak=_known(samples[:, 3].max()),
    )


def device_before_mb() -> float | None:
    """MB in use on the GPU by all programs, from nvidia-smi so that no CUDA context is opened; None on a Jetson."""
    used = query_smi(("memory.used", "memory.total")).get("memory.used", "")
    return int(used) * (1 << 20) / _MB if used.isdecimal() else None


def _known(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _used_on_device() -> float:
    """MB in use, from the primary context that the session holds open; NaN if the driver fails."""
    try:
        free, total = device_memory()
    except NoGpu:
        return np.nan
    return (total - free) / _MB
