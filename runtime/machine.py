"""This machine: cores, memory, processor, clock, temperature; and helpers to read system files and run tools.

Uses psutil where possible, otherwise system files. ``root`` is where these are, so that tests can fake a board. The GPU
is in runtime.gpu.
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
"""Seconds that a system tool may take."""
_STATUS = Path("/proc/self/status")


def read(path: Path) -> str | None:
    """Read a system file's text without NULs and outer whitespace; None if it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").replace("\0", "").strip()
    except OSError:  # missing, not permitted, or a sleeping sensor
        return None


def read_number(path: Path) -> int | None:
    """Read the number in a system file; None if there is none."""
    text = read(path) or ""
    return int(text) if text.lstrip("-").isdecimal() else None


def run_tool(*command: str) -> str | None:
    """Run a system tool and return its output; None if it is missing, fails or hangs."""
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
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class SystemMemory:
    """System memory in bytes."""

    total: int
    available: int
    """Memory available to programs without swapping."""


def system_memory() -> SystemMemory | None:
    """Return this machine's memory; None if it is unknown."""
    try:
        told = psutil.virtual_memory()
    except (OSError, ValueError, LookupError):  # no /proc/meminfo, or an unusual one
        return None
    return SystemMemory(told.total, told.available)


@dataclass(frozen=True)
class DiskSwap:
    """Swap on disks in bytes."""

    total: int
    free: int


def disk_swap(root: Path = ROOT) -> DiskSwap:
    """Return the swap on disks. Excludes zram, which psutil counts: it occupies the memory that is scarce."""
    rows = [line.split() for line in (read(root / "proc/swaps") or "").splitlines()[1:]]
    pairs = [(row[2], row[3]) for row in rows if len(row) >= 4 and "zram" not in row[0]]
    sizes = [(int(size) << 10, int(used) << 10) for size, used in pairs if size.isdecimal() and used.isdecimal()]
    return DiskSwap(sum(size for size, _ in sizes), sum(size - used for size, used in sizes))


def resident_memory() -> tuple[int, int | None]:
    """Return this process's resident memory in bytes, now and at its peak (None if unknown).

    Cheap enough to call every second.
    """
    now = _process(os.getpid()).memory_info().rss
    try:
        _, found, rest = _STATUS.read_bytes().partition(b"VmHWM:")  # psutil has the peak on Windows only
    except OSError:
        return now, None
    return now, max(now, int(rest.split(maxsplit=1)[0]) << 10) if found else None


@functools.cache
def _process(number: int) -> psutil.Process:
    """Cached per process id, because a fork has another id than its parent."""
    return psutil.Process(number)


def processor_name(root: Path = ROOT) -> str:
    """Return the processor's name: x86 from /proc/cpuinfo, ARM boards from the device tree."""
    named = re.search(r"^model name\s*:\s*(.+)$", read(root / "proc/cpuinfo") or "", re.M)
    board = read(root / "proc/device-tree/model")
    return named[1].strip() if named else board or platform.processor() or platform.machine()


def has_vnni(root: Path = ROOT) -> bool | None:
    """Whether an x86 processor has VNNI instructions, which sum INT8 products exactly; None if unknown."""
    text = read(root / "proc/cpuinfo")
    return None if text is None else "vnni" in text


def has_bf16(root: Path = ROOT) -> bool:
    """Whether an x86 or Arm processor has bf16 units: AVX512-BF16, AMX, Arm BF16."""
    flags = re.findall(r"^(?:flags|Features)\s*:(.*)", read(root / "proc/cpuinfo") or "", re.M)
    return bool(flags) and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags[0].split())


def cpu_mhz(root: Path = ROOT) -> float | None:
    """Return the current clock of the fastest core in MHz; None if unknown.

    Does not use psutil, whose cpu_freq fails if a core cluster is off, as in a Jetson's weaker power modes.
    """
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    kilohertz = [found for file in files if (found := read_number(file))]
    if kilohertz:
        return max(kilohertz) / 1000
    megahertz = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read(root / "proc/cpuinfo") or "", re.M)
    return max(map(float, megahertz), default=None)


def hottest_sensor(root: Path = ROOT) -> tuple[float, str] | None:
    """Return temperature in degrees Celsius and name of the hottest thermal zone; None if none can be read."""
    zones: list[tuple[float, str]] = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        degrees = read_number(zone / "temp")  # unreadable if the zone's unit is off
        if degrees is not None and degrees > 0:
            zones.append((degrees / 1000, read(zone / "type") or zone.name))
    return max(zones, key=lambda zone: zone[0], default=None)
