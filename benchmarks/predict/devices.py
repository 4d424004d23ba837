"""GPUs that speed can be predicted for: published peak rates, and what their host is, read from devices.json.

Rates are dense ones: data sheets often print twice as much, "with sparsity", which these networks do not have. Tensor
cores compute convolutions and matrix products in FP16; FP32 and everything else is for the CUDA cores.
"""

import json
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.strict import Strict

FILE = Path(__file__).with_name("devices.json")


class Core(Strict):
    """One core of a board's processor."""

    seven_zip_mips: PositiveFloat
    """7-zip's own benchmark on a single thread, as published."""
    source: str
    url: str


class Device(Strict):
    """One entry of devices.json."""

    id: str
    name: str
    power_mode: str
    """The mode that the rates hold in; a board in another one is slower."""
    compute_capability: str = Field(pattern=r"^\d+\.\d$")
    cuda_cores: PositiveInt
    clock_mhz: PositiveFloat
    fp32_tflops: PositiveFloat
    """Of the CUDA cores: two operations a core and cycle."""
    fp16_tensor_tflops: PositiveFloat
    bandwidth_gbs: PositiveFloat
    """Of the memory, in 10^9 bytes a second."""
    launch_us: PositiveFloat
    """Assumed time between two kernels of a CUDA graph, in microseconds: start, end and idle units."""
    core: Core | None
    """None where nothing was found, and for cards, which are in any computer."""
    source: str
    url: str


def devices() -> dict[str, Device]:
    """All devices by their id."""
    entries = json.loads(FILE.read_text(encoding="utf-8"))["devices"]
    return {one.id: one for one in map(Device.model_validate, entries)}


def find_device(name: str) -> Device:
    """The device of an id. Raises BenchmarkError."""
    known = devices()
    if name not in known:
        raise BenchmarkError(f"no device '{name}'; there are {', '.join(known)}")
    return known[name]
