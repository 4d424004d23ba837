"""Predicts the time of a bundle's frame on other GPUs from published peak rates, to within a factor of about two.

A kernel takes the longer of its computing time and its memory time, plus its launch overhead (roofline model of
S. Williams et al., "Roofline", CACM 52(4), 2009, applied to each kernel). The host's work is added by host_share.
"""

from collections.abc import Sequence

import onnx

from benchmarks.predict.count import Kernel, kernels
from benchmarks.predict.devices import Device, find_device
from benchmarks.predict.host import HostWork, measure
from benchmarks.predict.host_share import HostShare, host_shares, host_table
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.strict import Strict
from stm_skeletons.table import Table

TENSOR = 0.35
"""Assumed share of the tensor cores' FP16 peak. Two whole YOLO networks reach 0.24 to 0.33 of it on an Orin Nano with
trtexec: https://github.com/Idein/aicast_jetson_benchmark (YOLOX-S) and
https://github.com/the0807/YOLOv8-ONNX-TensorRT (YOLOv8m)."""
CUDA, DEPTHWISE, BANDWIDTH = 0.5, 0.25, 0.75
"""Assumed shares, not measured: of the CUDA cores' peak, of the same peak in depthwise convolutions, and of the memory
bandwidth."""


class Prediction(Strict):
    """Predicted times of a bundle on a device."""

    device: str
    bundle: str
    precision: str
    size: tuple[int, int]
    milliseconds: dict[str, float]
    """Time of each graph; with a batch, one camera's share of it."""
    bound: dict[str, float]
    """Shares of the time that are bound by "compute", by "bytes" (memory) and by "start" (launch overhead)."""
    host: tuple[HostShare, ...]
    """For several sizes of frames and numbers of people; empty if the device's processor has no published rating."""
    source: str

    @property
    def total(self) -> float:
        """Time of the three graphs for a frame, in milliseconds."""
        return sum(self.milliseconds.values())


def predict(bundle: Bundle, names: Sequence[str]) -> list[Prediction]:
    """Predict a bundle's speed on devices of devices.json. The host's work is timed on this machine.

    Raises:
        BenchmarkError: an unknown device, a bundle for CPUs, or a graph that cannot be counted.
    """
    if bundle.info.precision in ("int8", "bf16"):
        raise BenchmarkError(f"{bundle.folder} is {bundle.info.precision}, which is for CPUs; use an fp16 bundle")
    devices = [find_device(name) for name in dict.fromkeys(names)]
    counted = {name: kernels(onnx.load(bundle.graph_file(name))) for name in GRAPH_NAMES}
    work = measure(bundle.info)
    return [_on(bundle, device, counted, work) for device in devices]


def tables(predictions: Sequence[Prediction]) -> list[Table]:
    """Tables of the predictions, of the host's share and of the sources."""
    first = predictions[0]
    title = (
        "PREDICTION, not a measurement, to within a factor of about two: "
        f"{first.bundle} ({first.precision}), ms per frame"
    )
    rows = [
        (
            *(each.device, f"{each.total:.2f}", *(f"{each.milliseconds[name]:.2f}" for name in GRAPH_NAMES)),
            ", ".join(f"{limit} {100 * share:.0f}%" for limit, share in each.bound.items()),
        )
        for each in predictions
    ]
    sources = [(each.device, each.source) for each in predictions]
    return [
        Table(title, ("device", "total", *GRAPH_NAMES, "bound by"), rows),
        host_table([(each.device, share) for each in predictions for share in each.host]),
        Table("Published peak rates", ("device", "source"), sources, left=2),
    ]


def _on(bundle: Bundle, device: Device, counted: dict[str, list[Kernel]], work: HostWork) -> Prediction:
    milliseconds, bound = {}, {"compute": 0.0, "bytes": 0.0, "start": 0.0}
    for name, graph_kernels in counted.items():
        milliseconds[name] = 0.0
        # The encoders run a whole batch at once.
        share = 1 if name == "read_decoder" else 1 / bundle.info.batch
        for kernel in graph_kernels:
            compute = share * kernel.operations / (1e12 * _rate(device, kernel))
            move = share * kernel.bytes / (1e9 * device.bandwidth_gbs * BANDWIDTH)
            start = share * device.launch_us * 1e-6
            bound["compute" if compute > move else "bytes"] += max(compute, move)
            bound["start"] += start
            milliseconds[name] += 1e3 * (max(compute, move) + start)
    total = sum(bound.values())
    return Prediction(
        device=device.id,
        bundle=bundle.folder.name,
        precision=bundle.info.precision,
        size=bundle.info.size,
        milliseconds=milliseconds,
        bound={limit: seconds / total for limit, seconds in bound.items()},
        host=host_shares(bundle.info, device, work, milliseconds),
        source=_sources(device),
    )


def _sources(device: Device) -> str:
    """Sources of the rates of the GPU and of the processor core."""
    gpu = f"{device.power_mode}; {device.source}; {device.url}"
    core = device.core
    return gpu if core is None else f"{gpu}; core: {core.seven_zip_mips:g} MIPS in 7-zip, {core.source}; {core.url}"


def _rate(device: Device, kernel: Kernel) -> float:
    """Rate in 10^12 operations per second. CUDA cores compute FP32, because engines are built without TF32."""
    if kernel.kind == "tensor" and kernel.half:
        return device.fp16_tensor_tflops * TENSOR
    return device.fp32_tflops * (DEPTHWISE if kernel.kind == "depthwise" else CUDA)
