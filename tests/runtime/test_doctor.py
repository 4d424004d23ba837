"""The doctor: the facts it reads from boards and tools, and its advice. The samples are output of real machines.

The files of a Jetson Orin Nano are copies that owners posted in public repositories (JetPack 6.2: nvpmodel.conf with
15W, 25W, MAXN_SUPER and 7W; "NV Power Mode: 25W"; R36 REVISION 4.3 and R35 REVISION 4.1 with their GCID and date).
"""

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from engine_files import add_engines

from runtime.doctor import Finding, examine
from runtime.doctor.bundle_engines import judge_engines
from runtime.doctor.finding import run_check
from runtime.doctor.gpu import SMI_QUERY, judge_tensorrt, smi_findings, tensorrt_versions
from runtime.doctor.jetson import (
    Release,
    examine_jetson,
    parse_power_modes,
    parse_power_query,
    parse_release,
)
from runtime.gpu import GpuInfo, parse_smi
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BundleError

R36 = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
)
R35 = (
    "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, "
    "DATE: Tue Aug  1 19:57:35 UTC 2023\n"
)
NVPMODEL = """\
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""
MEMINFO = """\
MemTotal:        7802604 kB
MemFree:         1203320 kB
MemAvailable:    5921004 kB
Buffers:           50168 kB
Cached:          4302112 kB
Active:          2100348 kB
Inactive:        3800120 kB
Shmem:             40012 kB
Slab:             390160 kB
SwapTotal:       3901296 kB
SwapFree:        3901296 kB
HugePages_Total:       0
"""
SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/zram0                              partition\t650216\t\t0\t\t5
/dev/zram1                              partition\t650216\t\t0\t\t5
"""
SWAPFILE = "/var/swapfile                           file\t\t8388604\t\t0\t\t-2\n"
SMI = "570.124.06, 16376, 15210, 41, 210, 3105, 285.00\n"
SMI_JETSON = "540.4.0, [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]\n"


