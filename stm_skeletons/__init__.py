"""The words every room shares: skeletons, maps, geometry, parts, bundles, errors.

Imports NumPy, OpenCV and pydantic only; never torch, onnx or a GPU library.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.session import Session

__all__ = ["Session", "__version__"]
__version__ = "0.1.0"

# Nothing of ours goes to the network unasked. ONNX Runtime from 1.29 on would; it looks at this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """The one way up from here: ``from stm_skeletons import Session``."""
    if name != "Session":
        raise AttributeError(f"module 'stm_skeletons' has no attribute '{name}'")
    from stm_skeletons.libraries import our

    return our("runtime.session").Session
