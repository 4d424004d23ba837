"""Shared vocabulary of all packages: skeletons, maps, geometry, parts, bundles, errors.

Imports only NumPy, OpenCV and pydantic; never torch, onnx or a GPU library.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.session import Session

__all__ = ["Session", "__version__"]
__version__ = "0.1.0"

# Never use the network unasked. ONNX Runtime from 1.29 on sends telemetry unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Support ``from stm_skeletons import Session``, the only import from a higher package."""
    if name != "Session":
        raise AttributeError(f"module 'stm_skeletons' has no attribute '{name}'")
    from stm_skeletons.libraries import import_own

    return import_own("runtime.session").Session
