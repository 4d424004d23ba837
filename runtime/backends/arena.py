"""Where every tensor lies in one piece of device memory: allocated once, so nothing moves and nothing fragments."""

from dataclasses import dataclass

import numpy as np

from runtime.bank import ALIGNMENT
from stm_skeletons.bundle import BundleInfo, TensorSpec

UPLOAD = ("frame", "memory_valid")
"""What a frame sends to the device, adjacent so that one copy does it."""
RESULTS = ("peaks", "edge_scores")
"""What a frame brings back, likewise."""


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
    """Spans the tensors of RESULTS; empty for networks without keypoint maps."""
    activations: Block
    """For TensorRT's intermediate tensors; the three engines take turns."""
    size: int

    def in_upload(self, name: str) -> Block:
        """Where a tensor of UPLOAD lies within the upload and the landing."""
        return Block(self.tensors[name].start - self.upload.start, self.tensors[name].size)

    def in_results(self, name: str) -> Block:
        """Where a tensor of RESULTS lies within the results."""
        return Block(self.tensors[name].start - self.results.start, self.tensors[name].size)


def plan_arena(info: BundleInfo, activation_bytes: int) -> Arena:
    """Lay out all tensors of a bundle's graphs; the memory encoder's outputs lie in the bank and have no place here."""
    specs: dict[str, TensorSpec] = {}
    for graph in ("query_encoder", "read_decoder"):
        for spec in (*info.graphs[graph].inputs, *info.graphs[graph].outputs):
            specs.setdefault(spec.name, spec)
    results = [name for name in RESULTS if name in specs]
    others = [name for name in specs if name not in (*UPLOAD, *results)]
    tensors: dict[str, Block] = {}

    def place(names: list[str] | tuple[str, ...], start: int) -> int:
        for name in names:
            tensors[name] = Block(start, tensor_bytes(specs[name]))
            start = _aligned(tensors[name].end)
        return start

    upload_end = place(UPLOAD, 0)
    results_end = place(results, upload_end)
    landing = Block(results_end, upload_end)
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


def tensor_bytes(spec: TensorSpec) -> int:
    """Bytes that a tensor takes."""
    return int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
