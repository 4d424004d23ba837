"""Checks a Jetson's release, power mode, clocks, memory and temperature from its files. Not yet run on a board."""

import re
from dataclasses import dataclass
from pathlib import Path

from runtime.doctor.finding import Finding
from runtime.machine import disk_swap, hottest_sensor, is_jetson, read, read_number, run_tool, system_memory

_SMALL_BOARD = 9 << 30
"""Bytes; boards of 8 GB have less, because some memory is reserved."""
_SWAP = 4 << 30
"""Bytes of disk swap recommended on a small board before building engines."""
_HOT = 85
"""Degrees Celsius; Orin throttles from 99 degrees."""
_TENSORRT = {"6.0": "8.6", "6.1": "10.3", "6.2": "10.3"}
_GPU_CLOCKS = ("*gpu*", "*.ga10b", "*.gv11b")
"""Names below /sys/class/devfreq: JetPack 6, JetPack 5 on Orin and on Xavier."""


@dataclass(frozen=True)
class Release:
    """The contents of /etc/nv_tegra_release."""

    l4t: str
    """Jetson Linux version, such as "36.4.3"."""
    jetpack: str
    """JetPack version: such as "6.2", "5" or "unknown"."""

    @property
    def tensorrt(self) -> str | None:
        """Major and minor version of the matching TensorRT, such as "10.3"; None if unknown."""
        return "8.5" if self.jetpack == "5" else _TENSORRT.get(self.jetpack)


def parse_release(text: str) -> Release | None:
    """Parse "# R36 (release), REVISION: 4.3, GCID: ..."; None for other text."""
    found = re.search(r"# R(\d+) \(release\), REVISION: (\d+)\.(\d+)", text)
    if found is None:
        return None
    major, minor, patch = map(int, found.groups())
    return Release(f"{major}.{minor}.{patch}", _jetpack(major, minor, patch))


def _jetpack(major: int, minor: int, patch: int) -> str:
    if major == 35:
        return "5"
    if major == 36 and minor in (2, 3):
        return "6.0"
    if major == 36 and minor == 4:
        return "6.1" if patch < 3 else "6.2"
    return "unknown"


def parse_power_modes(conf: str) -> dict[int, str]:
    """Return the power modes that /etc/nvpmodel.conf defines, by number."""
    found = re.findall(r"^\s*<\s*POWER_MODEL\s+ID\s*=\s*(\d+)\s+NAME\s*=\s*([^\s>]+)", conf, re.M)
    return {int(number): name for number, name in found}


def parse_power_query(text: str) -> tuple[int | None, str] | None:
    """Parse number and name from ``nvpmodel -q`` ("NV Power Mode: 25W" and the next line); None for other text."""
    found = re.search(r"NV Power Mode:\s*(\S+)(?:\s*\n\s*(\d+)\s*$)?", text, re.M)
    return None if found is None else (int(found[2]) if found[2] else None, found[1])


def read_release(root: Path) -> Release | None:
    """Return the board's release; None if it is not a Jetson."""
    return parse_release(read(root / "etc/nv_tegra_release") or "")


def examine_jetson(root: Path = Path("/")) -> list[Finding]:
    """Check a Jetson; no findings on other machines."""
    if not is_jetson(root):
        return []
    return [_release(root), _power(root), _clocks(root), _memory(root), _temperature(root)]


def _release(root: Path) -> Finding:
    board = read(root / "proc/device-tree/model") or "Jetson"
    text = read(root / "etc/nv_tegra_release")
    if text is None:
        missing = "release unknown: cannot read /etc/nv_tegra_release; in a container, mount it"
        return Finding("board", False, False, f"{board}; {missing}")
    release = parse_release(text)
    if release is None:
        return Finding("board", False, False, f"{board}: cannot parse /etc/nv_tegra_release: '{text[:80]}'")
    name = f"{board}, Jetson Linux {release.l4t} (JetPack {release.jetpack})"
    if release.jetpack == "5":
        advice = "TensorRT 8.5 is too old: run on the CPU with --backend onnxruntime, or flash JetPack 6"
        return Finding("board", False, False, f"{name}; {advice}")
    if release.tensorrt is None:
        return Finding("board", False, False, f"{name}; unknown to this version, which supports JetPack 6.0 to 6.2")
    return Finding("board", True, False, name)


def _power(root: Path) -> Finding:
    modes = parse_power_modes(read(root / "etc/nvpmodel.conf") or "")
    current = _power_mode(root, modes)
    if current is None:
        return Finding("power mode", False, False, "unknown; see 'sudo nvpmodel -q'")
    strongest = [(number, name) for number, name in modes.items() if name.startswith("MAXN")]
    if current.startswith("MAXN") or not strongest:
        return Finding("power mode", True, False, current)
    number, name = strongest[-1]
    text = f"{current} of {', '.join(modes.values())}; for full speed, if power supply and cooling allow: "
    return Finding("power mode", False, False, f"{text}sudo nvpmodel -m {number} ({name})")


def _power_mode(root: Path, modes: dict[int, str]) -> str | None:
    """Read the mode from nvpmodel's status file or, if it is missing, from nvpmodel itself."""
    found = re.search(r"pmode:\s*(\d+)", read(root / "var/lib/nvpmodel/status") or "")
    if found is not None:
        return modes.get(int(found[1]), f"mode {int(found[1])}")
    asked = parse_power_query(run_tool("nvpmodel", "-q") or "") if root == Path("/") else None
    return None if asked is None else asked[1]


def _clocks(root: Path) -> Finding:
    folders = [folder for pattern in _GPU_CLOCKS for folder in sorted((root / "sys/class/devfreq").glob(pattern))]
    for folder in folders:
        now, least, most = (read_number(folder / f"{name}_freq") for name in ("cur", "min", "max"))
        if now is None or not most:
            continue
        text = f"GPU at {now / 1e6:.0f} MHz of at most {most / 1e6:.0f} in this power mode"
        if least == most:
            return Finding("clocks", True, False, f"{text}, locked")
        return Finding("clocks", False, False, f"{text}, rises under load; for steady timings: sudo jetson_clocks")
    return Finding("clocks", False, False, "cannot read the GPU's clock; see 'sudo jetson_clocks --show'")


def _memory(root: Path) -> Finding:
    memory, swap = system_memory(), disk_swap(root).total
    if memory is None:
        return Finding("memory", False, False, "unknown; see 'free -h'")
    free = f"{_gigabytes(memory.available)} free of {_gigabytes(memory.total)} shared by CPU and GPU"
    text = f"{free}, {_gigabytes(swap)} swap on disk"
    if memory.total < _SMALL_BOARD and swap < _SWAP:
        return Finding("memory", False, False, f"{text}; add swap before building engines: see docs/jetson.md")
    return Finding("memory", True, False, text)


def _gigabytes(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _temperature(root: Path) -> Finding:
    hottest = hottest_sensor(root)
    if hottest is None:
        return Finding("temperature", False, False, "cannot read any sensor; see 'tegrastats'")
    degrees, name = hottest
    text = f"{degrees:.0f} degrees Celsius ({name})"
    if degrees >= _HOT:
        return Finding("temperature", False, False, f"{text}: clocks will throttle; check fan, dust and mounting")
    return Finding("temperature", True, False, text)
