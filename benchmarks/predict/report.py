"""What a prediction says: the contents of predict.json."""

from typing import Literal

from benchmarks.predict.arithmetic import GraphRate
from benchmarks.predict.cpu import CpuRates
from benchmarks.predict.devices import Device
from benchmarks.predict.roofline import Efficiency
from benchmarks.strict import Strict

TITLE = "PREDICTION, not a measurement"
LIMITS = (
    "One camera, batch 1; the three graphs of a frame one after the other. Not in it: copies to and from the device, "
    "letterboxing, pairing of joints, other programs, clocks below those of the power mode, and the copies between "
    "layouts that TensorRT adds. Every kernel reads and writes memory once: what stays in a cache is faster."
)


class GraphPrediction(Strict):
    """One graph on one device."""

    graph: str
    nodes: int
    kernels: int
    """After fusion."""
    operations: int
    bytes: int
    """After fusion."""
    milliseconds: float
    floor_milliseconds: float | None
    """At the published peaks without overhead, every kernel through memory. None on the CPU."""
    bound: dict[str, float]
    """Share of the time of kernels that are bound by compute, bytes or overhead."""
    kinds: dict[str, float]
    """Milliseconds by kind of node."""

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations / self.bytes


class DevicePrediction(Strict):
    """A bundle on one device."""

    device: str
    name: str
    power_mode: str
    peak_gflops: float
    """Of what most of the operations run on: the roof of the plot."""
    bandwidth_gbs: float
    basis: str
    """Where the rates come from."""
    published: Device | None
    efficiency: Efficiency | None
    graphs: tuple[GraphPrediction, ...]

    @property
    def milliseconds(self) -> float:
        """Of a frame's graphs."""
        return sum(graph.milliseconds for graph in self.graphs)


class Measured(Strict):
    """A graph, or all of a frame, on this CPU: predicted beside measured."""

    what: str
    predicted_ms: float
    median_ms: float
    low_ms: float
    """5th percentile."""
    high_ms: float
    """95th percentile."""

    @property
    def ratio(self) -> float:
        """Predicted over measured (the median)."""
        return self.predicted_ms / self.median_ms

    @property
    def disturbed(self) -> bool:
        """Whether other programs must have been running: an idle machine's times lie closer together."""
        return self.high_ms > 1.5 * self.low_ms


class CpuCheck(Strict):
    """The prediction for this CPU held against measured times."""

    machine: str
    inputs: str
    """What the graphs were given."""
    rates: CpuRates
    graphs: tuple[Measured, ...]
    frame: Measured
    step_ms: float
    """Median of whole steps of the runtime: letterbox, graphs and parts."""
    arithmetic: tuple[GraphRate, ...]


class Report(Strict):
    """predict.json."""

    format: Literal[1] = 1
    kind: Literal["prediction"] = "prediction"
    limits: str = LIMITS
    bundle: str
    precision: str
    size: tuple[int, int]
    """Width and height of the network's input."""
    devices: tuple[DevicePrediction, ...]
    check: CpuCheck | None
