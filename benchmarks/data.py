"""Checks before the timing starts that F1 can be measured after it."""

from pathlib import Path

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.libraries import need


def check_data(data: dict[str, Path]) -> None:
    """Check that the libraries and folders for F1 are there.

    torch is not imported yet, because it would add to the measured memory.

    Args:
        data: folder by kind of data; nothing is checked when empty.

    Raises:
        LibraryError: a library that F1 needs is not installed.
        BenchmarkError: a folder does not exist.
    """
    if data:
        need("--data", "torch", "safetensors", "pycocotools", "matplotlib")
    for kind, root in data.items():
        if not root.is_dir():
            raise BenchmarkError(f"--data {kind}: folder {root} does not exist; check the path")
