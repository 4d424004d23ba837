"""Whether the memory of this machine is enough to build engines on it."""

from dataclasses import dataclass

from runtime.gpu import GpuInfo, device_memory
from runtime.machine import disk_swap, system_memory
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import ExportError

BUILDER_BYTES = 1 << 30
"""What TensorRT's builder and CUDA take before the first weight is loaded. A guess: not measured on a board."""
HOST_COPIES = 3
"""Of the weights, which may be swapped out: the graph's bytes, the parsed network and the finished plan."""
DEVICE_COPIES = 1
"""Of the weights, which may not: the builder's rearranged ones."""
INTEGRATED_WORKSPACE_MB = 512
"""Workspace on a GPU that shares the system's memory, unless asked otherwise: TensorRT's own limit is all of it."""


def check_memory(bundle: Bundle, gpu: GpuInfo, workspace_mb: int | None) -> str | None:
    """Compare what the builder will take with what is free, before minutes are spent on it.

    Wanted without workspace is what ``Needed`` says. The workspace is a limit that is seldom reached, so a build that
    only lacks that is warned about, not refused. Swap counts for the host's part only: what a GPU uses stays in memory,
    also on a GPU that shares it with the system. Only swap on disks counts.

    Returns:
        A warning in one line, or None.

    Raises:
        ExportError: the build cannot fit, or the system does not say what is free.
        NoGpu: the GPU refuses to.
    """
    needed, workspace = needed_bytes(bundle), (workspace_mb or 0) << 20
    if not gpu.integrated:
        free, _ = device_memory()
        wanted = needed.device - BUILDER_BYTES
        if wanted > free:
            raise ExportError(_lacking(wanted, free, "free on it; end what else uses the GPU"))
        return None
    memory, swap = system_memory(), disk_swap().free
    if memory is None:
        raise ExportError("this system does not say how much memory is free, which building engines needs to know")
    available = memory.available
    end = "end other programs"
    add_swap = (
        "or add swap on a disk: sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && "
        "sudo mkswap /swapfile && sudo swapon /swapfile"
    )
    if needed.device > available:
        desktop = "the desktop too: sudo systemctl isolate multi-user.target"
        rest = f"free without swap, which a GPU cannot use; {end}, {desktop}"
        raise ExportError(_lacking(needed.device, available, rest))
    both = needed.device + needed.host
    if both > available + swap:
        raise ExportError(_lacking(both, available + swap, f"free with swap on disks; {end}, {add_swap}"))
    if both + workspace > available:
        rest = f"free without swap: it may be slow or be killed; {end}, {add_swap}"
        return _lacking(both + workspace, available, rest)
    return None


@dataclass(frozen=True)
class Needed:
    """Estimate of the bytes that building a bundle's engines takes, without workspace."""

    device: int
    """What the GPU uses: BUILDER_BYTES, DEVICE_COPIES of the largest graph's weights, and activations (of the memory
    read: scores and softmax of every slot in FP32; of the rest: 4 maps of 64 channels at half size in FP32)."""
    host: int
    """HOST_COPIES of the largest graph."""


def needed_bytes(bundle: Bundle) -> Needed:
    """The estimate for a bundle."""
    info = bundle.info
    tokens = info.height // 16 * (info.width // 16)
    scores = 2 * 4 * info.slots * tokens * tokens
    maps = info.batch * 4 * 64 * 4 * (info.height // 2) * (info.width // 2)
    largest = max(bundle.graph_file(name).stat().st_size for name in info.graphs)
    if info.precision == "fp32" and info.stored_weights == "fp16":
        largest *= 2  # TensorRT is given them in FP32
    return Needed(BUILDER_BYTES + DEVICE_COPIES * largest + scores + maps, HOST_COPIES * largest)


def _lacking(wanted: int, free: int, rest: str) -> str:
    unit, size = ("GB", 1e9) if wanted >= 1e9 else ("MB", 1e6)
    return f"building wants about {wanted / size:.2g} {unit} of memory, {free / size:.2g} {unit} are {rest}"
