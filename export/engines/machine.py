"""The machine that engines are built on: is it a Jetson, which GPU has it, is there memory enough."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.backends.cuda import Gpu
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError, ExportError, one_line

JETSON_FILE = Path("/etc/nv_tegra_release")
"""Written by JetPack's board support package, and mounted into its containers."""
DEVICE_TREE = Path("/proc/device-tree/compatible")
MEMORY_FILE = Path("/proc/meminfo")

BUILDER_BYTES = 1 << 30
"""What TensorRT's builder and CUDA take before the first weight is loaded. A guess: not measured on a board."""
WEIGHT_COPIES = 4
"""The file, the parsed network, the builder's rearranged copy and the finished plan."""
INTEGRATED_WORKSPACE_MB = 512
"""Workspace on a GPU that shares the system's memory, unless asked otherwise: TensorRT's own limit is all of it."""


@dataclass(frozen=True)
class FoundGpu:
    """The first GPU of this machine."""

    name: str
    compute_capability: str
    """As "sm87"."""
    integrated: bool
    """Shares the system's memory, as on a Jetson."""
    driver_cuda: str
    """Newest CUDA version that the driver knows, as "12.6"."""
    free_bytes: int
    """Of its own memory; of a GPU that shares the system's, what the driver would give."""


def is_jetson() -> bool:
    """Whether this is an NVIDIA Jetson."""
    try:
        return JETSON_FILE.exists() or b"nvidia,tegra" in DEVICE_TREE.read_bytes()
    except OSError:
        return False


def find_gpu() -> FoundGpu:
    """Ask the driver for its first GPU. Raises ExportError: no pycuda, no driver, no GPU."""
    try:
        gpu = Gpu()
        try:
            with gpu.active():
                cuda: Any = importlib.import_module("pycuda.driver")
                version = cuda.get_driver_version()
                return FoundGpu(
                    name=gpu.name,
                    compute_capability=gpu.compute_capability,
                    integrated=bool(cuda.Context.get_device().get_attribute(cuda.device_attribute.INTEGRATED)),
                    driver_cuda=f"{version // 1000}.{version % 1000 // 10}",
                    free_bytes=cuda.mem_get_info()[0],
                )
        finally:
            gpu.close()
    except BackendError as error:
        raise ExportError(f"engines for this machine's GPU cannot be built: {error}") from error


def check_memory(bundle: Bundle, gpu: FoundGpu, workspace_mb: int | None) -> str | None:
    """Compare what the builder will take with what is free, before minutes are spent on it.

    Wanted without workspace is BUILDER_BYTES, the largest graph WEIGHT_COPIES times, and its activations (of the memory
    read: scores and softmax of every slot in FP32; of the rest: 4 maps of 64 channels at half size in FP32). The
    workspace is a limit that is seldom reached, so a build that only lacks that is warned about, not refused.

    Returns:
        A warning in one line, or None.

    Raises:
        ExportError: the build cannot fit.
    """
    needed, workspace = needed_bytes(bundle), (workspace_mb or 0) << 20
    if not gpu.integrated:
        if needed - BUILDER_BYTES > gpu.free_bytes:
            raise ExportError(
                _lacking(needed - BUILDER_BYTES, gpu.free_bytes, "free on it; end what else uses the GPU")
            )
        return None
    available, swap = _system_memory()
    advice = (
        "end other programs, or add swap: sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && "
        "sudo mkswap /swapfile && sudo swapon /swapfile (JetPack's own: sudo systemctl start nvzramconfig)"
    )
    if needed > available + swap:
        raise ExportError(_lacking(needed, available + swap, f"free with swap; {advice}"))
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


def _system_memory() -> tuple[int, int]:
    """Bytes (available without swapping, free swap) of this system."""
    try:
        lines = MEMORY_FILE.read_text(encoding="ascii").splitlines()
        table = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        return table["MemAvailable"], table["SwapFree"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ExportError(f"{MEMORY_FILE} does not say how much memory is free ({one_line(error)})") from error
