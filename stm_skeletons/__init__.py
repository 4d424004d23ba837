"""The words every room shares: skeletons, maps, geometry, parts, bundles, errors.

Imports NumPy, OpenCV and pydantic only; never torch, onnx or a GPU library.
"""

__version__ = "0.1.0"
