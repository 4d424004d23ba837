"""Engines into memory: which ones fit this machine, deserialised, with execution contexts. Not yet run on a GPU."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.backends.cuda import Gpu
from runtime.tensorrt_module import activation_bytes, describe_tensor, import_tensorrt, is_installed, make_logger
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName
from stm_skeletons.engines import (
    AHEAD,
    FILE_NAME,
    NATIVE,
    Engines,
    Package,
    engines_folder,
    open_engines,
    rebuild_command,
)
from stm_skeletons.errors import BackendError, EngineError

if TYPE_CHECKING:
    import tensorrt as trt


def target_for(compute_capability: str, installed: Callable[[Package], bool] = is_installed) -> str:
    """Which engines suit this machine's GPU ("sm87"): native ones, ahead-of-time ones where only that package is there.

    ``installed`` says whether a package is.
    """
    only_ahead = not installed("tensorrt") and compute_capability in AHEAD and installed("tensorrt_rtx")
    return compute_capability if only_ahead else NATIVE


def find_engines(bundle: Bundle, compute_capability: str, root: Path | None = None) -> Engines:
    """The checked engines of a bundle for a GPU: native ones or those built ahead of time, see ``target_for``.

    Args:
        bundle: an opened bundle.
        compute_capability: of the GPU, as "sm87".
        root: folder of the engines; inside the bundle without.

    Raises:
        EngineError: none there, or they are damaged or of another bundle.
    """
    suitable = target_for(compute_capability)
    for target in (suitable, compute_capability if suitable == NATIVE else NATIVE):
        folder = engines_folder(bundle, target, root)
        if (folder / FILE_NAME).is_file():
            return open_engines(bundle, folder)
    return open_engines(bundle, engines_folder(bundle, suitable, root))  # raises, with the command that builds them


def check_machine(
    bundle: Bundle, engines: Engines, tensorrt_version: str, gpu_name: str, compute_capability: str
) -> None:
    """Refuse engines of another TensorRT or GPU: these read other bytes or, worse, run wrongly.

    Raises EngineError with the command that builds them again.
    """
    info = engines.info
    advice = f"build them again here: {_command(bundle, engines)}"
    if info.tensorrt_version != tensorrt_version:
        raise EngineError(
            f"{engines.folder}: built by {info.package} {info.tensorrt_version}, but {tensorrt_version} is installed; "
            f"{advice}"
        )
    if info.compute_capability != compute_capability:
        target = target_for(compute_capability, lambda package: package == info.package)
        raise EngineError(
            f"{engines.folder}: built for {info.compute_capability}, but this GPU ({gpu_name}) is "
            f"{compute_capability}; build for it: {rebuild_command(bundle, target, engines.folder.parent)}"
        )
    if info.device is not None and info.device != gpu_name:
        raise EngineError(f"{engines.folder}: built on {info.device}, but this GPU is {gpu_name}; {advice}")


class LoadedEngines:
    """The three engines with one execution context each; all work in one piece of activation memory, taking turns."""

    def __init__(self, bundle: Bundle, engines: Engines) -> None:
        """
        Raises:
            EngineError: TensorRT refuses an engine, or its tensors are not the bundle's.
            BackendError: TensorRT cannot start, or there is too little memory.
        """
        package = engines.info.package
        module = import_tensorrt(package)
        self._logger = make_logger(package)
        # Nothing below may outlive what stands above it.
        self._runtime: trt.Runtime | None = None
        self._engines: dict[GraphName, trt.ICudaEngine] = {}
        self._contexts: dict[GraphName, trt.IExecutionContext] = {}
        with ExitStack() as undo:
            undo.callback(self.close)  # now, and not when the error is forgotten: the GPU is closed by then
            try:
                self._runtime = module.Runtime(self._logger)
            except (TypeError, RuntimeError) as error:  # what pybind11 raises when the library gives no object
                raise BackendError(f"{package} cannot start here: {self._logger.last_error()} ({error})") from error
            for name in GRAPH_NAMES:
                self._engines[name] = self._deserialise(self._runtime, bundle, engines, name)
                self._check_tensors(bundle, engines, name)
            for name in GRAPH_NAMES:
                self._contexts[name] = self._context(module, name)
            undo.pop_all()
        self._sizes = {name: activation_bytes(engine) or 0 for name, engine in self._engines.items()}
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
        self._runtime = None

    def _set_address(self, name: GraphName, tensor: str, address: int) -> None:
        if not self._contexts[name].set_tensor_address(tensor, address):
            raise BackendError(f"TensorRT refuses the address of {tensor} in {name}: {self._logger.last_error()}")

    def _deserialise(
        self, runtime: "trt.Runtime", bundle: Bundle, engines: Engines, name: GraphName
    ) -> "trt.ICudaEngine":
        file = engines.engine_file(name)
        engine = runtime.deserialize_cuda_engine(file.read_bytes())
        if engine is not None:
            return engine
        error = self._logger.last_error()
        if _is_out_of_memory(error):
            raise BackendError(
                f"not enough GPU memory for the weights of {file.name} ({engines.info.engines[name].bytes / 1e6:.0f} "
                f"MB): {error}; stop other programs on this GPU, or export a smaller network"
            )
        raise EngineError(f"TensorRT refuses {file}: {error}; build it again: {_command(bundle, engines)}")

    def _check_tensors(self, bundle: Bundle, engines: Engines, name: GraphName) -> None:
        """The memory that is bound to them has the sizes that the bundle lists."""
        graph, found = bundle.info.graphs[name], _describe_tensors(self._engines[name])
        listed = {spec.name: str(spec) for spec in (*graph.inputs, *graph.outputs)}
        for tensor in sorted(found.keys() | listed.keys()):
            if found.get(tensor) != listed.get(tensor):
                raise EngineError(
                    f"{engines.engine_file(name)} has {found.get(tensor, f'{tensor} not at all')}, bundle.json says "
                    f"{listed.get(tensor, 'nothing of it')}; build it again: {_command(bundle, engines)}"
                )

    def _context(self, module: Any, name: GraphName) -> "trt.IExecutionContext":
        context = _make_context(module, self._engines[name])
        if context is None:
            error = self._logger.last_error()
            advice = "; stop other programs on this GPU" if _is_out_of_memory(error) else ""
            raise BackendError(f"TensorRT cannot make an execution context of {name}: {error}{advice}")
        return context


def load_engines(bundle: Bundle, gpu: Gpu, root: Path | None = None) -> LoadedEngines:
    """Find a bundle's engines, check them against this machine, deserialise them. The GPU's context must be current.

    Raises EngineError, BackendError.
    """
    return LoadedEngines(bundle, _fitting_engines(bundle, gpu, root))


def unfit_engines(bundle: Bundle, root: Path | None = None) -> tuple[EngineError, str] | None:
    """What is wrong with a bundle's engines on this machine, and the target to build; None if they are there and fit.

    Deserialises nothing. Raises BackendError when there is no GPU or TensorRT to fit.
    """
    gpu = Gpu()
    try:
        _fitting_engines(bundle, gpu, root)
    except EngineError as error:
        return error, target_for(gpu.compute_capability)
    finally:
        gpu.close()
    return None


def _fitting_engines(bundle: Bundle, gpu: Gpu, root: Path | None) -> Engines:
    engines = find_engines(bundle, gpu.compute_capability, root)
    version = import_tensorrt(engines.info.package).__version__
    check_machine(bundle, engines, version, gpu.name, gpu.compute_capability)
    return engines


def _command(bundle: Bundle, engines: Engines) -> str:
    return rebuild_command(bundle, engines.info.target, engines.folder.parent)


def _is_out_of_memory(error: str) -> bool:
    return "outofmemory" in error.lower().replace(" ", "")


def _make_context(module: Any, engine: "trt.ICudaEngine") -> "trt.IExecutionContext | None":
    """An execution context whose activation memory is ours to give."""
    without_memory = getattr(engine, "create_execution_context_without_device_memory", None)
    if without_memory is not None:
        return without_memory()
    # TensorRT 11
    strategies = getattr(module, "ExecutionContextAllocationStrategy")  # noqa: B009 - not in TensorRT 8.6
    return engine.create_execution_context(getattr(strategies, "USER_MANAGED"))  # noqa: B009


def _describe_tensors(engine: "trt.ICudaEngine") -> dict[str, str]:
    return {
        name: describe_tensor(name, engine.get_tensor_dtype(name), engine.get_tensor_shape(name))
        for name in _tensor_names(engine)
    }


def _tensor_names(engine: "trt.ICudaEngine") -> list[str]:
    return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
