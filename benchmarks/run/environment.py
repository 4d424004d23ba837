"""Describes the machine, its software and the bundle, which every figure of a report depends on.

The part for boards has not run on one yet.
"""

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from pydantic import Field

from runtime.doctor.finding import run_check
from runtime.doctor.jetson import examine_jetson
from runtime.gpu import NoGpu, find_gpu, query_smi
from runtime.machine import cpu_mhz, hottest_sensor, processor_name, read, run_tool, system_memory, usable_cores
from stm_skeletons import __version__
from stm_skeletons.bundle import FILE_NAME, Bundle
from stm_skeletons.files import sha256
from stm_skeletons.libraries import installed_version
from stm_skeletons.strict import Strict

ROOT = Path("/")
_SMI = ("name", "driver_version", "memory.total")
_SMI_STATE = ("pstate", "power.limit", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu")


class State(Strict):
    """State of a machine that changes over time. Null: unknown on this machine."""

    load: float | None = Field(description="Load average of the last minute.")
    power_mode: str | None = Field(description="A Jetson's nvpmodel; elsewhere the CPU's frequency governor.")
    cpu_mhz: int | None = Field(description="Clock of the fastest core.")
    gpu: str | None = Field(description="Power limit and clocks of the GPU.")
    temperature: str | None = Field(description="Temperatures of the hottest sensor and of the GPU.")


class Environment(Strict):
    """Machine, software and inputs of a measurement. Null: not present, or unknown on this machine."""

    date: str = Field(description="Start of the measurement: ISO 8601, UTC.")
    processor: str
    architecture: str
    cores: int = Field(description="Cores that this process may use.")
    threads: int = Field(description="CPU threads of each session.")
    memory_bytes: int | None = Field(description="Memory of the machine.")
    system: str
    board: str | None = Field(description="Model and release of a Jetson.")
    python: str
    numpy: str
    opencv: str
    opencv_threads: int
    onnxruntime: str
    openvino: str | None
    tensorrt: str | None
    stm_skeletons: str
    git_commit: str | None = Field(description="Commit of this package's checkout; '-dirty' if files were changed.")
    gpu: str | None
    driver: str | None = Field(description="NVIDIA driver.")
    bundle: str
    bundle_sha256: str = Field(description="Hash of bundle.json, which holds the hashes of the graphs.")
    source: str = Field(description="Name of the video or folder, without its path.")
    state: State = Field(description="State before the measurement.")


def describe_environment(bundle: Bundle, threads: int | None, source: str) -> Environment:
    """Describe the machine, its software and the inputs. Call it before the measurement, as it starts other programs.

    Args:
        bundle: the measured bundle.
        threads: CPU threads of each session; None for all cores.
        source: path or address of the video; only its name is kept, so passwords are dropped.
    """
    cores, memory = usable_cores(), system_memory()
    gpu, driver = _gpu()
    return Environment(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        processor=processor_name(ROOT),
        architecture=platform.machine(),
        cores=cores,
        threads=threads or cores,
        memory_bytes=None if memory is None else memory.total,
        system=platform.platform(),
        board=_finding("board"),
        python=platform.python_version(),
        numpy=np.__version__,
        opencv=cv2.__version__,
        opencv_threads=cv2.getNumThreads(),
        onnxruntime=onnxruntime.__version__,
        # From package metadata: importing them would add to the memory measured next.
        openvino=_installed("openvino"),
        tensorrt=", ".join(filter(None, (_installed("tensorrt"), _installed("tensorrt_rtx")))) or None,
        stm_skeletons=__version__,
        git_commit=_commit(),
        gpu=gpu,
        driver=driver,
        bundle=bundle.folder.name,
        bundle_sha256=sha256(bundle.folder / FILE_NAME),
        source=source_name(source),
        state=machine_state(),
    )


def machine_state() -> State:
    """The machine's current state."""
    mhz = cpu_mhz(ROOT)
    return State(
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        power_mode=_finding("power mode") or read(ROOT / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        cpu_mhz=None if mhz is None else round(mhz),
        gpu=_gpu_state(),
        temperature=_temperature(),
    )


def source_name(source: str) -> str:
    """The name in a source's path or address, without folders, user, password and query."""
    path = source.partition("?")[0] if "://" in source else source
    return path.rstrip("/").rpartition("/")[2] or source


def _finding(subject: str) -> str | None:
    """The doctor's finding on a Jetson, without its advice."""
    texts = [finding.text for finding in run_check("board", lambda: examine_jetson(ROOT)) if finding.subject == subject]
    return texts[0].partition(";")[0] if texts else None


def _gpu() -> tuple[str | None, str | None]:
    """Name with memory, and driver. nvidia-smi comes first, because CUDA would take memory in this process."""
    reply = query_smi(_SMI)
    if "name" in reply:
        return f"{reply['name']}, {reply.get('memory.total', '?')} MiB", reply.get("driver_version")
    try:
        gpu = find_gpu()
    except NoGpu:
        return None, None
    return f"{gpu.name}, {gpu.memory >> 20} MiB", f"CUDA up to {gpu.cuda}"


def _gpu_state() -> str | None:
    reply = query_smi(_SMI_STATE)
    if not reply:
        return _finding("clocks")
    return ", ".join(f"{name} {value}" for name, value in reply.items() if name != "temperature.gpu")


def _temperature() -> str | None:
    hottest = hottest_sensor(ROOT)
    texts = [] if hottest is None else [f"{hottest[0]:.0f} degrees Celsius ({hottest[1]})"]
    if degrees := query_smi(_SMI_STATE).get("temperature.gpu"):
        texts.append(f"{degrees} degrees Celsius (GPU)")
    return ", ".join(texts) or None


def _installed(package: str) -> str | None:
    version = installed_version(package)
    return version and f"{package} {version}"


def _commit() -> str | None:
    """Commit of the checkout that this package runs from; None if it was installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    output = run_tool("git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    return (output or "").strip() or None
