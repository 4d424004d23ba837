"""Milliseconds of a bundle's graphs on GPUs that are not at hand, from published peaks. Good to a factor of about two.

Each kernel takes the longer of computing and of moving its bytes, and the time to start it (S. Williams et al.,
"Roofline", CACM 52(4), 2009, kernel by kernel).
"""

from collections.abc import Sequence

import onnx

from benchmarks.predict.count import Kernel, kernels
from benchmarks.predict.devices import Device, find_device
from benchmarks.run.tables import TextTable
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.strict import Strict

TENSOR = {"float16": 0.35, "int8": 0.25, "float32": 0.35}
"""Assumed shares of the tensor cores' peaks. Two YOLO networks as a whole reach 0.24 to 0.33 (FP16) and 0.15 to 0.23
(INT8) of them on an Orin Nano, by trtexec: https://github.com/Idein/aicast_jetson_benchmark (YOLOX-S) and
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
    """By graph; without host work and copies."""
    bound: dict[str, float]
    """Shares of the time that go by "compute", "bytes" and "start"."""
    source: str

    @property
    def total(self) -> float:
        """Milliseconds of the three graphs of a frame."""
        return sum(self.milliseconds.values())


def predict(bundle: Bundle, names: Sequence[str]) -> list[Prediction]:
    """Predict a bundle on devices of devices.json. Raises BenchmarkError."""
    devices = [find_device(name) for name in dict.fromkeys(names)]
    counted = {name: kernels(onnx.load(bundle.graph_file(name))) for name in GRAPH_NAMES}
    return [_on(bundle, device, counted) for device in devices]


def tables(predictions: Sequence[Prediction]) -> list[TextTable]:
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
        TextTable(title, ("device", "all", *GRAPH_NAMES, "bound by"), rows),
        TextTable("Published peaks", ("device", "source"), sources, left=2),
    ]


def _on(bundle: Bundle, device: Device, counted: dict[str, list[Kernel]]) -> Prediction:
    tf32 = bundle.info.precision == "int8"  # of its other convolutions, as engines are built
    milliseconds, bound = {}, {"compute": 0.0, "bytes": 0.0, "start": 0.0}
    for name, found in counted.items():
        milliseconds[name] = 0.0
        for kernel in found:
            compute = kernel.operations / (1e12 * _rate(device, kernel, tf32))
            move = kernel.bytes / (1e9 * device.bandwidth_gbs * BANDWIDTH)
            start = device.launch_us * 1e-6
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
        source=f"{device.power_mode}; {device.source}; {device.url}",
    )


def _rate(device: Device, kernel: Kernel, tf32: bool) -> float:
    """In 10^12 operations a second."""
    if kernel.kind == "tensor":
        peaks = {"float16": device.fp16_tensor_tflops, "int8": device.int8_tensor_tops}
        peaks["float32"] = device.tf32_tensor_tflops if tf32 else None
        peak = peaks[kernel.precision]
        if peak is not None:
            return peak * TENSOR[kernel.precision]
        if kernel.precision == "int8":
            raise BenchmarkError(f"no INT8 rate of {device.name} is known; predict an fp16 bundle for it")
    return device.fp32_tflops * (DEPTHWISE if kernel.kind == "depthwise" else CUDA)
