"""What this machine is and how it is: cores, memory, processor, clock, temperature; and how to ask its tools.

By psutil where that knows it, else from the system's own files. ``root`` is where those lie: tests make up a board
there. The GPU is in runtime.gpu.
"""

import functools
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path("/")
_PATIENCE = 10.0
"""Seconds that a tool of the system may take."""
_STATUS = Path("/proc/self/status")


def read(path: Path) -> str | None:
    """The text of a file of the system, without NULs and outer blanks; None where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").replace("\0", "").strip()
    except OSError:  # missing, no permission, or a sensor that is asleep
        return None


def read_number(path: Path) -> int | None:
    """The number in a file of the system; None where there is none."""
    text = read(path) or ""
    return int(text) if text.lstrip("-").isdecimal() else None


def ask(*command: str) -> str | None:
    """What a tool of the system prints; None where it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def is_jetson(root: Path = ROOT) -> bool:
    """Whether this is an NVIDIA Jetson. JetPack writes the release file and mounts it into its containers."""
    released = read(root / "etc/nv_tegra_release") is not None
    return released or "nvidia,tegra" in (read(root / "proc/device-tree/compatible") or "")


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class SystemMemory:
    """Bytes."""

    total: int
    available: int
    """What programs can have without swapping."""


def system_memory() -> SystemMemory | None:
    """The memory of this machine; None where it does not tell."""
    try:
        told = psutil.virtual_memory()
    except (OSError, ValueError, LookupError):  # no /proc/meminfo, or an odd one
        return None
    return SystemMemory(told.total, told.available)


@dataclass(frozen=True)
class DiskSwap:
    """Bytes of swap on disks."""

    total: int
    free: int


def disk_swap(root: Path = ROOT) -> DiskSwap:
    """Swap on disks. zram is left out, which psutil counts: it lies in the very memory that is short."""
    rows = [line.split() for line in (read(root / "proc/swaps") or "").splitlines()[1:]]
    pairs = [(row[2], row[3]) for row in rows if len(row) >= 4 and "zram" not in row[0]]
    sizes = [(int(size) << 10, int(used) << 10) for size, used in pairs if size.isdecimal() and used.isdecimal()]
    return DiskSwap(sum(size for size, _ in sizes), sum(size - used for size, used in sizes))


def resident_memory() -> tuple[int, int | None]:
    """Bytes of this process in memory now, and the most there ever were, None where the machine does not tell.

    Cheap enough to be asked every second.
    """
    now = _process(os.getpid()).memory_info().rss
    try:
        _, found, rest = _STATUS.read_bytes().partition(b"VmHWM:")  # psutil has it on Windows only
    except OSError:
        return now, None
    return now, max(now, int(rest.split(maxsplit=1)[0]) << 10) if found else None


@functools.cache
def _process(number: int) -> psutil.Process:
    """Made once in each process: a fork has another number than the process that it came from."""
    return psutil.Process(number)


def processor_name(root: Path = ROOT) -> str:
    """x86 names its processor in /proc/cpuinfo, ARM boards name themselves in the device tree."""
    named = re.search(r"^model name\s*:\s*(.+)$", read(root / "proc/cpuinfo") or "", re.M)
    board = read(root / "proc/device-tree/model")
    return named[1].strip() if named else board or platform.processor() or platform.machine()


def has_vnni(root: Path = ROOT) -> bool | None:
    """Whether an x86 processor has VNNI instructions, which add up products of INT8 exactly; None: it is not told."""
    text = read(root / "proc/cpuinfo")
    return None if text is None else "vnni" in text


def has_bf16(root: Path = ROOT) -> bool:
    """Whether a processor, x86 or ARM, has units for bf16: AVX512-BF16, AMX, ARM's BF16."""
    flags = re.findall(r"^(?:flags|Features)\s*:(.*)", read(root / "proc/cpuinfo") or "", re.M)
    return bool(flags) and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags[0].split())


def cpu_mhz(root: Path = ROOT) -> float | None:
    """Clock of the fastest core now; None where the machine does not tell.

    Not by psutil, whose cpu_freq fails where a cluster of cores is switched off, as in a Jetson's weaker power modes.
    """
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    kilohertz = [found for file in files if (found := read_number(file))]
    if kilohertz:
        return max(kilohertz) / 1000
    megahertz = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read(root / "proc/cpuinfo") or "", re.M)
    return max(map(float, megahertz), default=None)


def hottest_sensor(root: Path = ROOT) -> tuple[float, str] | None:
    """Degrees Celsius and name of the hottest thermal zone; None where none can be read."""
    zones: list[tuple[float, str]] = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        degrees = read_number(zone / "temp")  # a zone whose unit is switched off cannot be read
        if degrees is not None and degrees > 0:
            zones.append((degrees / 1000, read(zone / "type") or zone.name))
    return max(zones, key=lambda zone: zone[0], default=None)
