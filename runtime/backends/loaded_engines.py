"""Engines loaded into GPU memory, once for all sessions of a process. Not yet run on a GPU."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.backends.cuda import Gpu
from runtime.backends.fitting_engines import fitting_engines
from runtime.tensorrt_module import activation_bytes, describe_tensor, import_tensorrt, shared_logger
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName
from stm_skeletons.engines import Engines, rebuild_command
from stm_skeletons.errors import BackendError, EngineError

if TYPE_CHECKING:
    import tensorrt as trt

_Key = tuple[str, ...]
_shared: dict[_Key, "LoadedEngines"] = {}
_sharing = threading.RLock()
"""Held while engines are loaded or released, so that of two sessions starting together one waits."""


class LoadedEngines:
    """A bundle's three deserialised engines with their weights. Sessions create their own contexts."""

    def __init__(self, bundle: Bundle, engines: Engines) -> None:
        """
        Raises:
            EngineError: TensorRT rejects an engine.
            BackendError: TensorRT cannot start, or there is not enough memory.
        """
        package = engines.info.package
        self.module: Any = import_tensorrt(package)
        self.logger = shared_logger(package)
        self.users = 0
        # Attributes below must not outlive those above.
        self._runtime: trt.Runtime | None = None
        self.engines: dict[GraphName, trt.ICudaEngine] = {}
        with ExitStack() as undo:
            undo.callback(self.close)  # close now, not when the exception is released: the GPU is closed by then
            self.logger.forget()
            try:
                self._runtime = self.module.Runtime(self.logger)
            except (TypeError, RuntimeError) as error:  # pybind11 raises these if the library returns no object
                raise BackendError(f"{package} cannot start here: {self.logger.last_error()} ({error})") from error
            for name in GRAPH_NAMES:
                self.engines[name] = self._deserialise(bundle, engines, name)
            undo.pop_all()
        self.activation_bytes = {name: activation_bytes(engine) or 0 for name, engine in self.engines.items()}

    def tensors(self, name: GraphName) -> list[str]:
        """Return the names of an engine's inputs and outputs."""
        engine = self.engines[name]
        return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]

    def close(self) -> None:
        """Release everything, dependents first."""
        self.engines.clear()
        self._runtime = None

    def check_tensors(self, bundle: Bundle, engines: Engines) -> None:
        """Check that the engines' tensors match the bundle. Raises EngineError."""
        for name, engine in self.engines.items():
            graph = bundle.info.graphs[name]
            found = {
                tensor: describe_tensor(tensor, engine.get_tensor_dtype(tensor), engine.get_tensor_shape(tensor))
                for tensor in self.tensors(name)
            }
            listed = {spec.name: str(spec) for spec in (*graph.inputs, *graph.outputs)}
            for tensor in sorted(found.keys() | listed.keys()):
                if found.get(tensor) != listed.get(tensor):
                    has = f"has {found[tensor]}" if tensor in found else f"lacks tensor {tensor}"
                    expected = f"lists {listed[tensor]}" if tensor in listed else f"has no tensor {tensor}"
                    raise EngineError(
                        f"{engines.engine_file(name)} {has}, but bundle.json {expected}; build it again: "
                        f"{_command(bundle, engines)}"
                    )

    def _deserialise(self, bundle: Bundle, engines: Engines, name: GraphName) -> "trt.ICudaEngine":
        file = engines.engine_file(name)
        assert self._runtime is not None
        engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if engine is not None:
            return engine
        error = self.logger.last_error()
        if is_out_of_memory(error):
            raise BackendError(
                f"not enough GPU memory for the weights of {file.name} ({engines.info.engines[name].bytes / 1e6:.0f} "
                f"MB): {error}; stop other programs on this GPU, or export a smaller network"
            )
        raise EngineError(f"TensorRT rejects {file}: {error}; build it again: {_command(bundle, engines)}")


@contextmanager
def shared_engines(bundle: Bundle, gpu: Gpu, root: Path | None = None) -> Iterator[LoadedEngines]:
    """Yield a bundle's engines, loaded unless another session of this process already holds them; release afterwards.

    They are checked against this machine. The GPU's context must be current on entry and on exit, which may be in
    another thread.

    Raises EngineError, BackendError.
    """
    engines = fitting_engines(bundle, gpu, root)
    info = engines.info
    key = (info.package, *(info.engines[name].sha256 for name in GRAPH_NAMES))
    with _sharing:
        loaded = _acquire(key) or _acquire(key, LoadedEngines(bundle, engines))
    assert loaded is not None
    try:
        loaded.check_tensors(bundle, engines)
        yield loaded
    finally:
        with _sharing:
            loaded.users -= 1
            if not loaded.users:
                _shared.pop(key).close()


def _acquire(key: _Key, new: LoadedEngines | None = None) -> LoadedEngines | None:
    """Return the engines of a key with one more user, or None if not loaded; ``new`` stores them first."""
    if new is not None:
        _shared[key] = new
    if (loaded := _shared.get(key)) is None:
        return None
    loaded.users += 1
    # Garbage collection in this thread may just have closed the last session that used them.
    return loaded if _shared.get(key) is loaded else None


def is_out_of_memory(error: str) -> bool:
    """Whether TensorRT's error is about memory."""
    return "outofmemory" in error.lower().replace(" ", "")


def _command(bundle: Bundle, engines: Engines) -> str:
    return rebuild_command(bundle, engines.info.target, engines.folder.parent)
