"""Where every tensor lies in one piece of device memory: allocated once, so nothing moves and nothing fragments."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from runtime.bank import ALIGNMENT
from stm_skeletons.bundle import BundleInfo, TensorSpec
from stm_skeletons.detections import Detections

UPLOAD = ("frame", "memory_valid")
"""What a frame sends to the device, adjacent so that one copy does it."""
RESULTS = tuple(field.name for field in fields(Detections))
"""What a frame brings back, likewise. Which of these a network gives, its bundle says."""


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
    """Byte offsets of everything; each tensor and block begins at a multiple of 256."""

    tensors: dict[str, Block]
    landing: Block
    """Where an upload arrives, while the tensors of the previous frame are still in use; laid out like ``upload``."""
    upload: Block
    """Spans the tensors of UPLOAD."""
    results: Block
    """Spans the tensors of RESULTS as ``lay_out_results`` has them; empty for networks without keypoint maps."""
    activations: Block
    """For TensorRT's intermediate tensors; the three engines take turns."""
    size: int

    def in_upload(self, name: str) -> Block:
        """Where a tensor of UPLOAD lies within the upload and the landing."""
        return Block(self.tensors[name].start - self.upload.start, self.tensors[name].size)


def plan_arena(info: BundleInfo, activation_bytes: int) -> Arena:
    """Lay out all tensors of a bundle's graphs; the memory encoder's outputs lie in the bank and have no place here."""
    specs: dict[str, TensorSpec] = {}
    for graph in ("query_encoder", "read_decoder"):
        for spec in (*info.graphs[graph].inputs, *info.graphs[graph].outputs):
            specs.setdefault(spec.name, spec)
    tensors: dict[str, Block] = {}

    def place(names: Iterable[str], start: int) -> int:
        placed, end = _lay_out((specs[name] for name in names), start)
        tensors.update(placed)
        return end

    upload_end = place(UPLOAD, 0)
    results_end = place(lay_out_results(info)[0], upload_end)
    landing = Block(results_end, upload_end)
    others = [name for name in specs if name not in tensors]
    others_end = place(others, _aligned(landing.end))
    activations = Block(others_end, activation_bytes)
    return Arena(
        tensors,
        landing,
        Block(0, upload_end),
        Block(upload_end, results_end - upload_end),
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


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
