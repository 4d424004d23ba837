"""Facts about a machine: this one, and boards with made-up files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.machine import (
    cpu_mhz,
    disk_swap,
    has_bf16,
    has_vnni,
    hottest_sensor,
    is_jetson,
    processor_name,
    read,
    read_number,
    resident_memory,
    run_tool,
    system_memory,
    usable_cores,
)

SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/zram0                              partition\t650216\t\t500000\t\t5
/swapfile                               file\t\t8388604\t\t1000\t\t-2
/dev/nvme0n1p3                          partition\t1000000\t\t0\t\t-3
"""
MB = 1_000_000


def make_board(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_system_files_are_read_without_nuls_and_blanks(tmp_path: Path):
    (tmp_path / "model").write_bytes(b"  NVIDIA Orin \xff\0\n")
    assert read(tmp_path / "model") == "NVIDIA Orin \ufffd"
    assert read(tmp_path / "missing") is None
    assert read(tmp_path) is None, "a folder"


@pytest.mark.parametrize(("text", "number"), [("48343\n", 48343), ("-5\0", -5), ("<unknown>", None), ("", None)])
def test_sensor_reads_as_a_number_or_none(tmp_path: Path, text: str, number: int | None):
    (tmp_path / "temp").write_text(text)
    assert read_number(tmp_path / "temp") == number


def test_unreadable_sensor_is_none(tmp_path: Path):
    assert read_number(tmp_path / "missing") is None
    assert read_number(tmp_path) is None


def test_tool_that_is_missing_fails_or_hangs_gives_none(monkeypatch: pytest.MonkeyPatch):
    assert run_tool(sys.executable, "-c", "print('hello')") == "hello\n"
    assert run_tool("no-such-tool-anywhere") is None
    assert run_tool(sys.executable, "-c", "print('hello'); raise SystemExit(1)") is None
    monkeypatch.setattr("runtime.machine._PATIENCE", 0.05)
    assert run_tool(sys.executable, "-c", "import time; time.sleep(60)") is None


@pytest.mark.parametrize(
    ("files", "jetson"),
    [
        ({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3"}, True),
        ({"proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"}, True),
        ({"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"}, False),
        ({}, False),
    ],
)
def test_jetson_is_recognised_by_release_file_or_device_tree(tmp_path: Path, files: dict[str, str], jetson: bool):
    assert is_jetson(make_board(tmp_path, files)) is jetson


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that binds processes to cores")
def test_usable_cores_are_those_that_this_process_may_use():
    assert usable_cores() == len(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import runtime.machine as machine; "
    result = subprocess.run(
        [sys.executable, "-c", code + "print(machine.usable_cores())"], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "1"


def test_system_memory_is_in_bytes():
    memory = system_memory()
    assert memory is not None
    assert 1 << 28 < memory.available <= memory.total


@pytest.mark.parametrize("text", ["", "MemTotal: lots\n", "MemTotal:\n", None])
def test_unreadable_meminfo_gives_no_system_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None):
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert system_memory() is None


def test_swap_on_disks_counts_and_zram_does_not(tmp_path: Path):
    swap = disk_swap(make_board(tmp_path, {"proc/swaps": SWAPS}))
    assert (swap.total, swap.free) == ((8388604 + 1000000) * 1024, (8388604 - 1000 + 1000000) * 1024)


@pytest.mark.parametrize(
    "files", [{}, {"proc/swaps": ""}, {"proc/swaps": SWAPS.splitlines()[0]}, {"proc/swaps": "a\nb c"}]
)
def test_missing_or_empty_swaps_count_as_zero(tmp_path: Path, files: dict[str, str]):
    swap = disk_swap(make_board(tmp_path, files))
    assert (swap.total, swap.free) == (0, 0)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_resident_memory_grows_and_falls_and_its_peak_stays():
    before, _ = resident_memory()
    kept = np.ones(200 * MB, np.uint8)
    grown, peak = resident_memory()
    assert grown - before == pytest.approx(200 * MB, abs=20 * MB)
    assert peak is not None
    assert peak >= grown
    del kept
    after, later_peak = resident_memory()
    assert after < grown - 150 * MB
    assert later_peak is not None
    assert later_peak > 0.99 * peak, "the kernel counts in steps"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_reports_its_own_resident_memory():
    """Its parent has measured its own memory before the fork."""
    code = """
import os, runtime.machine as machine
before = machine.resident_memory()[0]
if (child := os.fork()) == 0:
    kept = bytearray(b"x") * 200_000_000
    os._exit(machine.resident_memory()[0] < before + 150_000_000)
print(os.waitpid(child, 0)[1])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "0"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nmodel name\t: other\n"}, "Intel(R) Xeon(R)"),
        ({"proc/cpuinfo": "processor\t: 0\n", "proc/device-tree/model": "Jetson Orin Nano\0"}, "Jetson Orin Nano"),
    ],
)
def test_processor_name_comes_from_cpuinfo_or_the_board(tmp_path: Path, files: dict[str, str], name: str):
    assert processor_name(make_board(tmp_path, files)) == name


def test_processor_name_is_never_empty(tmp_path: Path):
    assert processor_name(tmp_path)
    assert processor_name()


@pytest.mark.parametrize(
    ("files", "has"),
    [
        ({"proc/cpuinfo": "flags\t: avx2 avx512_vnni\n"}, True),
        ({"proc/cpuinfo": "flags\t: avx2 avx_vnni\n"}, True),
        ({"proc/cpuinfo": "flags\t: avx avx2\n"}, False),
        ({}, None),
    ],
)
def test_vnni_is_read_from_the_processor_flags(tmp_path: Path, files: dict[str, str], has: bool | None):
    assert has_vnni(make_board(tmp_path, files)) is has


def test_cpu_mhz_is_the_clock_of_the_fastest_core(tmp_path: Path):
    cpu = "sys/devices/system/cpu"
    assert cpu_mhz(tmp_path) is None
    make_board(tmp_path, {"proc/cpuinfo": "cpu MHz\t\t: 2596.137\ncpu MHz\t\t: 3100.5\n"})
    assert cpu_mhz(tmp_path) == 3100.5
    make_board(
        tmp_path, {f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "729600", f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "1510400"}
    )
    assert cpu_mhz(tmp_path) == 1510.4


def test_cpu_mhz_is_known_while_a_cluster_of_cores_is_off(tmp_path: Path):
    """As in a Jetson's lower power modes: the file exists but cannot be read."""
    make_board(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600"})
    (tmp_path / "sys/devices/system/cpu/cpu4/cpufreq/scaling_cur_freq").mkdir(parents=True)
    assert cpu_mhz(tmp_path) == 729.6


def test_hottest_readable_sensor_is_chosen(tmp_path: Path):
    assert hottest_sensor(tmp_path) is None
    zone = "sys/class/thermal/thermal_zone"
    make_board(tmp_path, {f"{zone}2/type": "cv0-thermal", f"{zone}3/type": "off", f"{zone}3/temp": "-256000"})
    assert hottest_sensor(tmp_path) is None, "one cannot be read, one is switched off"
    make_board(tmp_path, {f"{zone}0/type": "cpu-thermal\n", f"{zone}0/temp": "48343\n", f"{zone}1/temp": "46812\n"})
    assert hottest_sensor(tmp_path) == (48.343, "cpu-thermal")
    make_board(tmp_path, {f"{zone}1/temp": "91250\n"})
    assert hottest_sensor(tmp_path) == (91.25, "thermal_zone1")


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx512f avx512_vnni\nmodel name\t: none bf16\n", False),
        ("", False),
    ],
)
def test_bf16_units_are_read_from_cpuinfo(tmp_path: Path, cpuinfo: str, has: bool):
    assert has_bf16(make_board(tmp_path, {"proc/cpuinfo": cpuinfo})) is has
