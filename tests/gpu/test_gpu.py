"""Queries of the first GPU through ctypes: same answers as through pycuda, and no open handles afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.backends.cuda import Gpu
from runtime.gpu import NoGpu, device_memory, find_gpu

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
OUT_OF_MEMORY = 2
FIND = """
import ctypes, os
if driver := os.environ.get("SIMULATED_DRIVER"):
    ctypes.CDLL(driver, ctypes.RTLD_GLOBAL)
from runtime.gpu import NoGpu, device_memory, find_gpu
for ask in (find_gpu, device_memory):
    try:
        print(ask())
    except NoGpu as problem:
        print(problem)
"""


def run_find(gpu, **changes: str) -> list[str]:
    """Return the lines that FIND prints with the simulated driver and changes to the environment."""
    environment = {**os.environ, "SIMULATED_DRIVER": str(gpu.library), **changes}
    result = subprocess.run([sys.executable, "-c", FIND], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_found_gpu_is_the_one_that_sessions_use(gpu):
    """Engines are rejected on a GPU whose name differs from the one that they were built on."""
    found = find_gpu()
    opened = Gpu()
    try:
        assert (found.name, found.compute_capability) == (opened.name, opened.compute_capability)
    finally:
        opened.close()
    assert found.memory > 1 << 28
    assert all(part.isdecimal() for part in found.cuda.split("."))
    if gpu.simulated:
        assert found.integrated


def test_finding_the_gpu_creates_no_context(gpu):
    if not gpu.simulated:
        pytest.skip("needs the simulated driver's counts")
    find_gpu()
    assert "cuDevicePrimaryCtxRetain" not in gpu.calls()


def test_memory_is_reported_with_and_without_a_session(gpu):
    free, total = device_memory()
    assert 0 < free <= total
    opened = Gpu()
    try:
        with opened.active():
            opened.allocate(32 << 20, "none")
            less, same = device_memory()
    finally:
        opened.close()
    assert same == total
    assert less <= free - (32 << 20)


def test_failing_gpu_is_reported_with_the_drivers_error(gpu):
    gpu.reset()
    device_memory()
    calls = gpu.fallible()
    assert calls >= 2, "opening, asking"
    for number in range(1, calls + 1):
        gpu.fail_call(number, OUT_OF_MEMORY)
        with pytest.raises(NoGpu, match=r"^[^\n]*out of memory \(CUDA error 2\)[^\n]*$"):
            device_memory()


def test_missing_gpu_or_driver_is_reported(gpu):
    if not gpu.simulated:
        pytest.skip("needs the simulated driver, which can be removed")
    assert all(
        "no GPU responds: " in line and "(CUDA error 100)" in line for line in run_find(gpu, NULLGPU_DEVICE="none")
    )
    assert all(line.startswith("no NVIDIA driver, ") for line in run_find(gpu, SIMULATED_DRIVER=""))


def test_graphics_card_is_not_integrated(gpu):
    if not gpu.simulated:
        pytest.skip("needs a board that can be chosen")
    found, memory = run_find(gpu, NULLGPU_DEVICE="rtx3080", NULLGPU_MEM_MB="512")
    assert "sm86" in found
    assert "integrated=False" in found
    free, total = map(int, memory.strip("()").split(", "))
    assert free <= total == 512 << 20
