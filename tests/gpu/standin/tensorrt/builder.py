"""Builder, network, ONNX parser."""

import hashlib
from pathlib import Path
from typing import Any

import onnx

from . import device, plan, weak_types
from .logger import IHostMemory, ILogger, checked
from .names import (
    MAJOR,
    VERSION,
    BuilderFlag,
    DataType,
    Dims,
    ErrorCode,
    Fixed,
    LayerType,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    of_this_version,
)

_REFUSED = {"NonMaxSuppression", "NonZero", "RoiAlign", "Unique"} | ({"Gelu"} if MAJOR < 10 else set())
"""Operators that TensorRT's parser does not support, or that have no static output shape."""
_ELEMENT_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT32: "INT32",
    # TensorRT before 10 has no INT64 and reads it as INT32.
    onnx.TensorProto.INT64: "INT64" if hasattr(DataType, "INT64") else "INT32",
    onnx.TensorProto.BOOL: "BOOL",
}
_LAYER_TYPES = {
    "Cast": LayerType.CAST,
    "Constant": LayerType.CONSTANT,
    "Identity": LayerType.IDENTITY,
    "Conv": LayerType.CONVOLUTION,
    "Softmax": LayerType.SOFTMAX,
    "MatMul": LayerType.MATRIX_MULTIPLY,
}
_CACHE_MAGIC = b"stand-in timing cache "


@of_this_version
class ITensor(Fixed):
    def __init__(self, info: onnx.ValueInfoProto, weak: bool = False) -> None:
        """weak: TensorRT before 10 reports FP32 for all floats but network inputs, outputs and results of casts."""
        self._name = info.name
        tensor = info.type.tensor_type
        kind = _ELEMENT_TYPES.get(tensor.elem_type, "FLOAT")
        self._dtype = getattr(DataType, "FLOAT" if weak and kind == "HALF" else kind)
        self._shape = Dims(size.dim_value or -1 for size in tensor.shape.dim)

    @property
    def name(self) -> str:
        return self._name

    @property
    def dtype(self) -> Any:
        return self._dtype

    @property
    def shape(self) -> Dims:
        return self._shape


class ILayer(Fixed):
    def __init__(self, node: onnx.NodeProto, tensors: dict[str, ITensor]) -> None:
        self._node, self._tensors = node, tensors
        self._precision: Any = None
        self._output_types: dict[int, Any] = {}

    @property
    def name(self) -> str:
        return self._node.name

    @property
    def type(self) -> Any:
        return _LAYER_TYPES.get(self._node.op_type, LayerType.ELEMENTWISE)

    @property
    def num_inputs(self) -> int:
        return len(self._node.input)

    @property
    def num_outputs(self) -> int:
        return len(self._node.output)

    def get_input(self, index: int) -> ITensor | None:
        return self._tensors.get(self._node.input[index])

    def get_output(self, index: int) -> ITensor | None:
        return self._tensors.get(self._node.output[index])

    @property
    def precision(self) -> Any:
        return self._precision

    @precision.setter
    def precision(self, value: Any) -> None:
        self._precision = value

    def set_output_type(self, index: int, dtype: Any) -> None:
        if self.get_output(index) is None:
            raise TypeError(f"{self.name} has no output {index}")
        self._output_types[index] = dtype


@of_this_version
class INetworkDefinition(Fixed):
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._model = onnx.ModelProto()
        self._types: dict[str, int] = {}
        self._layers: list[ILayer] = []
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    @property
    def flags(self) -> int:
        return self._flags

    def _load(self, model: onnx.ModelProto) -> None:
        self._model = model
        inferred = onnx.shape_inference.infer_shapes(model).graph
        infos = {info.name: info for info in (*inferred.value_info, *inferred.input, *inferred.output)}
        self._types = {name: info.type.tensor_type.elem_type for name, info in infos.items()}
        self._types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
        plain = {info.name for info in (*inferred.input, *inferred.output)}
        plain |= {node.output[0] for node in inferred.node if node.op_type == "Cast"}
        known = {name: ITensor(info, MAJOR < 10 and name not in plain) for name, info in infos.items()}
        self._inputs = [known[info.name] for info in inferred.input]
        self._outputs = [known[info.name] for info in inferred.output]
        self._layers = [ILayer(node, known) for node in inferred.node]

    def _has(self, flag: str) -> bool:
        """Whether it was created with a flag; TensorRT 11 is always explicit and strongly typed."""
        known = getattr(NetworkDefinitionCreationFlag, flag, None)
        return MAJOR >= 11 if known is None or MAJOR >= 11 else bool(self._flags >> int(known) & 1)


