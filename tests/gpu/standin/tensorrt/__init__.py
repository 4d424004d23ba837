"""A stand-in for NVIDIA's ``tensorrt`` on machines without a GPU, with the names that the runtime and the builder use.

Its "engine" is the ONNX graph itself. Running it queues a host function on the given stream of the simulated driver.
The function computes the graph with ONNX Runtime on the addresses that were set: in stream order, with real numbers,
also when a captured graph is replayed. It has exactly the names of one version (STANDIN_TENSORRT_VERSION: 8.6.1, 10.3.0
or 11.1; checked against ../../tensorrt-python-api.json) and the signatures of tensorrt-stubs.

Written from the public documentation of the Python API. It cannot show anything about NVIDIA's kernels.
"""

from .builder import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    ITensor,
    ITimingCache,
    OnnxParser,
    ParserError,
)
from .logger import IHostMemory, ILogger, Logger
from .names import (
    MAJOR,
    VERSION,
    BuilderFlag,
    DataType,
    Dims,
    LayerInformationFormat,
    LayerType,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    TensorIOMode,
)
from .runtime import EngineInspector, ICudaEngine, IExecutionContext, Runtime, nptype

__version__ = VERSION

float32, float16, uint8, int8, int32 = (DataType[name] for name in ("FLOAT", "HALF", "UINT8", "INT8", "INT32"))

__all__ = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "Dims",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "Logger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
    "nptype",
]

if MAJOR >= 10:
    from .builder import IProgressMonitor
    from .names import ExecutionContextAllocationStrategy

    __all__ += ["ExecutionContextAllocationStrategy", "IProgressMonitor"]
