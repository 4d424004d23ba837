"""Layers, memory, size and build time of bundles' TensorRT-RTX engines, as a Markdown table.

The engines are built but not run, so no GPU is needed.

python -m benchmarks.engine_table BUNDLE... [--targets sm75 sm86 ...] [--layers read_decoder]
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from export.engines.build import RTX_TARGETS, Report, build_engines
from export.engines.log import layer_name
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import StmError
from stm_skeletons.table import Table

_HEADER = (
    *("network", "precision", "graph", "target"),
    *("layers before", "after", "activations, MB", "engine, MB", "build, s"),
)


def rows(bundle: Bundle, report: Report) -> list[tuple[str, ...]]:
    """One row for each graph."""
    info = report.engines.info
    return [
        (
            *(f"`{bundle.info.variant}`", info.precision, name, info.target),
            *(str(spec.layers_before), str(spec.layers_after or "-")),
            *(_megabytes(spec.activation_bytes), _megabytes(spec.bytes), f"{spec.seconds:.1f}"),
        )
        for name, spec in info.engines.items()
    ]


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Layers, planned memory, size and build time of ahead-of-time engines, as a Markdown table."
    )
    parser.add_argument("bundles", nargs="+", help="shipped models or folders of bundles")
    parser.add_argument(
        "--targets",
        nargs="+",
        choices=RTX_TARGETS,
        default=["sm75", "sm86", "sm89", "sm120"],
        help="GPU architectures to build for",
    )
    parser.add_argument("--layers", metavar="GRAPH", help="also print the names of this graph's layers after fusion")
    arguments = parser.parse_args()
    found: list[tuple[str, ...]] = []
    for path in arguments.bundles:
        for target in arguments.targets:
            try:
                bundle = Bundle.open(path)
                with TemporaryDirectory() as folder:
                    report = build_engines(bundle, target, Path(folder))
            except StmError as error:
                print(f"{path}, {target}: {error}", file=sys.stderr)
                continue
            found += rows(bundle, report)
            if arguments.layers:
                print(
                    *(layer_name(line) for line in report.layers.get(arguments.layers, [])), sep="\n", file=sys.stderr
                )
    print(Table("Engines", _HEADER, found, left=4).markdown())


if __name__ == "__main__":
    main()
