"""Checks what the main job on the CPU needs (Python, ONNX Runtime, models, video), and what a workstation has."""

import importlib.util
import os
import platform
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from runtime.backends.openvino import import_openvino
from runtime.doctor.finding import Finding
from runtime.machine import usable_cores
from runtime.session import Session
from stm_skeletons.bundle import MODELS_FOLDER, Bundle, shipped_models
from stm_skeletons.errors import BackendError, StmError
from stm_skeletons.libraries import installed_version


def examine_machine(bundle: Bundle | None) -> list[Finding]:
    """Check what the main job on the CPU needs. Runs the shipped models, and the given bundle."""
    return [_machine(), _onnxruntime(), _openvino(), *_models(bundle), _video(), _window()]


def _machine() -> Finding:
    fine = (3, 10) <= sys.version_info[:2] <= (3, 13)
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {usable_cores()} CPU cores"
    return Finding("machine", fine, True, text if fine else f"{text}; needs Python 3.10 to 3.13")


def _onnxruntime() -> Finding:
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    text = f"ONNX Runtime {onnxruntime.__version__}: {', '.join(providers)}"
    both = installed_version("onnxruntime") and installed_version("onnxruntime-gpu")
    if both and "CUDA" not in providers:
        text += "; onnxruntime and onnxruntime-gpu conflict: uninstall both, then install onnxruntime-gpu"
        return Finding("ONNX Runtime", False, False, text)
    return Finding("ONNX Runtime", True, True, text)


def _openvino() -> Finding:
    if installed_version("openvino") is None:
        text = "not installed; optional, faster on x86 CPUs: pip install 'stm-skeletons[openvino]'"
        return Finding("OpenVINO", False, False, text)
    try:
        openvino = import_openvino()
    except BackendError as error:
        return Finding("OpenVINO", False, False, str(error))
    return Finding("OpenVINO", True, False, f"OpenVINO {openvino.__version__}; the default backend on x86 CPUs")


def _models(bundle: Bundle | None) -> list[Finding]:
    given = [] if bundle is None or bundle.folder.parent == MODELS_FOLDER else [_try_model(bundle.folder.name, bundle)]
    if not shipped_models():
        missing = "this installation has no shipped models; reinstall the package"
        return [Finding("model", False, True, missing), *given]
    return [*(_try_model(name, name) for name in shipped_models()), *given]


def _try_model(name: str, bundle: str | Bundle) -> Finding:
    try:
        with Session.open(bundle) as session:
            frame = np.zeros((session.info.height, session.info.width, 3), np.uint8)
            for _ in range(3):
                session.step(frame)
            started = time.perf_counter()
            for _ in range(10):
                session.step(frame)
            rate = 10 / (time.perf_counter() - started)
            size = f"{session.info.width}x{session.info.height}"
        return Finding(f"model {name}", True, True, f"runs on the CPU at about {rate:.0f} fps, {size}")
    except StmError as error:
        return Finding(f"model {name}", False, True, str(error))


def _video() -> Finding:
    build = cv2.getBuildInformation()
    has = {name: any(name in line and "YES" in line for line in build.splitlines()) for name in ("FFMPEG", "GStreamer")}
    text = f"OpenCV {cv2.__version__}: files and RTSP {'yes' if has['FFMPEG'] else 'no (built without FFmpeg)'}"
    if has["GStreamer"]:
        text += ", GStreamer pipelines yes"
    else:
        text += ", GStreamer pipelines no (need the system's OpenCV; on a Jetson JetPack's)"
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    text += f"; cameras: {', '.join(cameras) or 'none'}"
    return Finding("video", has["FFMPEG"], True, text)


def _window() -> Finding:
    display = not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    text = "display available" if display else "no display: use --overlay FILE.mp4 instead of --window"
    return Finding("window", bool(display), False, text)


def examine_workstation() -> list[Finding]:
    """Check what training and export need."""
    missing = [name for name in ("torch", "safetensors", "onnx", "onnxslim") if importlib.util.find_spec(name) is None]
    if missing:
        text = f"{', '.join(missing)} not installed; workstation only: pip install 'stm-skeletons[train,export]'"
        return [Finding("training and export", False, False, text)]
    return [
        Finding(
            "training and export",
            True,
            False,
            f"PyTorch {installed_version('torch')}, ONNX {installed_version('onnx')}",
        )
    ]
