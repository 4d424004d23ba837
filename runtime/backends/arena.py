"""Where every tensor lies in one piece of device memory: allocated once, so nothing moves and nothing fragments."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from runtime.bank import ADDRESS_ALIGNMENT, MemoryBank
from stm_skeletons.bundle import BundleInfo, TensorSpec
from stm_skeletons.detections import Detections
from stm_skeletons.errors import BackendError

ALIGNMENT = 512
"""Bytes; everything begins at a multiple of it. Tensors need ADDRESS_ALIGNMENT, but activation memory must have CUDA's
texture alignment (ICudaEngine::createExecutionContextWithoutDeviceMemory)."""
RESULTS = tuple(field.name for field in fields(Detections))
"""What a frame brings back, adjacent so that one copy does it. Which of these a network gives, its bundle says."""


@dataclass(frozen=True)
class Block:
    """Bytes of the arena."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Arena:
    """Byte offsets of everything."""

    encoders: tuple[dict[str, Block], ...]
    """Of each batch, the tensors of the two encoders: all but the maps are the same for every batch, as batches take
    turns. ``memory_key`` and ``memory_value`` are where slots wait to be copied into place; not there where the memory
    encoder writes straight into the bank."""
    decoders: tuple[dict[str, Block], ...]
    """Of each camera, the tensors of the read decoder."""
    upload: Block
    """What frames are sent as: the frame tensor, then ``memory_valid`` of each row."""
    landing: Block
    """Where an upload arrives while the tensors of the frames before are still in use; laid out like ``upload``."""
    results: Block
    """Of all cameras, ``camera_results`` bytes each; empty for networks without keypoint maps."""
    camera_results: int
    activations: Block
    """For TensorRT's intermediate tensors; the three engines take turns."""
    size: int

    def bank(self, camera: int, info: BundleInfo, address: int) -> MemoryBank:
        """A camera's memory bank, the arena being at an address."""
        keys, values = (self.decoders[camera][name] for name in ("memory_keys", "memory_values"))
        return MemoryBank(
            address + keys.start,
            address + values.start,
            info.slots,
            keys.size // info.slots,
            values.size // info.slots,
        )

    def batch_results(self, batch: int, size: int) -> Block:
        """The results of the cameras of a batch of a size; of the last one there may be fewer."""
        start = self.results.start + batch * size * self.camera_results
        return Block(start, min(size * self.camera_results, self.results.end - start))


def plan_arena(info: BundleInfo, activation_bytes: int, cameras: int = 1) -> Arena:
    """Lay out all tensors of a bundle's graphs for so many cameras.

    Raises BackendError where a row of a batch would not begin where TensorRT takes a tensor.
    """
    encoder, decoder, memory = (info.graphs[name] for name in ("query_encoder", "read_decoder", "memory_encoder"))
    batches = -(-cameras // info.batch)
    end = 0

    def place(specs: Iterable[TensorSpec]) -> dict[str, Block]:
        nonlocal end
        placed, end = _lay_out(specs, end)
        return placed

    valid = decoder.tensor("memory_valid")
    shared = place([encoder.tensor("frame")])
    flags = [place([valid])[valid.name] for _ in range(info.batch)]
    upload = Block(0, end)
    landing = Block(end, end)
    end = landing.end
    results_start, results_bytes = end, lay_out_results(info)[1]
    end += cameras * results_bytes
    results = Block(results_start, end - results_start)
    straight = info.batch == 1 and all(tensor_bytes(spec) % ADDRESS_ALIGNMENT == 0 for spec in memory.outputs)
    shared |= place([*encoder.outputs, *(() if straight else memory.outputs)])
    maps = [place([info.batch_of(decoder.tensor("maps"))])["maps"] for _ in range(batches)]
    banks = [place([decoder.tensor("memory_keys"), decoder.tensor("memory_values")]) for _ in range(cameras)]
    decoders = []
    for camera in range(cameras):
        batch, row = divmod(camera, info.batch)
        rows = {spec.name: _row(shared[spec.name], row, info) for spec in decoder.inputs if spec.name in shared}
        found = _moved(lay_out_results(info)[0], results.start + camera * results_bytes)
        own = {"memory_valid": flags[row], "maps": _row(maps[batch], row, info)}
        decoders.append(rows | found | banks[camera] | own)
    activations = Block(end, activation_bytes)
    return Arena(
        tuple({**shared, "maps": maps[batch]} for batch in range(batches)),
        tuple(decoders),
        upload,
        landing,
        results,
        results_bytes,
        activations,
        _aligned(activations.end),
    )


def lay_out_results(info: BundleInfo) -> tuple[dict[str, Block], int]:
    """Where each tensor of RESULTS that a bundle's network gives lies in their common memory, and the bytes of that."""
    specs = {spec.name: spec for spec in info.graphs["read_decoder"].outputs}
    return _lay_out((specs[name] for name in RESULTS if name in specs), 0)


def view_results(info: BundleInfo, results: NDArray[np.uint8]) -> Detections:
    """All results as they lie in these bytes, nothing copied; zeros for what the bundle's network does not give."""
    joints, edges, peaks = len(info.skeleton.joints), len(info.skeleton.edges), info.peaks
    missing = {
        "peaks": (joints, peaks, 3),
        "edge_scores": (edges, peaks, peaks),
        "previous": (info.slots, joints, peaks, 2),
        "centres": (0, 3),
        "centre_joints": (0, joints, 2),
    }
    arrays: dict[str, NDArray[np.float32]] = {}
    blocks, _ = lay_out_results(info)
    for name, shape in missing.items():
        if name in blocks:
            spec = info.graphs["read_decoder"].tensor(name)
            arrays[name] = results[blocks[name].start : blocks[name].end].view(spec.dtype).reshape(spec.shape)
        else:
            arrays[name] = np.zeros(shape, np.float32)
    return Detections(**arrays)


def tensor_bytes(spec: TensorSpec) -> int:
    """Bytes that a tensor takes."""
    return int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize


def _lay_out(specs: Iterable[TensorSpec], start: int) -> tuple[dict[str, Block], int]:
    """Tensors one after the other, and where the next one would begin."""
    placed: dict[str, Block] = {}
    for spec in specs:
        placed[spec.name] = Block(start, tensor_bytes(spec))
        start = _aligned(placed[spec.name].end)
    return placed, start


def _row(block: Block, row: int, info: BundleInfo) -> Block:
    """One camera's part of a batch's tensor."""
    size = block.size // info.batch
    if info.batch > 1 and size % ADDRESS_ALIGNMENT:
        raise BackendError(
            f"a row of {size} bytes in a batch of {info.batch} does not begin where TensorRT takes a tensor; export "
            "with another --size, or without --batch"
        )
    return Block(block.start + row * size, size)


def _moved(blocks: dict[str, Block], by: int) -> dict[str, Block]:
    return {name: Block(block.start + by, block.size) for name, block in blocks.items()}


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
