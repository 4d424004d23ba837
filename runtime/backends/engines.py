"""Engines into memory: which ones fit this machine, deserialised, with execution contexts. Not yet run on a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.backends.cuda import Gpu
from runtime.tensorrt_module import import_tensorrt, make_logger
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName
from stm_skeletons.engines import FILE_NAME, NATIVE, Engines, engines_folder, open_engines, rebuild_command
from stm_skeletons.errors import BackendError, EngineError

if TYPE_CHECKING:
    import tensorrt as trt


def find_engines(bundle: Bundle, compute_capability: str, root: Path | None = None) -> Engines:
    """The checked engines of a bundle for a GPU: those built on this machine, else those built ahead of time.

    Args:
        bundle: an opened bundle.
        compute_capability: of the GPU, as "sm87".
        root: folder of the engines; inside the bundle without.

    Raises:
        EngineError: none there, or they are damaged or of another bundle.
    """
    for target in (NATIVE, compute_capability):
        folder = engines_folder(bundle, target, root)
        if (folder / FILE_NAME).is_file():
            return open_engines(bundle, folder)
    return open_engines(bundle, engines_folder(bundle, NATIVE, root))  # raises, with the command that builds them


def check_machine(
    bundle: Bundle, engines: Engines, tensorrt_version: str, gpu_name: str, compute_capability: str
) -> None:
    """Refuse engines of another TensorRT or GPU: these read other bytes or, worse, run wrongly.

    Raises EngineError with the command that builds them again.
    """
    info = engines.info
    advice = f"build them again here: {rebuild_command(bundle, info.target)}"
    if info.tensorrt_version != tensorrt_version:
        raise EngineError(
            f"{engines.folder}: built by {info.package} {info.tensorrt_version}, but {tensorrt_version} is installed; "
            f"{advice}"
        )
    if info.compute_capability != compute_capability:
        raise EngineError(
            f"{engines.folder}: built for {info.compute_capability}, but this GPU ({gpu_name}) is "
            f"{compute_capability}; build for it: {rebuild_command(bundle, NATIVE)}"
        )
    if info.device is not None and info.device != gpu_name:
        raise EngineError(f"{engines.folder}: built on {info.device}, but this GPU is {gpu_name}; {advice}")


class LoadedEngines:
    """The three engines with one execution context each; all work in one piece of activation memory, taking turns."""

    def __init__(self, bundle: Bundle, engines: Engines) -> None:
        """Raises EngineError when TensorRT refuses an engine or its tensors are not the bundle's; BackendError."""
        module = import_tensorrt(engines.info.package)
        self._logger = make_logger(engines.info.package)
        # Nothing below may outlive what stands above it.
        self._runtime = module.Runtime(self._logger)
        self._engines: dict[GraphName, trt.ICudaEngine] = {
            name: self._deserialise(bundle, engines, name) for name in GRAPH_NAMES
        }
        self._contexts: dict[GraphName, trt.IExecutionContext] = {
            name: self._context(module, engine) for name, engine in self._engines.items()
        }
        self._sizes = {name: _activation_bytes(engine) for name, engine in self._engines.items()}
        self.activation_bytes = max(self._sizes.values())

    def bind(self, addresses: dict[str, int], activations: int) -> None:
        """Set the device address of every tensor of these names, and of the activation memory."""
        for name, context in self._contexts.items():
            set_memory = getattr(context, "set_device_memory", None)
            if set_memory is not None:
                set_memory(activations, self._sizes[name])
            else:  # TensorRT 8.6
                setattr(context, "device_memory", activations)  # noqa: B010
            for tensor in _tensor_names(self._engines[name]):
                if tensor in addresses:
                    self._set_address(name, tensor, addresses[tensor])

    def run(self, name: GraphName, stream: int, addresses: dict[str, int] | None = None) -> None:
        """Queue an engine on a stream (its handle), with other addresses for some tensors from now on."""
        for tensor, address in (addresses or {}).items():
            self._set_address(name, tensor, address)
        if not self._contexts[name].execute_async_v3(stream):
            raise BackendError(f"TensorRT failed in {name}: {self._logger.last_error()}")

    def close(self) -> None:
        """Release everything, what depends on something else first."""
        self._contexts.clear()
        self._engines.clear()

    def _set_address(self, name: GraphName, tensor: str, address: int) -> None:
        if not self._contexts[name].set_tensor_address(tensor, address):
            raise BackendError(f"TensorRT refuses the address of {tensor} in {name}: {self._logger.last_error()}")

    def _deserialise(self, bundle: Bundle, engines: Engines, name: GraphName) -> "trt.ICudaEngine":
        file = engines.engine_file(name)
        engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if engine is None and "memory" in self._logger.last_error().lower():
            raise BackendError(
                f"not enough GPU memory for the weights of {file.name} ({file.stat().st_size / 1e6:.0f} MB): "
                f"{self._logger.last_error()}; stop other programs on this GPU, or export a smaller network"
            )
        if engine is None:
            command = rebuild_command(bundle, engines.info.target)
            raise EngineError(f"TensorRT refuses {file}: {self._logger.last_error()}; build it again: {command}")
        graph = bundle.info.graphs[name]
        listed = {spec.name: spec.shape for spec in (*graph.inputs, *graph.outputs)}
        found = {tensor: _shape(engine, tensor) for tensor in _tensor_names(engine)}
        if found != listed:
            raise EngineError(f"{file} has other tensors than the bundle: {found}, not {listed}; build it again")
        return engine

    def _context(self, module: Any, engine: "trt.ICudaEngine") -> "trt.IExecutionContext":
        without_memory = getattr(engine, "create_execution_context_without_device_memory", None)
        if without_memory is not None:
            context = without_memory()
        else:  # TensorRT 11
            strategies = getattr(module, "ExecutionContextAllocationStrategy")  # noqa: B009 - not in TensorRT 8.6
            context = engine.create_execution_context(getattr(strategies, "USER_MANAGED"))  # noqa: B009
        if context is None:
            raise BackendError(f"TensorRT cannot make an execution context: {self._logger.last_error()}")
        return context


def load_engines(bundle: Bundle, gpu: Gpu, root: Path | None = None) -> LoadedEngines:
    """Find a bundle's engines, check them against this machine, deserialise them. The GPU's context must be current.

    Raises EngineError, BackendError.
    """
    return LoadedEngines(bundle, _fitting_engines(bundle, gpu, root))


def check_engines(bundle: Bundle, root: Path | None = None) -> None:
    """Whether a bundle's engines are there and fit this machine. Deserialises nothing.

    Raises EngineError when they do not, BackendError when there is no GPU or TensorRT to fit.
    """
    gpu = Gpu()
    try:
        _fitting_engines(bundle, gpu, root)
    finally:
        gpu.close()


def _fitting_engines(bundle: Bundle, gpu: Gpu, root: Path | None) -> Engines:
    engines = find_engines(bundle, gpu.compute_capability, root)
    version = import_tensorrt(engines.info.package).__version__
    check_machine(bundle, engines, version, gpu.name, gpu.compute_capability)
    return engines


def _tensor_names(engine: "trt.ICudaEngine") -> list[str]:
    return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]


def _shape(engine: "trt.ICudaEngine", tensor: str) -> tuple[int, ...]:
    shape: Any = engine.get_tensor_shape(tensor)
    return tuple(shape)


def _activation_bytes(engine: "trt.ICudaEngine") -> int:
    newer = getattr(engine, "device_memory_size_v2", None)
    return newer if newer is not None else getattr(engine, "device_memory_size", 0)
