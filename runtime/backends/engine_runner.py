"""Execution contexts of a session's engines, which use the session's own memory. Not yet run on a GPU."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from runtime.backends.loaded_engines import LoadedEngines, is_out_of_memory
from stm_skeletons.bundle import GraphName
from stm_skeletons.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt


class EngineRunner:
    """One execution context per engine; they share one block of activation memory, because they run in turn."""

    def __init__(self, loaded: LoadedEngines) -> None:
        """Raises BackendError if TensorRT cannot create a context."""
        self._loaded = loaded
        self._contexts: dict[GraphName, trt.IExecutionContext] = {}
        with ExitStack() as undo:
            undo.callback(self.close)  # close now, not when the exception is released: the GPU is closed by then
            for name in loaded.engines:
                self._contexts[name] = self._make_context(name)
            undo.pop_all()
        self._tensors = {name: frozenset(loaded.tensors(name)) for name in loaded.engines}
        self.activation_bytes = max(loaded.activation_bytes.values())

    def give_memory(self, activations: int) -> None:
        """Set the device address of the activation memory. Raises BackendError if TensorRT rejects it."""
        self._loaded.logger.forget()
        for name, context in self._contexts.items():
            set_memory = getattr(context, "set_device_memory", None)
            if set_memory is not None:
                set_memory(activations, self._loaded.activation_bytes[name])
            else:  # TensorRT 8.6
                setattr(context, "device_memory", activations)  # noqa: B010
            # Neither call reports failure.
            if error := self._loaded.logger.error():
                raise BackendError(f"TensorRT rejects the activation memory of {name}: {error}")

    def run(self, name: GraphName, stream: int, addresses: dict[str, int]) -> None:
        """Queue an engine on a stream (its handle) with these device addresses; ignores other engines' tensors.

        Raises BackendError.
        """
        # Do not keep a context in a variable: an exception's traceback would keep it, and the engine, alive.
        logger = self._loaded.logger
        logger.forget()
        for tensor in self._tensors[name] & addresses.keys():
            if not self._contexts[name].set_tensor_address(tensor, addresses[tensor]):
                raise BackendError(f"TensorRT rejects the address of {tensor} in {name}: {logger.last_error()}")
        if not self._contexts[name].execute_async_v3(stream):
            raise BackendError(f"TensorRT failed in {name}: {logger.last_error()}")

    def close(self) -> None:
        """Release the contexts. Their work must have finished."""
        self._contexts.clear()

    def _make_context(self, name: GraphName) -> "trt.IExecutionContext":
        """Create a context whose activation memory we provide."""
        loaded = self._loaded
        loaded.logger.forget()
        context = _context_without_memory(loaded.module, loaded.engines[name])
        if context is None:
            error = loaded.logger.last_error()
            advice = "; stop other programs on this GPU" if is_out_of_memory(error) else ""
            raise BackendError(f"TensorRT cannot create an execution context for {name}: {error}{advice}")
        return context


def _context_without_memory(module: Any, engine: "trt.ICudaEngine") -> "trt.IExecutionContext | None":
    without_memory = getattr(engine, "create_execution_context_without_device_memory", None)
    if without_memory is not None:
        return without_memory()
    # TensorRT 11
    strategies = getattr(module, "ExecutionContextAllocationStrategy")  # noqa: B009 - not in TensorRT 8.6
    return engine.create_execution_context(getattr(strategies, "USER_MANAGED"))  # noqa: B009
