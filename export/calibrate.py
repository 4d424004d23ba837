"""Calibrates INT8: observes tensors of ``edge``'s FP32 graphs while they run over frames, with memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from stm_skeletons.bundle import GRAPH_NAMES, GraphName
from stm_skeletons.memory_policy import readable_slots, write_slot

HIGHEST_LEVEL = 255
_KEPT = 4096
"""Values sampled per tensor and frame, spread over the tensor."""
_BINS = 2048
_SHARES = np.linspace(0.3, 1, 15)
"""Shares of the smallest and of the largest value that are tried as ends of the range."""
Tensors = dict[str, NDArray]


@dataclass(frozen=True)
class Observation:
    """The best quantisation of a tensor, and its mean."""

    scale: float
    zero: int
    """The level that represents 0, between 0 and HIGHEST_LEVEL."""
    means: NDArray[np.float64]
    """[C]: mean of each channel."""


def observe(
    folder: Path,
    sequences: Iterable[Sequence[NDArray[np.uint8]]],
    tensors: Mapping[GraphName, Iterable[str]],
    slots: int,
    every: int,
    sample_every: int,
) -> dict[GraphName, dict[str, Observation]]:
    """Run the three FP32 graphs over sequences, each with an empty memory, and observe tensors.

    Args:
        folder: folder of the graphs.
        sequences: consecutive frames, uint8 [H, W, 3] BGR, letterboxed.
        tensors: names of FP32 tensors [1, C, h, w] in each graph.
        slots, every: the memory's, see Options.
        sample_every: every n-th frame of a sequence is sampled; all frames fill the memory.

    Returns:
        The observed tensors of each graph; empty if no sequence has ``sample_every`` frames.
    """
    graphs: dict[GraphName, _ObservedGraph] = {
        name: _ObservedGraph(folder / f"{name}.onnx", tensors.get(name, ())) for name in GRAPH_NAMES
    }
    shapes = {name: shape for name, shape in graphs["read_decoder"].inputs.items() if name.startswith("memory_")}
    looked = False
    for frames in sequences:
        memory = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        for number, frame in enumerate(frames):
            look = (number + 1) % sample_every == 0
            looked |= look
            memory["memory_valid"][:] = readable_slots(number, slots, every)
            known: Tensors = {"frame": frame, **memory}
            for name in GRAPH_NAMES:
                known |= graphs[name].run(known, look)
            slot = write_slot(number, slots, every)
            memory["memory_keys"][slot], memory["memory_values"][slot] = known["memory_key"], known["memory_value"]
    return {name: graph.seen() for name, graph in graphs.items()} if looked else {}


class _ObservedGraph:
    """A graph that samples the values of some tensors."""

    def __init__(self, path: Path, tensors: Iterable[str]) -> None:
        model = onnx.load(path)
        self._outputs = [output.name for output in model.graph.output]
        self._tensors = sorted(tensors)
        model.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._tensors
        )
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each.shape for each in self._session.get_inputs()}
        self._values: dict[str, list[NDArray]] = {name: [] for name in self._tensors}
        self._means: dict[str, list[NDArray]] = {name: [] for name in self._tensors}

    def run(self, known: Tensors, look: bool) -> Tensors:
        """Run the graph on inputs from ``known`` and return its outputs by name."""
        inputs = {name: known[name] for name in self.inputs}
        names = [*self._outputs, *self._tensors] if look else self._outputs
        found: Tensors = dict(zip(names, map(np.asarray, self._session.run(names, inputs)), strict=True))
        for name in self._tensors if look else ():
            values = found[name].reshape(-1)
            # An odd step, because an even one might sample the same columns of every row.
            self._values[name].append(values[:: values.size // _KEPT | 1].copy())
            self._means[name].append(found[name].mean((0, 2, 3), dtype=np.float64))
        return {name: found[name] for name in self._outputs}

    def seen(self) -> dict[str, Observation]:
        """Return the observations by tensor name."""
        return {
            name: Observation(*closest_levels(np.concatenate(self._values[name])), np.mean(self._means[name], axis=0))
            for name in self._tensors
        }


def closest_levels(values: NDArray) -> tuple[float, int]:
    """Return the scale and the zero level with the smallest mean squared error.

    Values outside the range are clipped: excluding the few largest gives all others finer steps.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    counts, edges = np.histogram(values, _BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    tried = []
    for start in low * _SHARES if low else [0.0]:
        for end in high * _SHARES if high else [0.0]:
            scale = float(end - start) / HIGHEST_LEVEL or 1.0
            zero = round(-start / scale)
            rounded = (np.clip(np.round(middles / scale) + zero, 0, HIGHEST_LEVEL) - zero) * scale
            tried.append((float((rounded - middles) ** 2 @ counts), scale, zero))
    return min(tried)[1:]
