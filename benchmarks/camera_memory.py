"""GPU memory for 1, 2, 4 and 8 cameras, as a Markdown table. The engines are built but not run, so no GPU is needed.

python -m benchmarks.camera_memory BUNDLE... [--target sm86]

Buffers for frames, memory slots and results are exact. Weights are the size of the engines; activations are what
TensorRT-RTX plans for intermediate tensors. The memory that CUDA and TensorRT take for themselves is not included.
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
    """A row for each number of cameras: weights, total with a session for each camera, total with one group."""
    info = bundle.info
    weights = sum(spec.bytes for spec in engines.engines.values())
    activations = max(spec.activation_bytes or 0 for spec in engines.engines.values())
    # A bundle with a larger batch is never run by one session for each camera.
    separate = plan_arena(info, activations, 1).size if info.batch == 1 else None
    return [
        (
            *(f"`{info.variant}` {info.width}x{info.height}", info.precision, str(info.batch), str(cameras)),
            _megabytes(weights),
            "-" if separate is None else _megabytes(weights + cameras * separate),
            _megabytes(weights + plan_arena(info, activations, cameras).size),
        )
        for cameras in CAMERAS
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="GPU memory for several cameras, as a Markdown table.")
    parser.add_argument("bundles", nargs="+", help="shipped models or folders of bundles")
    parser.add_argument("--target", choices=RTX_TARGETS, default="sm86", help="GPU architecture")
    arguments = parser.parse_args()
    found: list[tuple[str, ...]] = []
    for path in arguments.bundles:
        bundle = Bundle.open(path)
        with TemporaryDirectory() as folder:
            found += rows(bundle, build_engines(bundle, arguments.target, Path(folder)).engines.info)
    header = ("network", "precision", "batch", "cameras", "weights, MB", "separate sessions, MB", "one group, MB")
    print(Table("Memory", header, found, left=3).markdown())


if __name__ == "__main__":
    main()
