"""ONNX graphs timed in turn, with everything bound once: what the runtime does, without its camera."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.backends.onnxruntime import session_options

WARM_UP = 3
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class Runner:
    """A graph on the CPU whose inputs and outputs are bound, so that a call allocates nothing outside the graph.

    Inputs that are the same array, and outputs of one type and shape, share their memory: nobody reads the outputs.
    """

    def __init__(self, graph: bytes, feeds: Mapping[str, NDArray], threads: int) -> None:
        self._session = onnxruntime.InferenceSession(
            graph, session_options(threads), providers=["CPUExecutionProvider"]
        )
        self._binding = self._session.io_binding()
        self._held = {}  # a binding holds addresses, not the tensors
        for value in self._session.get_inputs():
            array = np.ascontiguousarray(feeds[value.name])
            bound = self._held.setdefault(id(array), (onnxruntime.OrtValue.ortvalue_from_numpy(array), array))[0]
            self._binding.bind_ortvalue_input(value.name, bound)
        for value in self._session.get_outputs():
            alike = value.type, *value.shape
            if alike not in self._held:
                dtype = _DTYPES[value.type]
                self._held[alike] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(value.shape, dtype, "cpu", 0)
            self._binding.bind_ortvalue_output(value.name, self._held[alike])

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)


def time_in_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Seconds [rounds] of each, all of them once a round, so that what disturbs the machine disturbs them alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(WARM_UP + rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            passed = time.perf_counter() - started
            if number >= WARM_UP:
                times[name].append(passed)
    return {name: np.array(passed) for name, passed in times.items()}
