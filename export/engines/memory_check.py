"""Checks that this machine has enough memory to build engines."""

from dataclasses import dataclass

from runtime.gpu import GpuInfo, device_memory
from runtime.machine import disk_swap, system_memory
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import ExportError

BUILDER_BYTES = 1 << 30
"""Memory of TensorRT's builder and CUDA before the first weight is loaded. A guess: not measured on a board."""
HOST_COPIES = 3
"""Copies of the weights that may be swapped out: the graph's bytes, the parsed network and the finished plan."""
DEVICE_COPIES = 1
"""Copies of the weights that may not be swapped out: the builder's rearranged weights."""
INTEGRATED_WORKSPACE_MB = 512
"""Default workspace on a GPU that shares the system's memory; TensorRT's own limit would be all of it."""


def check_memory(bundle: Bundle, gpu: GpuInfo, workspace_mb: int | None) -> str | None:
    """Compare the estimated memory of a build with the free memory, before the build takes minutes.

    ``Needed`` gives the estimate without workspace. The workspace is a limit that builds seldom reach, so its lack only
    causes a warning. Swap counts for the host's part only, because GPU memory is never swapped, even on a GPU that
    shares the system's memory. Only swap on disks counts.

    Returns:
        A warning on one line, or None.

    Raises:
        ExportError: the build does not fit, or the system does not report its free memory.
        NoGpu: the GPU does not report its free memory.
    """
    needed, workspace = needed_bytes(bundle), (workspace_mb or 0) << 20
    if not gpu.integrated:
        free, _ = device_memory()
        wanted = needed.device - BUILDER_BYTES
        if wanted > free:
            raise ExportError(_lacking(wanted, free, "free on the GPU; stop other programs on it"))
        return None
    memory, swap = system_memory(), disk_swap().free
    if memory is None:
        raise ExportError("cannot build engines: this system does not report how much memory is free")
    available = memory.available
    end = "stop other programs"
    add_swap = (
        "or add swap on a disk: sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && "
        "sudo mkswap /swapfile && sudo swapon /swapfile"
    )
    if needed.device > available:
        desktop = "and the desktop: sudo systemctl isolate multi-user.target"
        rest = f"free without swap, which a GPU cannot use; {end} {desktop}"
        raise ExportError(_lacking(needed.device, available, rest))
    both = needed.device + needed.host
    if both > available + swap:
        raise ExportError(_lacking(both, available + swap, f"free including swap; {end}, {add_swap}"))
    if both + workspace > available:
        rest = f"free without swap: the build may be slow or be killed; {end}, {add_swap}"
        return _lacking(both + workspace, available, rest)
    return None


@dataclass(frozen=True)
class Needed:
    """Estimated bytes for building a bundle's engines, without workspace."""

    device: int
    """GPU memory: BUILDER_BYTES, DEVICE_COPIES of the largest graph's weights, and activations (memory read: scores and
    softmax of every slot in FP32; the rest: 4 maps of 64 channels at half size in FP32)."""
    host: int
    """Host memory: HOST_COPIES of the largest graph."""


def needed_bytes(bundle: Bundle) -> Needed:
    """Return the estimate for a bundle."""
    info = bundle.info
    tokens = info.height // 16 * (info.width // 16)
    scores = 2 * 4 * info.slots * tokens * tokens
    maps = info.batch * 4 * 64 * 4 * (info.height // 2) * (info.width // 2)
    largest = max(bundle.graph_file(name).stat().st_size for name in info.graphs)
    if info.precision == "fp32" and info.stored_weights == "fp16":
        largest *= 2  # TensorRT gets FP32 weights
    return Needed(BUILDER_BYTES + DEVICE_COPIES * largest + scores + maps, HOST_COPIES * largest)


def _lacking(wanted: int, free: int, rest: str) -> str:
    unit, size = ("GB", 1e9) if wanted >= 1e9 else ("MB", 1e6)
    return f"building needs about {wanted / size:.2g} {unit} of memory, but {free / size:.2g} {unit} are {rest}"
