"""Rates of this machine's CPU in ONNX Runtime: peaks, and a rate and an overhead for each kind of kernel.

A kernel's time is taken for overhead + work / rate. Both come from the same operator alone at two sizes (micro.py); no
time of a graph that is predicted goes in.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from benchmarks.predict.count import count_graph
from benchmarks.predict.fuse import Kernel
from benchmarks.predict.layouts import has_blocked_layout
from benchmarks.predict.micro import LARGE, MICROS, PEAKS, REORDER, SMALL, Micro, model
from benchmarks.predict.operations import Kind
from benchmarks.predict.roofline import Rate, Rates
from benchmarks.predict.timing import Runner

COPIES = 9
"""A graph with so many copies of a node less one with a single copy is eight nodes, without the call around them."""
PLACES = 3
"""Times that each is built: where a tensor comes to lie makes its node faster or slower, by a half at times."""
Times = Mapping[str, NDArray[np.float64]]
_SIZES = {"small": SMALL, "large": LARGE}
_AS: dict[str, str] = {
    **dict.fromkeys(("Relu", "Clip", "Cast", "Neg", "Abs", "Floor", "Not"), "Clip"),
    **dict.fromkeys(("Exp", "Sigmoid", "Tanh", "Erf"), "Exp"),
    **dict.fromkeys(("Log", "Pow", "Sqrt"), "Log"),
    **dict.fromkeys(("Softmax", "LogSoftmax"), "Softmax"),
    **dict.fromkeys(("MaxPool", "AveragePool"), "MaxPool"),
    "Identity": "Concat",
    REORDER: REORDER,
    **{op: op for op in ("TopK", "GridSample", "Gather", "GatherElements")},
    **dict.fromkeys(("Transpose", "DepthToSpace", "SpaceToDepth"), "Transpose"),
}
"""Which measured kernel stands for an operator."""
_KIND_AS: dict[Kind, str] = {
    "convolution": "convolution",
    "depthwise": "depthwise",
    "matrix product": "matrix product",
    "sampling": "Gather",
    "resize": "Resize",
    "element-wise": "Add",
    "reduction": "ReduceSum",
    "layout": "Concat",
    "other": "Add",
}
"""Which one stands for the other operators of a kind."""
_COMPUTING: tuple[Kind, ...] = ("convolution", "depthwise", "matrix product")
"""Their tensors in a graph come from another cache than those of one operator alone, and a core waits for them."""


class KernelRate(BaseModel):
    """Of one kind of kernel: work (operations, or bytes where it has none) a second, and overhead in microseconds."""

    model_config = ConfigDict(frozen=True)

    rate: float
    unit: str
    """operations/s or bytes/s."""
    overhead_us: float


class CpuRates(BaseModel):
    """What was measured on a CPU."""

    model_config = ConfigDict(frozen=True)

    threads: int
    matmul_gflops: float
    """FP32 product of two 1024 x 1024 matrices."""
    conv_gflops: float
    """FP32 3x3 convolution, 128 to 128 channels, 48 x 64."""
    cached_gbs: float
    """Sum of two tensors of 1.6 MB, 10^9 bytes a second read and written."""
    memory_gbs: float
    """Sum of two tensors of 128 MB: beyond the caches of most machines."""
    kernels: dict[str, KernelRate]

    @property
    def peak_gflops(self) -> float:
        """The higher of the two FP32 rates."""
        return max(self.matmul_gflops, self.conv_gflops)


def micro_runs(threads: int) -> dict[str, Callable[[], None]]:
    """What is to be timed, by names that ``rates_from`` knows."""
    return {
        _run_name(name, copies, place): _runner(micro, copies, threads)
        for name, micro in _micros().items()
        for copies in (1, _copies(micro))
        for place in range(PLACES)
    }


def rates_from(times: Times, threads: int) -> CpuRates:
    """The rates of this CPU.

    Args:
        times: seconds [rounds] of what ``micro_runs`` gave.
        threads: that they ran with.
    """

    def throughput(name: str) -> float:
        micro = PEAKS[name]
        operations, moved = _work(micro)
        work = moved if micro.op == "Add" else operations
        return work / _node_seconds(times, f"peak {name}", micro) / 1e9

    return CpuRates(
        threads=threads,
        matmul_gflops=throughput("matmul"),
        conv_gflops=throughput("conv"),
        cached_gbs=throughput("cached"),
        memory_gbs=throughput("memory"),
        kernels={name: _fit(times, name) for name in MICROS if _run_name(f"{name} small", 1, 0) in times},
    )


def cpu_rates(measured: CpuRates) -> Rates:
    """Rates of the kernels of a graph. Nothing moves bytes faster than a sum of tensors that the cache holds."""

    def rates(kernel: Kernel) -> Rate:
        one = measured.kernels[measured_as(kernel)]
        overhead = one.overhead_us * 1e-6
        if one.unit == "bytes/s":
            return Rate(float("inf"), one.rate, overhead)
        return Rate(one.rate, measured.cached_gbs * 1e9, overhead, overlapped=kernel.kind not in _COMPUTING)

    return rates


def measured_as(kernel: Kernel) -> str:
    """Name in MICROS of what stands for a kernel."""
    if kernel.op == "Resize" and kernel.operations == 0:
        return "Resize nearest"
    return _AS.get(kernel.op, _KIND_AS[kernel.kind])


def _micros() -> dict[str, Micro]:
    names = [name for name in MICROS if name != REORDER or has_blocked_layout()]
    sizes = {f"{name} {size}": MICROS[name](shape) for name in names for size, shape in _SIZES.items()}
    return sizes | {f"peak {name}": micro for name, micro in PEAKS.items()}


def _copies(micro: Micro) -> int:
    return COPIES if np.prod(micro.shapes[0]) < 1 << 22 else 2  # large ones are few, for the memory they take


def _runner(micro: Micro, copies: int, threads: int) -> Runner:
    proto, feeds = model(micro, copies)
    return Runner(proto.SerializeToString(), feeds, threads)


def _run_name(name: str, copies: int, place: int) -> str:
    return f"{name} x{copies}, place {place}"


def _node_seconds(times: Times, name: str, micro: Micro) -> float:
    """Of the places, the middle one."""
    copies = _copies(micro)
    many, one = (
        np.array([np.median(times[_run_name(name, count, place)]) for place in range(PLACES)]) for count in (copies, 1)
    )
    # Noise could make it negative; a nanosecond is less than any node takes.
    return max(float(np.median(many - one)) / (copies - 1), 1e-9)


def _fit(times: Times, name: str) -> KernelRate:
    """The overhead is what the small one takes beyond its share of the large one's time; the rate is what is left."""
    micros = [MICROS[name](shape) for shape in _SIZES.values()]
    small, large = (_node_seconds(times, f"{name} {size}", micro) for size, micro in zip(_SIZES, micros, strict=True))
    operations = _work(micros[0])[0] > 0
    little, much = (count if operations else moved for count, moved in map(_work, micros))
    overhead = max(small - large * little / much, 0.0)
    # At most half of the large one's time is overhead: more is noise.
    rate = much / max(large - overhead, large / 2)
    return KernelRate(rate=rate, unit="operations/s" if operations else "bytes/s", overhead_us=overhead * 1e6)


def _work(micro: Micro) -> tuple[int, int]:
    """Operations and bytes of one node."""
    (node,) = count_graph(model(micro, 1)[0]).nodes
    return node.operations, sum(count for _, count in node.reads) + sum(tensor.bytes for tensor in node.writes)
