"""What this machine can run and what is missing, in plain words."""

import ctypes
import importlib.util
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from runtime.session import Session
from stm_skeletons.bundle import shipped_models
from stm_skeletons.errors import StmError


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    fine: bool
    needed: bool
    """Whether the main job on a CPU needs it."""
    text: str
    """What was found and, if it is not fine, what to do."""


def examine() -> list[Finding]:
    """Look at this machine; changes nothing."""
    return [_machine(), _onnxruntime(), *_models(), _video(), _window(), _gpu(), _tensorrt(), _training()]


def _machine() -> Finding:
    fine = (3, 10) <= sys.version_info[:2] <= (3, 13)
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {_cores()} CPU cores"
    return Finding("machine", fine, True, text if fine else f"{text}; Python 3.10 to 3.13 is supported")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _onnxruntime() -> Finding:
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    text = f"ONNX Runtime {onnxruntime.__version__}: {', '.join(providers)}"
    both = _version("onnxruntime") and _version("onnxruntime-gpu")
    if both and "CUDA" not in providers:
        text += "; onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, install onnxruntime-gpu"
        return Finding("ONNX Runtime", False, False, text)
    return Finding("ONNX Runtime", True, True, text)


def _models() -> list[Finding]:
    if not shipped_models():
        return [Finding("model", False, True, "no model ships with this installation; install the package again")]
    return [_try_model(name) for name in shipped_models()]


def _try_model(name: str) -> Finding:
    try:
        with Session.open(name) as session:
            frame = np.zeros((session.info.height, session.info.width, 3), np.uint8)
            for _ in range(3):
                session.step(frame)
            started = time.perf_counter()
            for _ in range(10):
                session.step(frame)
            rate = 10 / (time.perf_counter() - started)
            size = f"{session.info.width}x{session.info.height}"
        return Finding(f"model {name}", True, True, f"runs here on the CPU, about {rate:.0f} frames a second at {size}")
    except StmError as error:
        return Finding(f"model {name}", False, True, str(error))


def _video() -> Finding:
    build = cv2.getBuildInformation()
    has = {name: any(name in line and "YES" in line for line in build.splitlines()) for name in ("FFMPEG", "GStreamer")}
    text = f"OpenCV {cv2.__version__}: files and RTSP {'yes' if has['FFMPEG'] else 'no (built without FFmpeg)'}"
    if has["GStreamer"]:
        text += ", GStreamer pipelines yes"
    else:
        text += ", GStreamer pipelines no (use the system's OpenCV, on a Jetson JetPack's, for those)"
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    text += f"; cameras: {', '.join(cameras) or 'none'}"
    return Finding("video", has["FFMPEG"], True, text)


def _window() -> Finding:
    display = not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    text = "a display is there" if display else "no display: --window cannot open; --overlay FILE.mp4 works"
    return Finding("window", bool(display), False, text)


def _gpu() -> Finding:
    try:
        driver = ctypes.CDLL("libcuda.so.1" if os.name != "nt" else "nvcuda.dll")
    except OSError:
        return Finding(
            "NVIDIA GPU", False, False, "no driver: frames run on the CPU; install NVIDIA's driver for a GPU"
        )
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return Finding("NVIDIA GPU", False, False, "a driver is there but no GPU answers; look at 'nvidia-smi'")
    name = ctypes.create_string_buffer(100)
    driver.cuDeviceGetName(name, 100, 0)
    return Finding("NVIDIA GPU", True, False, f"{count.value}: {name.value.decode(errors='replace')}")


def _tensorrt() -> Finding:
    found = {name: _version(name) for name in ("tensorrt", "pycuda")}
    missing = [name for name, number in found.items() if number is None and importlib.util.find_spec(name) is None]
    if missing:
        text = (
            f"{' and '.join(missing)} not installed; needed for TensorRT engines only: pip install stm-skeletons[gpu]"
        )
        return Finding("TensorRT", False, False, text)
    text = ", ".join(f"{name} {number or '(version unknown)'}" for name, number in found.items())
    return Finding("TensorRT", True, False, f"{text}; engines are not used by this version yet")


def _training() -> Finding:
    missing = [name for name in ("torch", "safetensors", "onnx", "onnxslim") if importlib.util.find_spec(name) is None]
    if missing:
        text = (
            f"{', '.join(missing)} not installed; needed on a workstation only: pip install stm-skeletons[train,export]"
        )
        return Finding("training and export", False, False, text)
    return Finding("training and export", True, False, f"PyTorch {_version('torch')}, ONNX {_version('onnx')}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