@of_this_version
class ParserError(Fixed):
    def __init__(self, index: int, node: onnx.NodeProto | None, desc: str) -> None:
        self._index, self._node, self._desc = index, node, desc

    def code(self) -> Any:
        return ErrorCode.UNSUPPORTED_NODE

    def desc(self) -> str:
        return self._desc

    def file(self) -> str:
        return "onnxOpCheckers.cpp"

    def func(self) -> str:
        return "parseNode"

    def line(self) -> int:
        return 1

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name if self._node is not None else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node is not None else ""


@of_this_version
class OnnxParser(Fixed):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, checked(logger)
        self._errors: list[ParserError] = []

    def parse_from_file(self, model: str) -> bool:
        try:
            return self.parse(Path(model).read_bytes())
        except OSError:
            self._logger.log(ILogger.ERROR, f"ModelImporter.cpp:935: Failed to open file: {model}")
            return False

    def parse(self, model: bytes, path: str | None = None) -> bool:  # noqa: ARG002
        if not self._network._has("EXPLICIT_BATCH") and not self._network._has("STRONGLY_TYPED"):
            return self._fail(-1, None, "This version of the ONNX parser only supports networks with explicit batch.")
        try:
            loaded = onnx.load_model_from_string(bytes(model))
        except Exception:  # protobuf raises its own types
            self._logger.log(ILogger.ERROR, "ModelImporter.cpp:828: Failed to parse ONNX model from bytes")
            return False
        for index, node in enumerate(loaded.graph.node):
            if node.op_type in _REFUSED:
                return self._fail(index, node, f"No importer registered for op: {node.op_type}")
            if wrong := _computed_weights(node, loaded.graph):
                return self._fail(index, node, wrong)
        self._network._load(loaded)
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    def _fail(self, index: int, node: onnx.NodeProto | None, desc: str) -> bool:
        self._errors.append(ParserError(index, node, desc))
        if node is not None:
            where = f'[{node.op_type} -> "{node.output[0]}"]'
            self._logger.log(ILogger.ERROR, f"ModelImporter.cpp:771: While parsing node number {index} {where}:")
            self._logger.log(ILogger.ERROR, "ModelImporter.cpp:772: --- Begin node ---")
            self._logger.log(ILogger.ERROR, f'name: "{node.name}"\nop_type: "{node.op_type}"\n')
            self._logger.log(ILogger.ERROR, "ModelImporter.cpp:774: --- End node ---")
        self._logger.log(ILogger.ERROR, f"ModelImporter.cpp:777: ERROR: {desc}")
        return False


def _computed_weights(node: onnx.NodeProto, graph: onnx.GraphProto) -> str | None:
    """Error of the parser before version 10 for a convolution whose weights are not in the file.

    The real parser accepts some computed kernels, with slower code, but no biases and none of grouped convolutions.
    """
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {made.output[0] for made in graph.node if made.op_type == "Constant"}
    if MAJOR >= 10 or node.op_type != "Conv" or weights.issuperset(node.input[1:]):
        return None
    kind = "kernel" if node.input[1] not in weights else "bias"
    return (
        f'Assertion failed: is_weights() && "The {kind} tensor is required to be an initializer for the Conv operator"'
    )


@of_this_version
class ITimingCache(Fixed):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._content)

    def combine(self, input_cache: "ITimingCache", ignore_mismatch: bool) -> bool:  # noqa: ARG002
        self._content += input_cache._content[len(_empty_cache()) :]
        return True

    def reset(self) -> bool:
        self._content = _empty_cache()
        return True


def _empty_cache() -> bytes:
    return _CACHE_MAGIC + VERSION.encode() + b"\n"


