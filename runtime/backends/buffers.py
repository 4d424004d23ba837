"""Fixed buffers that graphs are bound to, on the host or on a GPU."""

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.backends.arena import ALIGNMENT


class Buffer(Protocol):
    """A tensor at a fixed device address, with a host array to upload from and download to."""

    host: NDArray[Any]
    address: int

    def upload(self) -> None:
        """Copy the host array to the device."""

    def download(self) -> NDArray[Any]:
        """Copy the device's contents to the host array and return it."""
        ...


class HostBuffer:
    """On the CPU the host array is the tensor itself, so nothing is copied."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        size = int(np.prod(shape)) * dtype.itemsize
        self._memory = np.zeros(size + ALIGNMENT, np.uint8)
        start = -self._memory.ctypes.data % ALIGNMENT
        self.host = self._memory[start : start + size].view(dtype).reshape(shape)
        self.address = self.host.ctypes.data

    def upload(self) -> None:
        pass

    def download(self) -> NDArray[Any]:
        return self.host


class CudaBuffer:
    """On the GPU: a device allocation of ONNX Runtime."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.host = np.zeros(shape, dtype)
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy(self.host, "cuda", 0)
        self.address = self._value.data_ptr()

    def upload(self) -> None:
        """Copy the host array to the device without allocating."""
        self._value.update_inplace(self.host)

    def download(self) -> NDArray[Any]:
        """Copy to the host. ONNX Runtime allocates an array per call, so use this for small tensors only."""
        self.host[:] = self._value.numpy()
        return self.host
