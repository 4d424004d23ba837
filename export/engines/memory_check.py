"""Whether the memory of this machine is enough to build engines on it."""

from runtime.gpu import GpuInfo, device_memory
from runtime.machine import disk_swap, system_memory
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import ExportError

BUILDER_BYTES = 1 << 30
"""What TensorRT's builder and CUDA take before the first weight is loaded. A guess: not measured on a board."""
WEIGHT_COPIES = 4
"""The file, the parsed network, the builder's rearranged copy and the finished plan."""
INTEGRATED_WORKSPACE_MB = 512
"""Workspace on a GPU that shares the system's memory, unless asked otherwise: TensorRT's own limit is all of it."""


def check_memory(bundle: Bundle, gpu: GpuInfo, workspace_mb: int | None) -> str | None:
    """Compare what the builder will take with what is free, before minutes are spent on it.

    Wanted without workspace is BUILDER_BYTES, the largest graph WEIGHT_COPIES times, and its activations (of the memory
    read: scores and softmax of every slot in FP32; of the rest: 4 maps of 64 channels at half size in FP32). The
    workspace is a limit that is seldom reached, so a build that only lacks that is warned about, not refused. Only
    swap on disks counts.

    Returns:
        A warning in one line, or None.

    Raises:
        ExportError: the build cannot fit, or the system does not say what is free.
        NoGpu: the GPU refuses to.
    """
    needed, workspace = needed_bytes(bundle), (workspace_mb or 0) << 20
    if not gpu.integrated:
        free, _ = device_memory()
        if needed - BUILDER_BYTES > free:
            raise ExportError(_lacking(needed - BUILDER_BYTES, free, "free on it; end what else uses the GPU"))
        return None
    memory, swap = system_memory(), disk_swap().free
    if memory is None:
        raise ExportError("this system does not say how much memory is free, which building engines needs to know")
    available = memory.available
    advice = (
        "end other programs, or add swap on a disk: sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && "
        "sudo mkswap /swapfile && sudo swapon /swapfile"
    )
    if needed > available + swap:
        raise ExportError(_lacking(needed, available + swap, f"free with swap on disks; {advice}"))
    if needed + workspace > available:
        return _lacking(needed + workspace, available, f"free without swap: it may be slow or be killed; {advice}")
    return None


def needed_bytes(bundle: Bundle) -> int:
    """Estimate of the memory that building a bundle's engines takes, without workspace."""
    info = bundle.info
    tokens = info.height // 16 * (info.width // 16)
    scores = 2 * 4 * info.slots * tokens * tokens
    maps = 4 * 64 * 4 * (info.height // 2) * (info.width // 2)
    largest = max(bundle.graph_file(name).stat().st_size for name in info.graphs)
    return BUILDER_BYTES + WEIGHT_COPIES * largest + scores + maps


def _lacking(wanted: int, free: int, rest: str) -> str:
    return f"building wants about {wanted / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are {rest}"
