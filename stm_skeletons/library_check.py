"""Checks that the required libraries load, with advice if they do not."""

import re
import subprocess
import sys

from stm_skeletons.libraries import installed_version

_FIRST_FOR_NUMPY_2 = {"opencv-python": (4, 10), "opencv-python-headless": (4, 10), "onnxruntime": (1, 19)}
_TRIES = {
    "numpy": "import numpy; numpy.zeros(1)",
    "cv2": "import cv2; cv2.VideoCapture, cv2.resize",
    "av": "import av; av.open",
    "onnxruntime": "import onnxruntime; onnxruntime.InferenceSession",
    "pydantic": "import pydantic; pydantic.BaseModel",
}
_REMEDIES = {
    "cv2": "opencv-python and opencv-python-headless share one folder, and removing one breaks the other: pip "
    "uninstall -y opencv-python opencv-python-headless && pip install opencv-python; on a minimal Debian or Ubuntu "
    "also: apt-get install libgl1 libglib2.0-0",
}
_SECONDS = 60


def numpy_mismatch() -> str | None:
    """Find a library built for NumPy 1 beside NumPy 2, by versions alone: importing it would print a long traceback."""
    numpy = _version("numpy")
    if numpy is None or numpy[0] < 2:
        return None
    for name, first in _FIRST_FOR_NUMPY_2.items():
        found = _version(name)
        if found is not None and found < first:
            wanted = ".".join(map(str, first))
            return (
                f"{name} {'.'.join(map(str, found))} was built for NumPy 1 and does not load with NumPy 2: "
                f"pip install '{name}>={wanted}' (or 'numpy<2')"
            )
    return None


def library_problems() -> list[str]:
    """Return one line with advice for each library that fails to load. Each is tried in its own process."""
    if found := numpy_mismatch():
        return [found]
    problems = []
    for name, code in _TRIES.items():
        tried = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
        if tried.returncode != 0:
            last = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
            remedy = _REMEDIES.get(name, f"pip install --force-reinstall {name}")
            problems.append(f"the library {name} does not load ({last}); {remedy}")
    return problems


def _version(name: str) -> tuple[int, ...] | None:
    """The first two numbers of an installed package's version."""
    found = re.match(r"(\d+)\.(\d+)", installed_version(name) or "")
    return None if found is None else (int(found[1]), int(found[2]))
