"""Milliseconds of a bundle's frame on GPUs that are not at hand, from published peaks. Good to a factor of about two.

Each kernel takes the longer of computing and of moving its bytes, and the time to start it (S. Williams et al.,
"Roofline", CACM 52(4), 2009, kernel by kernel). What the host does comes beside it (see host_share).
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
"""Assumed share of the tensor cores' peak in FP16. Two YOLO networks as a whole reach 0.24 to 0.33 of it on an Orin
Nano, by trtexec: https://github.com/Idein/aicast_jetson_benchmark (YOLOX-S) and
https://github.com/the0807/YOLOv8-ONNX-TensorRT (YOLOv8m)."""
CUDA, DEPTHWISE, BANDWIDTH = 0.5, 0.25, 0.75
"""Of the CUDA cores' peak, of it in depthwise convolutions, and of the memory's. Assumptions, not measured."""


class Prediction(Strict):
    """One bundle on one device."""

    device: str
    bundle: str
    precision: str
    size: tuple[int, int]
    milliseconds: dict[str, float]
    """By graph; of a bundle for batches a camera's share."""
    bound: dict[str, float]
    """Shares of the time that go by "compute", "bytes" and "start"."""
    host: tuple[HostShare, ...]
    """Of frames of several sizes with few people and many; none where nothing is known of the device's processor."""
    source: str

    @property
    def total(self) -> float:
        """Milliseconds of the three graphs of a frame."""
        return sum(self.milliseconds.values())


def predict(bundle: Bundle, names: Sequence[str]) -> list[Prediction]:
    """Predict a bundle on devices of devices.json. The host is timed on this machine. Raises BenchmarkError."""
    if bundle.info.precision in ("int8", "bf16"):
        raise BenchmarkError(f"{bundle.folder} is in {bundle.info.precision} for CPUs; predict an fp16 bundle")
    devices = [find_device(name) for name in dict.fromkeys(names)]
    counted = {name: kernels(onnx.load(bundle.graph_file(name))) for name in GRAPH_NAMES}
    work = measure(bundle.info)
    return [_on(bundle, device, counted, work) for device in devices]


def tables(predictions: Sequence[Prediction]) -> list[Table]:
    """What is shown and written."""
    one = predictions[0]
    title = f"PREDICTION, not a measurement, good to a factor of about two: {one.bundle} ({one.precision}), ms a frame"
    rows = [
        (
            *(found.device, f"{found.total:.2f}", *(f"{found.milliseconds[name]:.2f}" for name in GRAPH_NAMES)),
            ", ".join(f"{what} {100 * share:.0f} %" for what, share in found.bound.items()),
        )
        for found in predictions
    ]
    sources = [(found.device, found.source) for found in predictions]
    return [
        Table(title, ("device", "all", *GRAPH_NAMES, "bound by"), rows),
        host_table([(found.device, share) for found in predictions for share in found.host]),
        Table("Published peaks", ("device", "source"), sources, left=2),
    ]


def _on(bundle: Bundle, device: Device, counted: dict[str, list[Kernel]], work: HostWork) -> Prediction:
    milliseconds, bound = {}, {"compute": 0.0, "bytes": 0.0, "start": 0.0}
    for name, found in counted.items():
        milliseconds[name] = 0.0
        # The encoders take the frames of a batch in one run.
        share = 1 if name == "read_decoder" else 1 / bundle.info.batch
        for kernel in found:
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
        bound={what: seconds / total for what, seconds in bound.items()},
        host=host_shares(bundle.info, device, work, milliseconds),
        source=_sources(device),
    )


def _sources(device: Device) -> str:
    """Of the GPU's figures and of its host's."""
    gpu = f"{device.power_mode}; {device.source}; {device.url}"
    core = device.core
    return gpu if core is None else f"{gpu}; core: {core.seven_zip_mips:g} MIPS of 7-zip, {core.source}; {core.url}"


def _rate(device: Device, kernel: Kernel) -> float:
    """In 10^12 operations a second. FP32 is for the CUDA cores: engines are built without TF32."""
    if kernel.kind == "tensor" and kernel.half:
        return device.fp16_tensor_tflops * TENSOR
    return device.fp32_tflops * (DEPTHWISE if kernel.kind == "depthwise" else CUDA)