@pytest.fixture
def orin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root folder of an Orin Nano with JetPack 6.2, cool, at 25 W, without swap on a disk."""
    gpu = "sys/class/devfreq/17000000.gpu"
    for path, text in {
        "etc/nv_tegra_release": R36,
        "etc/nvpmodel.conf": NVPMODEL,
        "var/lib/nvpmodel/status": "pmode:0001 fmode:quiet",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/meminfo": MEMINFO,
        "proc/swaps": SWAPS,
        f"{gpu}/cur_freq": "306000000\n",
        f"{gpu}/min_freq": "306000000\n",
        f"{gpu}/max_freq": "918000000\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48343\n",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "46812\n",
        "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
    }.items():
        write(tmp_path / path, text)
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path / "proc"))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def findings_of(root: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_jetson(root)}


@pytest.mark.parametrize(
    ("text", "expected", "tensorrt"),
    [
        (R36, Release("36.4.3", "6.2"), "10.3"),
        (R36.replace("4.3", "4.0"), Release("36.4.0", "6.1"), "10.3"),
        (R36.replace("4.3", "3.0"), Release("36.3.0", "6.0"), "8.6"),
        (R35, Release("35.4.1", "5"), "8.5"),
        (R36.replace("R36", "R39"), Release("39.4.3", "unknown"), None),
    ],
)
def test_release_file_gives_the_versions_of_jetpack_and_tensorrt(text: str, expected: Release, tensorrt: str | None):
    release = parse_release(text)
    assert release is not None
    assert release == expected
    assert release.tensorrt == tensorrt


def test_other_text_is_not_a_release():
    assert parse_release("") is None
    assert parse_release("Ubuntu 22.04") is None


def test_power_modes_are_read_from_the_file_and_from_the_tool():
    assert parse_power_modes(NVPMODEL) == {0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}
    assert parse_power_query("NV Power Mode: 25W\n1\n") == (1, "25W")
    assert parse_power_query("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n") == (0, "MAXN")
    assert parse_power_query("NVPM VERB: Current mode: NV Power Mode: 15W\n") == (None, "15W")
    assert parse_power_query("NVPM ERROR: failed to read PARAM GPU") is None


def test_orin_gets_advice_on_power_mode_clocks_and_memory(orin: Path):
    findings = findings_of(orin)
    assert list(findings) == ["board", "power mode", "clocks", "memory", "temperature"]
    assert findings["board"].fine
    assert "Orin Nano" in findings["board"].text
    assert findings["board"].text.endswith("Jetson Linux 36.4.3 (JetPack 6.2)")
    assert not findings["power mode"].fine
    assert findings["power mode"].text.startswith("25W of 15W, 25W, MAXN_SUPER, 7W")
    assert "sudo nvpmodel -m 2" in findings["power mode"].text
    assert not findings["clocks"].fine
    assert "306 MHz of at most 918" in findings["clocks"].text
    assert "sudo jetson_clocks" in findings["clocks"].text
    assert not findings["memory"].fine
    assert "5.6 GiB free of 7.4 GiB" in findings["memory"].text
    assert "add swap" in findings["memory"].text
    assert findings["temperature"].fine
    assert findings["temperature"].text == "48 degrees Celsius (cpu-thermal)"


def test_configured_orin_has_only_fine_findings(orin: Path):
    write(orin / "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet")
    write(orin / "sys/class/devfreq/17000000.gpu/min_freq", "918000000\n")
    write(orin / "proc/swaps", SWAPS + SWAPFILE)
    assert [finding.subject for finding in examine_jetson(orin) if not finding.fine] == []


def test_hot_board_is_reported(orin: Path):
    write(orin / "sys/class/thermal/thermal_zone1/temp", "91250\n")
    finding = findings_of(orin)["temperature"]
    assert not finding.fine
    assert "91 degrees Celsius (gpu-thermal)" in finding.text
    assert "fan" in finding.text


def test_jetpack_5_is_advised_to_use_the_cpu(orin: Path):
    write(orin / "etc/nv_tegra_release", R35)
    finding = findings_of(orin)["board"]
    assert not finding.fine
    assert "JetPack 6" in finding.text
    assert "onnxruntime" in finding.text


def test_other_machines_have_no_jetson_findings(tmp_path: Path):
    assert examine_jetson(tmp_path) == []


def test_board_without_release_file_is_still_recognised(orin: Path):
    """As in a container that does not mount it."""
    (orin / "etc/nv_tegra_release").unlink()
    assert examine_jetson(orin) == []
    write(orin / "proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0")
    findings = findings_of(orin)
    assert not findings["board"].fine
    assert "Orin Nano" in findings["board"].text
    assert "cannot read /etc/nv_tegra_release" in findings["board"].text
    assert findings["temperature"].fine


def test_findings_of_an_unreadable_board_name_the_tools_to_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_bytes(b"\xff\xfe\x00 nonsense")
    (tmp_path / "etc/nvpmodel.conf").mkdir()  # a folder in place of a file cannot be read
    write(tmp_path / "proc/meminfo", "MemTotal: lots\n")
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path / "proc"))
    write(tmp_path / "sys/class/devfreq/17000000.gpu/cur_freq", "<unknown>")
    findings = findings_of(tmp_path)
    assert not any(finding.fine or finding.needed for finding in findings.values())
    for subject, words in {
        "board": "cannot parse",
        "power mode": "nvpmodel -q",
        "clocks": "jetson_clocks --show",
        "memory": "free -h",
        "temperature": "tegrastats",
    }.items():
        assert words in findings[subject].text


def test_nvidia_smi_gives_driver_memory_clocks_and_temperature():
    findings = {finding.subject: finding for finding in smi_findings(parse_smi(SMI, SMI_QUERY))}
    assert all(finding.fine for finding in findings.values())
    assert findings["driver"].text == "570.124.06"
    assert findings["GPU memory"].text == "15210 MiB free of 16376"
    assert findings["clocks"].text == "210 MHz of at most 3105, power limit 285.00 W"
    assert findings["temperature"].text == "41 degrees Celsius"


def test_full_memory_and_a_hot_gpu_are_not_fine():
    values = parse_smi(SMI.replace("15210, 41", "120, 92"), SMI_QUERY)
    findings = {finding.subject: finding for finding in smi_findings(values)}
    assert not findings["GPU memory"].fine
    assert not findings["temperature"].fine


@pytest.mark.parametrize(
    "text", ["", "No devices were found\n", "Failed to initialize NVML: Driver/library mismatch\n"]
)
def test_nvidia_smi_without_values_gives_no_findings(text: str):
    assert smi_findings(parse_smi(text, SMI_QUERY)) == []


def test_nvidia_smi_of_a_jetson_gives_only_the_driver():
    assert [finding.subject for finding in smi_findings(parse_smi(SMI_JETSON, SMI_QUERY))] == ["driver"]


JETPACK_6_2, JETPACK_6_0 = Release("36.4.3", "6.2"), Release("36.3.0", "6.0")


@pytest.mark.parametrize(
    ("package", "version", "release", "fine", "words"),
    [
        ("tensorrt", "10.3.0", JETPACK_6_2, True, "10.3.0"),
        ("tensorrt", "10.13.3.9", JETPACK_6_2, False, "--system-site-packages"),
        ("tensorrt", "8.6.2", JETPACK_6_0, True, "8.6.2"),
        ("tensorrt", "8.5.2.2", Release("35.4.1", "5"), False, "too old"),
        ("tensorrt", "11.1.0", Release("40.1.0", "unknown"), True, "11.1.0"),
        ("tensorrt", "10.13.3.9", None, True, "10.13.3.9"),
        ("tensorrt_rtx", "1.7.1.116", None, True, "RTX GPUs"),
        ("tensorrt_rtx", "1.7.1.116", JETPACK_6_2, False, "JetPack's tensorrt"),
    ],
)
def test_tensorrt_must_match_the_jetpack(package, version: str, release: Release | None, fine: bool, words: str):
    (finding,) = judge_tensorrt({package: version}, release)
    assert finding.fine is fine
    assert not finding.needed
    assert version in finding.text
    assert words in finding.text


def test_package_with_only_type_stubs_is_not_tensorrt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    assert "tensorrt" not in tensorrt_versions()
    (finding,) = judge_tensorrt({}, None)
    assert not finding.fine
    assert "tensorrt is not installed" in finding.text


ORIN = GpuInfo("Orin", "sm87", "12.6", 8 << 30, integrated=True)
RTX = GpuInfo("NVIDIA GeForce RTX 4080", "sm89", "12.8", 16 << 30, integrated=False)


@pytest.fixture
def bundle(edge_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(edge_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("gpu", "installed", "words"),
    [
        (None, {}, "on the machine with the GPU: stm-skeletons build"),
        (ORIN, {"tensorrt": "10.3.0"}, "--target native"),
        (RTX, {"tensorrt_rtx": "1.7.1.116"}, "--target sm89"),
    ],
)
def test_bundle_without_engines_gets_the_command_that_builds_them(bundle: Bundle, gpu, installed, words: str):
    (finding,) = judge_engines(bundle, gpu, installed)
    assert not finding.fine
    assert not finding.needed
    assert words in finding.text
    assert str(bundle.folder) in finding.text


def test_engines_valid_for_this_machine_are_fine(bundle: Bundle):
    add_engines(bundle, "native", "tensorrt", "10.3.0")
    (finding,) = judge_engines(bundle, ORIN, {"tensorrt": "10.3.0"})
    assert finding.fine, finding.text
    assert finding.subject == "engines native"


@pytest.mark.parametrize(
    ("gpu", "installed", "words"),
    [
        (RTX, {"tensorrt": "10.3.0"}, "sm89"),
        (ORIN, {"tensorrt": "10.7.0"}, "10.7.0"),
        (ORIN, {"tensorrt_rtx": "1.7.1.116"}, "tensorrt is not installed"),
        (None, {"tensorrt": "10.3.0"}, "no GPU to run them"),
    ],
)
def test_engines_that_cannot_run_here_give_the_reason(bundle: Bundle, gpu, installed, words: str):
    add_engines(bundle, "native", "tensorrt", "10.3.0")
    (finding,) = judge_engines(bundle, gpu, installed)
    assert not finding.fine
    assert not finding.needed
    assert words in finding.text


def test_engines_outside_the_bundle_are_checked_in_their_folder(bundle: Bundle, tmp_path: Path):
    (before,) = judge_engines(bundle, ORIN, {"tensorrt": "10.3.0"}, tmp_path / "engines")
    assert before.text.endswith(f"--target native --engines {tmp_path / 'engines'}")
    shutil.move(add_engines(bundle, "native", "tensorrt", "10.3.0"), tmp_path / "engines" / "native")
    (after,) = judge_engines(bundle, ORIN, {"tensorrt": "10.3.0"}, tmp_path / "engines")
    assert after.fine, after.text


def test_targets_are_judged_separately_and_damage_is_found(bundle: Bundle):
    add_engines(bundle, "native", "tensorrt", "10.3.0")
    damaged = add_engines(bundle, "sm89", "tensorrt_rtx", "1.7.1.116")
    (damaged / "read_decoder.engine").write_bytes(b"cut")
    native, other = judge_engines(bundle, ORIN, {"tensorrt": "10.3.0"})
    assert native.fine
    assert not other.fine
    assert "stm-skeletons build" in other.text
    (damaged / "engines.json").write_text("{")
    assert "engines.json" in judge_engines(bundle, ORIN, {"tensorrt": "10.3.0"})[1].text


def test_failing_check_is_a_finding():
    def failing_check() -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/sys/kernel/secret")

    (finding,) = run_check("kernel", failing_check)
    assert (finding.subject, finding.fine, finding.needed) == ("kernel", False, False)
    assert "Permission denied" in finding.text


def test_missing_gpu_requirements_do_not_fail_the_doctor():
    findings = examine()
    assert all(finding.fine for finding in findings if finding.needed)
    subjects = [finding.subject for finding in findings]
    for subject in ("machine", "model edge", "NVIDIA GPU", "TensorRT", "pycuda", "engines"):
        assert any(name.startswith(subject) for name in subjects), subject


def test_requested_bundle_is_run_and_must_exist(bundle: Bundle, tmp_path: Path):
    before = sorted(bundle.folder.rglob("*"))
    findings = {finding.subject: finding for finding in examine(bundle.folder)}
    assert "runs on the CPU" in findings["model bundle"].text
    assert str(bundle.folder) in findings["engines"].text
    assert sorted(bundle.folder.rglob("*")) == before, "the doctor changes nothing"
    with pytest.raises(BundleError, match="no model or bundle"):
        examine(tmp_path / "nowhere")
