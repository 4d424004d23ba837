"""Execution contexts of one session: each of its engines on the session's own memory. Not yet run on a GPU."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from runtime.backends.loaded_engines import LoadedEngines, is_out_of_memory
from stm_skeletons.bundle import GraphName
from stm_skeletons.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt


class EngineRunner:
    """One execution context for each engine; all work in one piece of activation memory, taking turns."""

    def __init__(self, loaded: LoadedEngines) -> None:
        """Raises BackendError where TensorRT makes no context."""
        self._loaded = loaded
        self._contexts: dict[GraphName, trt.IExecutionContext] = {}
        with ExitStack() as undo:
            undo.callback(self.close)  # now, and not when the error is forgotten: the GPU is closed by then
            for name in loaded.engines:
                self._contexts[name] = self._make_context(name)
            undo.pop_all()
        self._tensors = {name: frozenset(loaded.tensors(name)) for name in loaded.engines}
        self.activation_bytes = max(loaded.activation_bytes.values())

    def give_memory(self, activations: int) -> None:
        """Set the device address of the activation memory. Raises BackendError where TensorRT does not take it."""
        self._loaded.logger.forget()
        for name, context in self._contexts.items():
            set_memory = getattr(context, "set_device_memory", None)
            if set_memory is not None:
                set_memory(activations, self._loaded.activation_bytes[name])
            else:  # TensorRT 8.6
                setattr(context, "device_memory", activations)  # noqa: B010
            # Neither says whether it worked.
            if error := self._loaded.logger.error():
                raise BackendError(f"TensorRT refuses the activation memory of {name}: {error}")

    def run(self, name: GraphName, stream: int, addresses: dict[str, int]) -> None:
        """Queue an engine on a stream (its handle), on these device addresses; names that are not its own are let be.

        Raises BackendError.
        """
        # No context in a variable: the traceback of an error would keep it, and so the engine.
        logger = self._loaded.logger
        logger.forget()
        for tensor in self._tensors[name] & addresses.keys():
            if not self._contexts[name].set_tensor_address(tensor, addresses[tensor]):
                raise BackendError(f"TensorRT refuses the address of {tensor} in {name}: {logger.last_error()}")
        if not self._contexts[name].execute_async_v3(stream):
            raise BackendError(f"TensorRT failed in {name}: {logger.last_error()}")

    def close(self) -> None:
        """Release the contexts. They must have finished."""
        self._contexts.clear()

    def _make_context(self, name: GraphName) -> "trt.IExecutionContext":
        """One whose activation memory is ours to give."""
        loaded = self._loaded
        loaded.logger.forget()
        context = _context_without_memory(loaded.module, loaded.engines[name])
        if context is None:
            error = loaded.logger.last_error()
            advice = "; stop other programs on this GPU" if is_out_of_memory(error) else ""
            raise BackendError(f"TensorRT cannot make an execution context of {name}: {error}{advice}")
        return context


def _context_without_memory(module: Any, engine: "trt.ICudaEngine") -> "trt.IExecutionContext | None":
    without_memory = getattr(engine, "create_execution_context_without_device_memory", None)
    if without_memory is not None:
        return without_memory()
    # TensorRT 11
    strategies = getattr(module, "ExecutionContextAllocationStrategy")  # noqa: B009 - not in TensorRT 8.6
    return engine.create_execution_context(getattr(strategies, "USER_MANAGED"))  # noqa: B009
