"""The repository itself: imports come from here, the board side is light, errors are ours."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from stm_skeletons import errors

ROOT = Path(__file__).parents[1]
BOARD = ("stm_skeletons", "runtime", "export/engines", "benchmarks/run")
PACKAGES = ("stm_skeletons", "training", "export", "runtime", "benchmarks")
WORKSTATION = ("torch", "torchvision", "onnx", "onnxslim", "safetensors", "scipy", "tensorrt", "pycuda")


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_ours(package: str):
    """Other packages have shipped a top-level ``training``: the one that is imported must be the one installed here."""
    file = inspect.getfile(importlib.import_module(package))
    assert Path(file).parent == Path(inspect.getfile(importlib.import_module("stm_skeletons"))).parents[1] / package


def modules(*packages: str) -> list[str]:
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def test_the_board_side_imports_without_the_workstations_libraries():
    """Every module, in a process where importing any of them fails."""
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in WORKSTATION)
    imports = "; ".join(f"import {name}" for name in modules(*BOARD))
    code = f"import sys; {blocked}; {imports}; print('fine')"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "fine", result.stderr


def test_every_error_is_in_the_tree_and_drawn():
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert all(issubclass(error, errors.StmError) for error in found)
    assert errors.__doc__ is not None
    for error in found:
        assert error.__name__ in errors.__doc__


@pytest.mark.parametrize("module", modules(*PACKAGES))
def test_every_module_has_a_docstring(module: str):
    assert (importlib.import_module(module).__doc__ or "").strip()