class IProgressMonitor:
    """Called with the phases of a build."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


@of_this_version
class IBuilderConfig(Fixed):
    def __init__(self) -> None:
        self._flags = 1 << int(BuilderFlag.TF32)
        self._pools: dict[Any, int] = {}
        self._cache: ITimingCache | None = None
        self._verbosity: Any = ProfilingVerbosity.LAYER_NAMES_ONLY
        self._monitor: IProgressMonitor | None = None

    def set_flag(self, flag: Any) -> None:
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    @property
    def flags(self) -> int:
        return self._flags

    @flags.setter
    def flags(self, value: int) -> None:
        self._flags = value

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        if not isinstance(pool, MemoryPoolType) or pool_size < 0:
            raise TypeError("incompatible function arguments")
        self._pools[pool] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool, 0)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        content = bytes(serialized_timing_cache)
        if content and not content.startswith(_empty_cache()):
            return None
        return ITimingCache(content or _empty_cache())

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:  # noqa: ARG002
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    @property
    def profiling_verbosity(self) -> Any:
        return self._verbosity

    @profiling_verbosity.setter
    def profiling_verbosity(self, value: Any) -> None:
        self._verbosity = value

    @property
    def progress_monitor(self) -> IProgressMonitor | None:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, value: IProgressMonitor | None) -> None:
        self._monitor = value

    def _set(self) -> tuple[str, ...]:
        return tuple(flag.name for flag in BuilderFlag if self.get_flag(flag))


@of_this_version
class Builder(Fixed):
    def __init__(self, logger: ILogger) -> None:
        self._logger = checked(logger)
        if not device.compute_capability():
            self._logger.log(ILogger.ERROR, "CUDA initialization failure with error: 35.")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        if wrong := _mistake(network, config):
            self._logger.log(ILogger.ERROR, f"IBuilder::buildSerializedNetwork: {wrong}")
            return None
        if not _show_progress(config._monitor, network.num_layers):
            self._logger.log(ILogger.ERROR, "IBuilder::buildSerializedNetwork: the build was cancelled")
            return None
        model = network._model
        if not network._has("STRONGLY_TYPED") and "FP16" in config._set():
            obeyed = "OBEY_PRECISION_CONSTRAINTS" in config._set()
            model = weak_types.rounded(model, network._types, network._layers, obeyed)
        graph = model.SerializeToString()
        if config._cache is not None:
            config._cache._content += hashlib.sha256(graph).digest()
        flags = tuple(flag.name for flag in NetworkDefinitionCreationFlag if network._flags >> int(flag) & 1)
        layers = tuple(layer.name for layer in network._layers)
        detailed = config._verbosity is ProfilingVerbosity.DETAILED
        found = plan.Plan(VERSION, device.compute_capability(), config._set(), flags, layers, detailed, graph)
        return IHostMemory(plan.write(found))


def _mistake(network: INetworkDefinition, config: IBuilderConfig) -> str | None:
    """Errors of networks that TensorRT refuses to build, in its words."""
    if not network.num_outputs:
        return "Error Code 4: Internal Error (Network must have at least one output)"
    for tensor in network._inputs:
        if tensor.dtype is DataType.UINT8 and any(
            tensor.name in layer._node.input and layer._node.op_type != "Cast" for layer in network._layers
        ):
            return f"Error Code 4: API Usage Error ({tensor.name}: UINT8 is only allowed as input of a cast)"
    precisions = set(config._set()) & {"FP16", "INT8", "BF16", "FP8"}
    if network._has("STRONGLY_TYPED"):
        if precisions:
            return f"Error Code 3: API Usage Error ({', '.join(sorted(precisions))}: not in a strongly typed network)"
        return None
    half = any(tensor.dtype is DataType.HALF for tensor in (*network._inputs, *network._outputs))
    if half and "FP16" not in precisions:
        return "Error Code 4: Internal Error (fp16 precision has been set, but fp16 is not configured in the builder)"
    quantised = any(layer._node.op_type == "QuantizeLinear" for layer in network._layers)
    if quantised and "INT8" not in precisions:
        return "Error Code 4: Internal Error (int8 precision has been set, but int8 is not configured in the builder)"
    return None


def _show_progress(monitor: IProgressMonitor | None, layers: int) -> bool:
    """Report an outer phase and one inside it. Returns False if the monitor asks to stop."""
    if monitor is None:
        return True
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Tactic Selection", "Building Engine", layers)
    go_on = all(monitor.step_complete("Tactic Selection", step) for step in range(layers))
    monitor.phase_finish("Tactic Selection")
    go_on = go_on and monitor.step_complete("Building Engine", 0)
    monitor.phase_finish("Building Engine")
    return go_on
