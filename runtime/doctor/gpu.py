"""Checks driver, CUDA, GPU, TensorRT and pycuda. Not yet run with TensorRT on a GPU."""

import importlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from runtime.doctor.finding import Finding
from runtime.doctor.jetson import Release, read_release
from runtime.gpu import LIBRARY, NoGpu, find_gpu, query_smi
from runtime.machine import read
from runtime.tensorrt_module import import_tensorrt, is_too_old
from stm_skeletons.engines import Package
from stm_skeletons.errors import BackendError, one_line

SMI_QUERY = (
    "driver_version",
    "memory.total",
    "memory.free",
    "temperature.gpu",
    "clocks.sm",
    "clocks.max.sm",
    "power.limit",
)
_HOT = 85
PACKAGES: tuple[Package, Package] = ("tensorrt", "tensorrt_rtx")


def examine_gpu() -> list[Finding]:
    """Check the GPU and its driver; for discrete GPUs, add nvidia-smi's values."""
    try:
        gpu = find_gpu()
    except NoGpu as problem:
        return [Finding("NVIDIA GPU", False, False, str(problem))]
    size = f"{gpu.memory / (1 << 30):.1f} GiB"
    text = f"{gpu.name}, compute capability {gpu.compute_capability}, {size}; driver runs CUDA up to {gpu.cuda}"
    return [Finding("NVIDIA GPU", True, False, text), *smi_findings(query_smi(SMI_QUERY))]


def smi_findings(values: dict[str, str]) -> list[Finding]:
    """Findings from the values of SMI_QUERY; none on a Jetson, whose nvidia-smi reports hardly anything."""
    findings: list[Finding] = []
    if "driver_version" in values:
        findings.append(Finding("driver", True, False, values["driver_version"]))
    total, free = values.get("memory.total", ""), values.get("memory.free", "")
    if total.isdecimal() and free.isdecimal():
        enough = int(free) >= 1000
        text = f"{free} MiB free of {total}"
        text += "" if enough else ": other programs use it; 'nvidia-smi' lists them"
        findings.append(Finding("GPU memory", enough, False, text))
    if "clocks.sm" in values and "clocks.max.sm" in values:
        limit = f", power limit {values['power.limit']} W" if "power.limit" in values else ""
        text = f"{values['clocks.sm']} MHz of at most {values['clocks.max.sm']}{limit}"
        findings.append(Finding("clocks", True, False, text))
    degrees = values.get("temperature.gpu", "")
    if degrees.isdecimal():
        cool = int(degrees) < _HOT
        text = f"{degrees} degrees Celsius" + ("" if cool else ": the GPU will throttle; check fan and dust")
        findings.append(Finding("temperature", cool, False, text))
    return findings


def tensorrt_versions() -> dict[Package, str]:
    """Return the versions of installed TensorRT packages that load."""
    found: dict[Package, str] = {}
    for package in PACKAGES:
        try:
            found[package] = import_tensorrt(package).__version__
        except BackendError:
            continue
    return found


def examine_tensorrt(root: Path = Path("/")) -> list[Finding]:
    """Check both TensorRT packages, pycuda, and the CUDA toolkit with which pycuda is built."""
    release = read_release(root)
    return [*judge_tensorrt(tensorrt_versions(), release), *_cuda(root, release), _pycuda(release)]


def judge_tensorrt(found: dict[Package, str], release: Release | None) -> list[Finding]:
    """Report whether the installed TensorRT packages are usable, on this JetPack if there is one."""
    if not found:
        try:
            import_tensorrt("tensorrt")
            reason = ""
        except BackendError as error:
            reason = str(error)
        return [Finding("TensorRT", False, False, f"needed for engines only: {reason}")]
    return [_judge(package, number, release) for package, number in found.items()]


def _judge(package: Package, number: str, release: Release | None) -> Finding:
    text = f"{package} {number}"
    if package == "tensorrt_rtx":
        if release is not None:
            return Finding("TensorRT", False, False, f"{text} does not run on a Jetson; use JetPack's tensorrt")
        return Finding("TensorRT", True, False, f"{text}: builds engines ahead of time, runs them on RTX GPUs")
    if is_too_old(number):
        return Finding("TensorRT", False, False, f"{text} is too old: needs 8.6 or newer, on a Jetson JetPack 6")
    if release is not None and release.tensorrt is not None and not number.startswith(f"{release.tensorrt}."):
        return Finding(
            "TensorRT",
            False,
            False,
            f"{text} is not JetPack {release.jetpack}'s ({release.tensorrt}): pip uninstall tensorrt, and create the "
            "virtual environment with --system-site-packages",
        )
    return Finding("TensorRT", True, False, text)


def _cuda(root: Path, release: Release | None) -> list[Finding]:
    """Check the toolkit, which is needed only to build pycuda."""
    text = read(root / "usr/local/cuda/version.json")
    if text is None:
        if release is None:
            return []
        advice = "sudo apt-get install nvidia-jetpack"
        return [Finding("CUDA toolkit", False, False, f"none in /usr/local/cuda; needed to build pycuda: {advice}")]
    content: Any = json.loads(text)
    return [Finding("CUDA toolkit", True, False, f"{content['cuda']['version']} in /usr/local/cuda")]


def _pycuda(release: Release | None) -> Finding:
    try:
        number = version("pycuda")
    except PackageNotFoundError:
        advice = "build it on the board, see docs/jetson.md" if release is not None else "pip install pycuda"
        return Finding("pycuda", False, False, f"not installed; needed for TensorRT engines only: {advice}")
    try:
        importlib.import_module("pycuda.driver")
    except Exception as error:  # its binary part may need another CUDA or NumPy, and fail in many ways
        if LIBRARY in str(error):
            return Finding("pycuda", False, False, f"{number}, but the driver is missing ({LIBRARY})")
        text = f"{number} does not load ({one_line(error)}); build it again: pip install --force-reinstall "
        return Finding("pycuda", False, False, f"{text}--no-cache-dir --no-binary pycuda pycuda")
    return Finding("pycuda", True, False, number)
