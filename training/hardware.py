"""Devices, processes and threads of a training run."""

import ctypes
import os
from dataclasses import dataclass

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from stm_skeletons.errors import TrainingError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


@dataclass(frozen=True)
class Hardware:
    """Devices, processes and threads of a run."""

    accelerator: str = "auto"
    """Accelerator of Lightning Fabric: "cpu", "cuda" or "auto"."""
    devices: int = 1
    """Devices on this node; under torchrun, its number of processes applies instead."""
    nodes: int = 1
    precision: str = "32-true"
    """Precision of Lightning Fabric: "32-true", "16-mixed" or "bf16-mixed"."""
    workers: int = 2
    """Data loader processes per device."""
    threads: int | None = None
    """CPU threads of the network; None: half of the cores, divided among this node's processes. The threads synchronise
    often, so a thread that shares its core with a data loader or another program slows down all of them."""

    @property
    def cpu_threads(self) -> int:
        """CPU threads of each process."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) // (2 * self.processes_here))

    @property
    def processes_here(self) -> int:
        """Processes on this node; under torchrun, the number it started."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.devices))


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system.

    Otherwise, on the CPU, every large tensor gets fresh pages, and a step takes 1.6 times as long.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def open_fabric(hardware: Hardware) -> Fabric:
    """Lightning Fabric on this hardware. Raises TrainingError."""
    devices = hardware.processes_here
    processes = devices * hardware.nodes
    # The layers that contribute to a loss depend on the sample: cold starts, dropped memory.
    strategy = DDPStrategy(find_unused_parameters=True) if processes > 1 else "auto"
    try:
        return Fabric(
            accelerator=hardware.accelerator,
            devices=devices,
            num_nodes=hardware.nodes,
            strategy=strategy,
            precision=hardware.precision,  # type: ignore[arg-type]
        )
    except Exception as error:  # Fabric's own errors have no common class
        raise TrainingError(f"cannot use accelerator {hardware.accelerator} with {devices} devices: {error}") from error
