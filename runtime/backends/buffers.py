"""Fixed pieces of memory that graphs are bound to, on the host or on a GPU."""

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.backends.arena import ALIGNMENT


class Buffer(Protocol):
    """A tensor at a fixed device address, with a host array to fill it from or read it into."""

    host: NDArray[Any]
    address: int

    def upload(self) -> None:
        """Host array to device."""

    def download(self) -> NDArray[Any]:
        """Device to host array, which is returned."""
        ...


class HostBuffer:
    """On the CPU the host array is the tensor itself: nothing is ever copied."""

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
    """On the GPU: ONNX Runtime's own device allocation."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.host = np.zeros(shape, dtype)
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy(self.host, "cuda", 0)
        self.address = self._value.data_ptr()

    def upload(self) -> None:
        """Copies from the host array as it stands: nothing is allocated."""
        self._value.update_inplace(self.host)

    def download(self) -> NDArray[Any]:
        """ONNX Runtime makes an array for each call and copies it: for what is small."""
        self.host[:] = self._value.numpy()
        return self.host
