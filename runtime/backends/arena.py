"""Layout of all tensors in one block of device memory, allocated once, so nothing moves or fragments."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from runtime.bank import ADDRESS_ALIGNMENT, MemoryBank
from stm_skeletons.bundle import BundleInfo, TensorSpec
from stm_skeletons.detections import Detections
from stm_skeletons.errors import BackendError

ALIGNMENT = 512
"""Bytes; every block starts at a multiple of it. Tensors need ADDRESS_ALIGNMENT, activation memory needs CUDA's texture
alignment (ICudaEngine::createExecutionContextWithoutDeviceMemory)."""
RESULTS = tuple(field.name for field in fields(Detections))
"""A frame's results, adjacent so that one copy fetches them. The bundle says which of these a network gives."""


@dataclass(frozen=True)
class Block:
    """A byte range of the arena."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Arena:
    """Byte offsets of all tensors."""

    encoders: tuple[dict[str, Block], ...]
    """Tensors of the two encoders, for each batch. All but the maps are shared, because batches run one after the
    other. ``memory_key`` and ``memory_value`` hold slots before they are copied into place; they are absent if the
    memory encoder writes directly into the bank."""
    decoders: tuple[dict[str, Block], ...]
    """Tensors of the read decoder, for each camera."""
    upload: Block
    """Format of uploads: the frame tensor, then ``memory_valid`` of each row."""
    landing: Block
    """Target of uploads while tensors of the previous frames are still in use; laid out like ``upload``."""
    results: Block
    """Results of all cameras, ``camera_results`` bytes each; empty for networks without keypoint maps."""
    camera_results: int
    activations: Block
    """TensorRT's intermediate tensors; the three engines share it, because they run one after the other."""
    size: int

    def bank(self, camera: int, info: BundleInfo, address: int) -> MemoryBank:
        """Return a camera's memory bank for an arena at this address."""
        keys, values = (self.decoders[camera][name] for name in ("memory_keys", "memory_values"))
        return MemoryBank(
            address + keys.start,
            address + values.start,
            info.slots,
            keys.size // info.slots,
            values.size // info.slots,
        )

    def batch_results(self, batch: int, size: int) -> Block:
        """Return the results block of a batch; the last batch may have fewer cameras."""
        start = self.results.start + batch * size * self.camera_results
        return Block(start, min(size * self.camera_results, self.results.end - start))


def plan_arena(info: BundleInfo, activation_bytes: int, cameras: int = 1) -> Arena:
    """Lay out all tensors of a bundle's graphs for ``cameras`` cameras.

    Raises BackendError if a row of a batch would not be aligned as TensorRT requires.
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
    direct = info.batch == 1 and all(tensor_bytes(spec) % ADDRESS_ALIGNMENT == 0 for spec in memory.outputs)
    shared |= place([*encoder.outputs, *(() if direct else memory.outputs)])
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
    """Return the blocks of the tensors of RESULTS that the network gives, from offset 0, and their total size."""
    specs = {spec.name: spec for spec in info.graphs["read_decoder"].outputs}
    return _lay_out((specs[name] for name in RESULTS if name in specs), 0)


def view_results(info: BundleInfo, results: NDArray[np.uint8]) -> Detections:
    """Return a view of all results in these bytes, without copying; zeros for tensors the network does not give."""
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
    """Return a tensor's size in bytes."""
    return int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize


def _lay_out(specs: Iterable[TensorSpec], start: int) -> tuple[dict[str, Block], int]:
    """Place tensors one after the other; return their blocks and the next free offset."""
    placed: dict[str, Block] = {}
    for spec in specs:
        placed[spec.name] = Block(start, tensor_bytes(spec))
        start = _aligned(placed[spec.name].end)
    return placed, start


def _row(block: Block, row: int, info: BundleInfo) -> Block:
    """One camera's part of a batched tensor."""
    size = block.size // info.batch
    if info.batch > 1 and size % ADDRESS_ALIGNMENT:
        raise BackendError(
            f"a row of {size} bytes in a batch of {info.batch} is not aligned as TensorRT requires; export with "
            "another --size, or without --batch"
        )
    return Block(block.start + row * size, size)


def _moved(blocks: dict[str, Block], by: int) -> dict[str, Block]:
    return {name: Block(block.start + by, block.size) for name, block in blocks.items()}


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
