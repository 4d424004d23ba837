"""ONNX Runtime on the CPU meets the contract of all backends; tests/gpu checks TensorRT."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from backend_contract import BackendContract

from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from stm_skeletons.bundle import Bundle


class TestOnnxRuntime(BackendContract):
    @pytest.fixture
    def backend(self, edge_bundle: Path) -> Iterator[Backend]:
        opened = open_backend(Bundle.open(edge_bundle), BackendOptions("onnxruntime", threads=1))
        yield opened
        opened.close()
