"""The description of the machine in every report."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.run import environment
from benchmarks.run.environment import describe_environment, machine_state, source_name
from stm_skeletons.bundle import Bundle


def test_describes_machine_and_bundle_without_paths(edge_bundle: Path):
    found = describe_environment(Bundle.open(edge_bundle), 1, "/secret/folder/walk.avi")
    assert found.bundle_sha256 == hashlib.sha256((edge_bundle / "bundle.json").read_bytes()).hexdigest()
    assert found.source == "walk.avi"
    assert found.threads == 1
    assert describe_environment(Bundle.open(edge_bundle), None, "walk.avi").threads == found.cores >= 1
    assert found.processor
    assert found.memory_bytes is None or found.memory_bytes > 1 << 28
    assert "secret" not in found.model_dump_json()


@pytest.mark.skipif(
    not (Path(__file__).parents[2] / ".git").exists() or shutil.which("git") is None, reason="needs a checkout and git"
)
def test_describes_the_commit_of_the_checkout():
    found = describe_environment(Bundle.open("edge"), 1, "walk.avi")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found.git_commit or "")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("https://user:password@host/a/walk.mp4?token=1", "walk.mp4"),
        ("frames/", "frames"),
        ("walk#1?.avi", "walk#1?.avi"),
    ],
)
def test_source_names_contain_no_passwords(source: str, name: str):
    assert source_name(source) == name


def test_reports_power_mode_clock_and_temperature_of_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >",
        "var/lib/nvpmodel/status": "pmode:0000",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "51000",
        "sys/class/thermal/thermal_zone1/temp": "48000",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1510400",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    state = machine_state()
    assert state.power_mode == "15W of 15W, MAXN_SUPER"
    assert state.cpu_mhz == 1510
    assert state.temperature is not None
    assert state.temperature.startswith("51 degrees Celsius (cpu-thermal)")
    assert describe_environment(Bundle.open("edge"), None, "0").processor == "NVIDIA Jetson Orin Nano"
