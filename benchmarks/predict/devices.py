"""Devices that ``bench predict`` knows, with published peak rates of GPU and processor, read from devices.json.

The rates are dense: data sheets often print twice as much, "with sparsity", which these networks do not use. Tensor
cores compute convolutions and matrix products in FP16; CUDA cores compute everything else.
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
    """Published result of 7-zip's benchmark on a single thread."""
    source: str
    url: str


class Device(Strict):
    """One entry of devices.json."""

    id: str
    name: str
    power_mode: str
    """Power mode of the rates; a board in another mode is slower."""
    compute_capability: str = Field(pattern=r"^\d+\.\d$")
    cuda_cores: PositiveInt
    clock_mhz: PositiveFloat
    fp32_tflops: PositiveFloat
    """Rate of the CUDA cores: two operations per core and cycle."""
    fp16_tensor_tflops: PositiveFloat
    bandwidth_gbs: PositiveFloat
    """Memory bandwidth in 10^9 bytes per second."""
    launch_us: PositiveFloat
    """Assumed overhead of each kernel of a CUDA graph, in microseconds: launch, completion and idle units."""
    core: Core | None
    """None if no published figure was found, and for cards, whose host can be any computer."""
    source: str
    url: str


def devices() -> dict[str, Device]:
    """All devices by id."""
    entries = json.loads(FILE.read_text(encoding="utf-8"))["devices"]
    return {device.id: device for device in map(Device.model_validate, entries)}


def find_device(name: str) -> Device:
    """The device with an id. Raises BenchmarkError if it is unknown."""
    known = devices()
    if name not in known:
        raise BenchmarkError(f"unknown device '{name}'; choose from {', '.join(known)}")
    return known[name]
