"""Where the time of a bundle's graphs goes on this CPU, kind by kind, beside the operations that are done in it."""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from benchmarks.predict.count import count_graph
from benchmarks.predict.cpu import CpuRates
from benchmarks.predict.operations import Kind, kind_of
from benchmarks.predict.timing import WARM_UP
from runtime.backends.onnxruntime import session_options
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName

ROUNDS = 20
_OWN: dict[str, Kind] = {
    "ReorderInput": "layout",
    "ReorderOutput": "layout",
    "FusedConv": "convolution",
    "FusedMatMul": "matrix product",
    "Reshape": "layout",
    "Squeeze": "layout",
    "Unsqueeze": "layout",
    "Flatten": "layout",
    "QLinearConv": "convolution",
    "DequantizeLinear": "element-wise",
    "QuickGelu": "element-wise",
    "FusedGemm": "matrix product",
}
"""Operators that ONNX Runtime makes, or runs as a copy where they cost nothing in principle."""


class KindRate(BaseModel):
    """Nodes of one kind in one graph."""

    model_config = ConfigDict(frozen=True)

    kind: str
    operations: int
    milliseconds: float
    """A run, by ONNX Runtime's profiler."""
    time_share: float
    operations_share: float
    gflops: float


class GraphRate(BaseModel):
    """One graph: measured time, rate, share of the measured peak, and its kinds, the slowest first."""

    model_config = ConfigDict(frozen=True)

    graph: str
    operations: int
    milliseconds: float
    """Median of runs without the profiler."""
    gflops: float
    peak_share: float
    kinds: tuple[KindRate, ...]


def arithmetic_rates(
    bundle: Bundle, feeds: Mapping[str, NDArray], seconds: Mapping[str, float], cpu: CpuRates
) -> tuple[GraphRate, ...]:
    """Rates of all graphs.

    Args:
        bundle: what to look at.
        feeds: inputs of its graphs by name.
        seconds: median time of each graph.
        cpu: peaks, and the number of threads to profile with.
    """
    return tuple(_graph_rate(bundle, name, feeds, seconds[name], cpu) for name in GRAPH_NAMES)


def _graph_rate(
    bundle: Bundle, name: GraphName, feeds: Mapping[str, NDArray], seconds: float, cpu: CpuRates
) -> GraphRate:
    operations: Counter[str] = Counter()
    for node in count_graph(onnx.load(bundle.graph_file(name))).nodes:
        operations[node.kind] += node.operations
    spent = _profile(bundle, name, feeds, cpu.threads)
    total, whole = sum(operations.values()), sum(spent.values())
    kinds = tuple(
        KindRate(
            kind=kind,
            operations=operations[kind],
            milliseconds=time * 1e3,
            time_share=time / whole,
            operations_share=operations[kind] / total,
            gflops=operations[kind] / time / 1e9,
        )
        for kind, time in sorted(spent.items(), key=lambda pair: -pair[1])
    )
    gflops = total / seconds / 1e9
    return GraphRate(
        graph=name,
        operations=total,
        milliseconds=seconds * 1e3,
        gflops=gflops,
        peak_share=gflops / cpu.peak_gflops,
        kinds=kinds,
    )


def _profile(bundle: Bundle, name: GraphName, feeds: Mapping[str, NDArray], threads: int) -> dict[str, float]:
    """Seconds of a run by kind: medians of each node's kernel time, summed."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(bundle.graph_file(name), options, providers=["CPUExecutionProvider"])
        inputs = {value.name: feeds[value.name] for value in session.get_inputs()}
        for _ in range(WARM_UP + ROUNDS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes.setdefault((event["name"], _event_kind(event["args"])), []).append(event["dur"] * 1e-6)
    spent: dict[str, float] = defaultdict(float)
    for (_, kind), times in nodes.items():
        spent[kind] += float(np.median(times[WARM_UP:]))
    return spent


def _event_kind(arguments: dict[str, Any]) -> str:
    op = arguments["op_name"]
    shapes = [tuple(next(iter(one.values()))) for one in arguments["input_type_shape"]]
    if op in ("Conv", "FusedConv") and len(shapes) > 1 and shapes[1][1] == 1 and shapes[0][1] > 1:
        return "depthwise"
    return _OWN.get(op) or kind_of(op, None, 1)
