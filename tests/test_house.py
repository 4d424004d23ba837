"""The repository: packages are imported from here, board modules need few libraries, errors share one base class."""

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
def test_packages_are_imported_from_this_repository(package: str):
    """Other packages have shipped a top-level ``training``; the imported one must be the one installed here."""
    file = inspect.getfile(importlib.import_module(package))
    assert Path(file).parent == Path(inspect.getfile(importlib.import_module("stm_skeletons"))).parents[1] / package


def modules(*packages: str) -> list[str]:
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def test_board_modules_import_without_workstation_libraries():
    """Import every module in a process in which importing any of these libraries fails."""
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in WORKSTATION)
    imports = "; ".join(f"import {name}" for name in modules(*BOARD))
    code = f"import sys; {blocked}; {imports}; print('fine')"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "fine", result.stderr


def test_every_error_has_the_base_class_and_is_documented():
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert all(issubclass(error, errors.StmError) for error in found)
    assert errors.__doc__ is not None
    for error in found:
        assert error.__name__ in errors.__doc__


@pytest.mark.parametrize("module", modules(*PACKAGES))
def test_every_module_has_a_docstring(module: str):
    assert (importlib.import_module(module).__doc__ or "").strip()
