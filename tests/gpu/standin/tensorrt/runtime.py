"""Runtime, engine, execution context."""

import functools
import weakref
from typing import Any

import numpy as np
import onnxruntime

from . import device, plan
from .logger import Handle, ILogger, checked
from .names import (
    DataType,
    Dims,
    Fixed,
    LayerInformationFormat,
    TensorIOMode,
    of_this_version,
)

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_DATA_TYPES = {"float32": "FLOAT", "float16": "HALF", "uint8": "UINT8", "int32": "INT32", "int64": "INT64"}
_ALIGNMENT, _TEXTURE_ALIGNMENT = 256, 512
"""Alignment of tensors, and of activation memory."""


def nptype(trt_type: Any) -> type:
    """The NumPy type of a DataType."""
    return {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}[
        trt_type.name
    ]


@functools.cache
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    """One session per graph, cached, because creating it is the slowest step here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@of_this_version
class Runtime(Fixed):
    def __init__(self, logger: ILogger) -> None:
        self._logger = checked(logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        try:
            return ICudaEngine(plan.read(bytes(serialized_engine), device.compute_capability()), self._logger)
        except (ValueError, RuntimeError) as error:
            self._logger.log(ILogger.ERROR, f"IRuntime::deserializeCudaEngine: {error}")
            return None

    @property
    def logger(self) -> ILogger | None:
        return self._logger.process


@of_this_version
class ICudaEngine(Fixed):
    def __init__(self, source: plan.Plan, logger: Handle) -> None:
        self._plan, self._logger = source, logger
        self._session = _session(source.graph)
        self._tensors = [
            device.Tensor(node.name, np.dtype(_TYPES[node.type]), tuple(node.shape), is_input)
            for is_input, nodes in ((True, self._session.get_inputs()), (False, self._session.get_outputs()))
            for node in nodes
        ]
        # Where the real library keeps weights, so that an engine that is not released leaks device memory.
        weights = device.DeviceMemory(len(source.graph))
        self._release = weakref.finalize(self, weights.release)
        self._release.atexit = False

    def create_execution_context(self, strategy: Any = None) -> "IExecutionContext | None":
        if strategy is not None and strategy.name == "USER_MANAGED":
            return IExecutionContext(self, None)
        try:
            return IExecutionContext(self, device.DeviceMemory(self._size()))
        except RuntimeError as error:
            self._logger.log(ILogger.ERROR, f"ICudaEngine::createExecutionContext: Error Code 2: OutOfMemory ({error})")
            return None

    def create_execution_context_without_device_memory(self) -> "IExecutionContext":
        return IExecutionContext(self, None)

    def create_engine_inspector(self) -> "EngineInspector":
        return EngineInspector(self)

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index].name

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if self._tensor(name).is_input else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self._tensor(name).shape)

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(DataType, _DATA_TYPES[self._tensor(name).dtype.name])

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def num_layers(self) -> int:
        return len(self._plan.layers)

    @property
    def name(self) -> str:
        return "Unnamed Network 0"

    @property
    def device_memory_size(self) -> int:
        return self._size()

    @property
    def device_memory_size_v2(self) -> int:
        return self._size()

    def _size(self) -> int:
        """A different size for each graph, so that a shared block must be as large as the largest."""
        return 4096 + 256 * len(self._plan.layers)

    def _tensor(self, name: str) -> device.Tensor:
        return next(tensor for tensor in self._tensors if tensor.name == name)


@of_this_version
class IExecutionContext(Fixed):
    def __init__(self, engine: ICudaEngine, memory: device.DeviceMemory | None) -> None:
        self._engine = engine
        self._addresses = dict.fromkeys((tensor.name for tensor in engine._tensors), 0)
        self._activations = (0, 0) if memory is None else (memory.address, engine._size())
        self._jobs: set[int] = set()
        self._release = weakref.finalize(self, _release_context, self._jobs, memory)
        self._release.atexit = False

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._addresses:
            return self._refuse("setTensorAddress", f"Given invalid tensor name: {name}")
        if memory % _ALIGNMENT:
            return self._refuse("setTensorAddress", f"{name}: address {memory:#x} is not aligned to {_ALIGNMENT} bytes")
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses[name]

    def set_device_memory(self, memory: int, size: int) -> None:
        if size < self._engine._size():
            self._refuse("setDeviceMemoryV2", f"{size} bytes given, {self._engine._size()} needed")
        else:
            self._give(memory)

    def _give(self, memory: int) -> None:
        if memory % _TEXTURE_ALIGNMENT:
            self._refuse("setDeviceMemory", f"address {memory:#x} is not aligned to {_TEXTURE_ALIGNMENT} bytes")
        else:
            self._activations = (memory, self._engine._size())

    device_memory = property(None, _give)

    def execute_async_v3(self, stream_handle: int) -> bool:
        for name, address in self._addresses.items():
            if not address:
                return self._refuse("enqueueV3", f"Address is not set for tensor {name}")
        if not self._activations[0]:
            return self._refuse("enqueueV3", "no device memory has been set")
        job = device.Job(
            self._engine._session,
            self._engine._tensors,
            dict(self._addresses),
            self._activations,
            captured=False,
            owner=self._jobs,
        )
        try:
            device.enqueue(job, stream_handle)
        except RuntimeError as error:
            self._log(f"IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime ({error})")
            return False
        return True

    @property
    def engine(self) -> ICudaEngine:
        return self._engine

    def _refuse(self, where: str, why: str) -> bool:
        self._log(f"IExecutionContext::{where}: Error Code 3: API Usage Error (Parameter check failed, {why}.)")
        return False

    def _log(self, text: str) -> None:
        self._engine._logger.log(ILogger.ERROR, text)


def _release_context(jobs: set[int], memory: device.DeviceMemory | None) -> None:
    device.forget(jobs)
    if memory is not None:
        memory.release()


@of_this_version
class EngineInspector(Fixed):
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, format: Any) -> str:
        source = self._engine._plan
        layers = [f"Name: {name}, LayerType: stand-in" if source.detailed else name for name in source.layers]
        if format is LayerInformationFormat.JSON:
            import json

            return json.dumps({"Layers": layers, "Bindings": [tensor.name for tensor in self._engine._tensors]})
        bindings = "\n".join(tensor.name for tensor in self._engine._tensors)
        return "Layers:\n" + "\n".join(layers) + f"\n\nBindings:\n{bindings}\n"
