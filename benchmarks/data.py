"""Whether F1 can be measured afterwards, asked before anything is timed."""

from pathlib import Path

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.libraries import need


def check_data(data: dict[str, Path]) -> None:
    """Find missing libraries and folders; torch itself is loaded only later, since it would take part of the memory.

    Args:
        data: folders by kind of data; nothing is needed without any.

    Raises:
        LibraryError: F1 cannot be measured here.
        BenchmarkError: a folder is not there.
    """
    if data:
        need("--data", "torch", "safetensors", "pycocotools", "matplotlib")
    for kind, root in data.items():
        if not root.is_dir():
            raise BenchmarkError(f"--data {kind}: there is no folder {root}; check the name")
