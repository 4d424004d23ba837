"""Time of a kernel: whichever of computing and moving bytes takes longer (or both), and what it costs to start it.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009; here for
each kernel and not for a whole program, since their intensities lie orders of magnitude apart.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from benchmarks.predict.devices import Device
from benchmarks.predict.fuse import Kernel
from benchmarks.predict.operations import Kind
from stm_skeletons.errors import BenchmarkError


class Rate(NamedTuple):
    """What a device does of one kernel."""

    operations: float
    """A second."""
    bytes: float
    """A second."""
    overhead: float
    """Seconds, whatever the kernel's size."""
    overlapped: bool = True
    """Whether it computes and moves bytes at the same time."""


Rates = Callable[[Kernel], Rate]


class Efficiency(BaseModel):
    """Assumed shares of published peaks, the same for every GPU. Not fitted to the graphs that are predicted."""

    model_config = ConfigDict(frozen=True)

    tensor_fp16: float = 0.35
    tensor_int8: float = 0.25
    cuda: float = 0.5
    depthwise: float = 0.25
    bandwidth: float = 0.75

    reason: str = (
        "tensor cores: whole networks of convolutions reach 0.24 to 0.33 of the dense FP16 peak and 0.15 to 0.23 of "
        "the INT8 peak on a Jetson Orin Nano (trtexec: YOLOX-S, 26.8 GFLOP, 10.7 and 8.6 ms, "
        "https://github.com/Idein/aicast_jetson_benchmark; YOLOv8m, 78.9 GFLOP, 23.6 and 17.1 ms, "
        "https://github.com/the0807/YOLOv8-ONNX-TensorRT), so their convolutions alone a little more; CUDA cores, "
        "depthwise, bandwidth and launch times are assumptions, not measured"
    )


class Time(NamedTuple):
    """Seconds of a kernel, and what sets them."""

    kernel: Kernel
    seconds: float
    bound: str
    """compute, bytes or overhead: the largest part."""


def kernel_times(kernels: Iterable[Kernel], rates: Rates) -> list[Time]:
    """Each kernel at its rate."""
    times = []
    for kernel in kernels:
        rate = rates(kernel)
        parts = {
            "compute": kernel.operations / rate.operations,
            "bytes": kernel.bytes / rate.bytes,
            "overhead": rate.overhead,
        }
        together = max if rate.overlapped else sum
        seconds = together((parts["compute"], parts["bytes"])) + parts["overhead"]
        times.append(Time(kernel, seconds, max(parts, key=lambda part: parts[part])))
    return times


def gpu_rates(device: Device, tf32: bool, efficiency: Efficiency | None) -> Rates:
    """Rates of a GPU's kernels.

    Args:
        device: published peaks.
        tf32: whether FP32 convolutions and matrix products may run as TF32 (engines of int8 bundles, see the builder).
        efficiency: shares of the peaks; None for the peaks themselves with no overhead, which nothing can exceed.
    """
    share = efficiency or Efficiency(tensor_fp16=1, tensor_int8=1, cuda=1, depthwise=1, bandwidth=1)
    overhead = device.launch_us * 1e-6 if efficiency else 0.0

    def rates(kernel: Kernel) -> Rate:
        operations = _peak(device, kernel.kind, kernel.precision, tf32, share) * 1e12
        return Rate(operations, device.bandwidth_gbs * 1e9 * share.bandwidth, overhead)

    return rates


def _peak(device: Device, kind: Kind, precision: str, tf32: bool, share: Efficiency) -> float:
    """In 10^12 operations a second."""
    if kind in ("convolution", "matrix product"):
        if precision == "int8":
            if device.int8_tensor_tops is None:
                raise BenchmarkError(f"no INT8 rate of {device.name} is known; predict an fp16 bundle for it")
            return device.int8_tensor_tops * share.tensor_int8
        if precision == "float16":
            return device.fp16_tensor_tflops * share.tensor_fp16
        if tf32 and device.tf32_tensor_tflops is not None:
            return device.tf32_tensor_tflops * share.tensor_fp16
    return device.fp32_tflops * (share.depthwise if kind == "depthwise" else share.cuda)
