"""The machine, the programs and the bundle that a figure belongs to: without them it means nothing.

The boards' part is not yet run on one.
"""

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from pydantic import Field

from runtime.doctor.finding import look
from runtime.doctor.jetson import examine_jetson
from runtime.gpu import NoGpu, ask_smi, find_gpu
from runtime.machine import ask, cpu_mhz, hottest_sensor, processor_name, read, system_memory, usable_cores
from stm_skeletons import __version__
from stm_skeletons.bundle import FILE_NAME, Bundle
from stm_skeletons.files import sha256
from stm_skeletons.libraries import installed_version
from stm_skeletons.strict import Strict

ROOT = Path("/")
_SMI = ("name", "driver_version", "memory.total")
_SMI_STATE = ("pstate", "power.limit", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu")


class State(Strict):
    """What changes while a machine works. Null: this machine does not tell."""

    load: float | None = Field(description="Processes that wanted a core, averaged over the last minute.")
    power_mode: str | None = Field(description="A Jetson's nvpmodel; elsewhere the CPU's frequency governor.")
    cpu_mhz: int | None = Field(description="Clock of the fastest core.")
    gpu: str | None = Field(description="Power limit and clocks of the GPU.")
    temperature: str | None = Field(description="Of the hottest sensor, and of the GPU.")


class Environment(Strict):
    """Where and with what something was measured. Null: there is none, or this machine does not tell."""

    date: str = Field(description="When the measuring began: ISO 8601, UTC.")
    processor: str
    architecture: str
    cores: int = Field(description="That this process may use.")
    threads: int = Field(description="CPU threads of each session.")
    memory_bytes: int | None = Field(description="Of the machine.")
    system: str
    board: str | None = Field(description="A Jetson and its release.")
    python: str
    numpy: str
    opencv: str
    opencv_threads: int
    onnxruntime: str
    openvino: str | None
    tensorrt: str | None
    stm_skeletons: str
    git_commit: str | None = Field(description="Of this package's checkout, with '-dirty' where files were changed.")
    gpu: str | None
    driver: str | None = Field(description="NVIDIA's.")
    bundle: str
    bundle_sha256: str = Field(description="Of bundle.json, which holds the hashes of the graphs.")
    source: str = Field(description="Name of the video or folder, without the path to it.")
    state: State = Field(description="Before the measuring.")


def stamp(bundle: Bundle, threads: int | None, source: str) -> Environment:
    """Describe this machine, its programs and what is measured. Call it before the measuring: it starts other programs.

    Args:
        bundle: what is measured.
        threads: CPU threads of each session; None for all cores, as sessions take it.
        source: path or address of the video; only its name is kept, which holds no password.
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
        # By their metadata: loading them takes memory, which is measured next.
        openvino=_installed("openvino"),
        tensorrt=", ".join(filter(None, (_installed("tensorrt"), _installed("tensorrt_rtx")))) or None,
        stm_skeletons=__version__,
        git_commit=_commit(),
        gpu=gpu,
        driver=driver,
        bundle=bundle.folder.name,
        bundle_sha256=sha256(bundle.folder / FILE_NAME),
        source=source_name(source),
        state=look_around(),
    )


def look_around() -> State:
    """The machine's state as it is now."""
    mhz = cpu_mhz(ROOT)
    return State(
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        power_mode=_finding("power mode") or read(ROOT / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        cpu_mhz=None if mhz is None else round(mhz),
        gpu=_gpu_state(),
        temperature=_temperature(),
    )


def source_name(source: str) -> str:
    """What of a source's path or address names it: no folders, no user and password, no query."""
    path = source.partition("?")[0] if "://" in source else source
    return path.rstrip("/").rpartition("/")[2] or source


def _finding(subject: str) -> str | None:
    """What the doctor finds of a Jetson, without its advice."""
    found = [finding.text for finding in look("board", lambda: examine_jetson(ROOT)) if finding.subject == subject]
    return found[0].partition(";")[0] if found else None


def _gpu() -> tuple[str | None, str | None]:
    """Name with memory, and driver. nvidia-smi is asked first: the driver itself would take memory in this process."""
    told = ask_smi(_SMI)
    if "name" in told:
        return f"{told['name']}, {told.get('memory.total', '?')} MiB", told.get("driver_version")
    try:
        gpu = find_gpu()
    except NoGpu:
        return None, None
    return f"{gpu.name}, {gpu.memory >> 20} MiB", f"CUDA up to {gpu.cuda}"


def _gpu_state() -> str | None:
    told = ask_smi(_SMI_STATE)
    if not told:
        return _finding("clocks")
    return ", ".join(f"{name} {value}" for name, value in told.items() if name != "temperature.gpu")


def _temperature() -> str | None:
    hottest = hottest_sensor(ROOT)
    texts = [] if hottest is None else [f"{hottest[0]:.0f} degrees Celsius ({hottest[1]})"]
    if told := ask_smi(_SMI_STATE).get("temperature.gpu"):
        texts.append(f"{told} degrees Celsius (GPU)")
    return ", ".join(texts) or None


def _installed(package: str) -> str | None:
    found = installed_version(package)
    return found and f"{package} {found}"


def _commit() -> str | None:
    """Of the checkout that this package runs from; None where it was installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    told = ask("git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    return (told or "").strip() or None
