"""GPU memory that 1, 2, 4 and 8 cameras take, as a Markdown table. Engines are built ahead of time, not run: no GPU.

python -m benchmarks.camera_memory BUNDLE... [--target sm86]

What is allocated for frames, memory and results is exact. Weights are the engines' bytes, activations what TensorRT-RTX
plans for intermediate tensors; what CUDA and TensorRT take for themselves is not in it.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from export.engines.build import build_engines
from runtime.backends.arena import plan_arena
from stm_skeletons.bundle import Bundle
from stm_skeletons.engines import RTX_TARGETS, EngineSet
from stm_skeletons.table import Table

CAMERAS = (1, 2, 4, 8)


def rows(bundle: Bundle, engines: EngineSet) -> list[tuple[str, ...]]:
    """For each number of cameras: weights, then all of it with a session for each, and in one group."""
    info = bundle.info
    weights = sum(spec.bytes for spec in engines.engines.values())
    activations = max(spec.activation_bytes or 0 for spec in engines.engines.values())
    alone = plan_arena(info, activations, 1).size if info.batch == 1 else None  # nobody would
    return [
        (
            *(f"`{info.variant}` {info.width}x{info.height}", info.precision, str(info.batch), str(cameras)),
            _megabytes(weights),
            "-" if alone is None else _megabytes(weights + cameras * alone),
            _megabytes(weights + plan_arena(info, activations, cameras).size),
        )
        for cameras in CAMERAS
    ]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="GPU memory of several cameras")
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--target", choices=RTX_TARGETS, default="sm86")
    arguments = parser.parse_args()
    found: list[tuple[str, ...]] = []
    for path in arguments.bundles:
        bundle = Bundle.open(path)
        with TemporaryDirectory() as folder:
            found += rows(bundle, build_engines(bundle, arguments.target, Path(folder)).engines.info)
    header = ("network", "precision", "batch", "cameras", "weights, MB", "a session each, MB", "one group, MB")
    print(Table("Memory", header, found, left=3).markdown())


if __name__ == "__main__":
    main()
