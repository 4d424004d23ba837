"""Where a training run computes."""

import ctypes
import os
from dataclasses import dataclass

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from stm_skeletons.errors import TrainingError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


@dataclass(frozen=True)
class Hardware:
    """Where and how a run computes."""

    accelerator: str = "auto"
    """Lightning Fabric's: "cpu", "cuda" or "auto"."""
    devices: int = 1
    """On this node; under torchrun as many as it started processes."""
    nodes: int = 1
    precision: str = "32-true"
    """Lightning Fabric's: "32-true", "16-mixed" or "bf16-mixed"."""
    workers: int = 2
    """Processes that make samples, for each device."""
    threads: int | None = None
    """Of the CPU, for the network; None: half of the cores, shared out among this node's processes. Threads wait for
    each other all the time, so one whose core also makes samples or runs another program holds up all of them."""

    @property
    def cpu_threads(self) -> int:
        """``threads``, or what it stands for here; of each process."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) // (2 * self.processes_here))

    @property
    def processes_here(self) -> int:
        """On this node; torchrun says how many it started."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.devices))


def keep_freed_memory() -> None:
    """Have glibc keep what is freed instead of giving it back: on the CPU every large tensor would come as fresh pages,
    and a step take 1.6 times as long."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def open_fabric(hardware: Hardware) -> Fabric:
    """Lightning Fabric on it. Raises TrainingError."""
    devices = hardware.processes_here
    processes = devices * hardware.nodes
    # Which layers take part in a loss depends on the sample: a cold start, a memory that is dropped.
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
        raise TrainingError(f"cannot use {hardware.accelerator} x {devices}: {error}") from error
