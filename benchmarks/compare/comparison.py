"""The result of a comparison: compare.json, compare.md and tables."""

import json
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from benchmarks.compare.ratios import Ratio
from benchmarks.run.bench_files import NO_PLOTS, can_plot
from benchmarks.run.bench_report import F1
from benchmarks.run.bench_tables import F1_HEADER, UNKNOWN, environment_table, f1_row
from benchmarks.run.environment import Environment, State
from benchmarks.run.latency import Summary
from benchmarks.run.notes import F1_MISSING
from stm_skeletons.files import atomic_write, make_folder
from stm_skeletons.strict import Strict
from stm_skeletons.table import Table

FILE_NAME = "compare.json"


PLOTS = {"ratios.png": "Time ratios", "times.png": "Time per frame"}
HOW = (
    "Every frame is run by all variants before the next frame; the variant that starts rotates. Ratios are computed "
    "frame by frame and given as median with 95% confidence interval. F1 is keypoint F1 from a cold start, clean and "
    "with a moving occluder, each variant at its best threshold on these data."
)


class ArmResult(Strict):
    """Result of one of the compared variants."""

    name: str
    what: str = Field(description="Description of what is timed.")
    threads: int
    sha256: str = Field(description="Hash of bundle.json, of the weights or of the ONNX file.")
    latency: Summary = Field(description="Time per frame.")
    ratio: Ratio = Field(description="Ratio of the variant's times to those of the first variant, frame by frame.")
    f1: list[F1] = Field(description="Keypoint F1 at the best threshold on these data; empty if not measured.")
    warm_up: list[float] = Field(description="Times of the warm-up frames, in milliseconds.")
    times: list[float] = Field(description="Times of the timed frames, in milliseconds.")


class Comparison(Strict):
    """Times of several variants, interleaved on the same frames. Decoding is not timed."""

    model_config = ConfigDict(title="STM-skeletons comparison of speed")

    format: Literal[1] = 1
    environment: Environment
    after: State
    frames: int
    stopped_early: bool
    arms: list[ArmResult]


def tables(comparison: Comparison) -> list[Table]:
    """Tables of the speed, the accuracy, the variants and the machine."""
    title = f"Time per frame in ms, {comparison.frames} frames of {comparison.environment.source}, interleaved"
    header = ("variant", "ratio to the first", "mean", "p50", "p90", "p99", "max")
    speed = Table(title, header, [_row(arm) for arm in comparison.arms])
    arms = [(arm.name, str(arm.threads), arm.what, arm.sha256[:16]) for arm in comparison.arms]
    variants = Table("Variants", ("variant", "threads", "what is timed", "SHA-256"), arms, left=4)
    return [speed, _accuracy(comparison), variants, environment_table(comparison.environment, comparison.after)]


def notes(comparison: Comparison) -> list[str]:
    """Notes on what the tables lack."""
    return [] if any(arm.f1 for arm in comparison.arms) else [F1_MISSING]


def comparison_markdown(comparison: Comparison, plots: bool) -> str:
    """The comparison as Markdown; ``plots``: whether to show the plots in the same folder."""
    parts = [f"# {' and '.join(arm.name for arm in comparison.arms)}", HOW]
    parts += [table.section() for table in tables(comparison) if table.rows]
    parts += notes(comparison)
    parts += [f"![{caption}]({name})" for name, caption in PLOTS.items()] if plots else [NO_PLOTS]
    return "\n\n".join(parts) + "\n"


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write compare.json and compare.md atomically; creates the folder. Raises SinkError."""
    make_folder(folder)
    texts = {
        FILE_NAME: json.dumps(comparison.model_dump(mode="json"), allow_nan=False, separators=(",", ":")) + "\n",
        "compare.md": comparison_markdown(comparison, can_plot()),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def _row(arm: ArmResult) -> tuple[str, ...]:
    shown = (arm.latency.mean, arm.latency.p50, arm.latency.p90, arm.latency.p99, arm.latency.max)
    return arm.name, str(arm.ratio), *(UNKNOWN if value is None else f"{value:.1f}" for value in shown)


def _accuracy(comparison: Comparison) -> Table:
    rows = [(arm.name, *row) for arm in comparison.arms for row in map(f1_row, arm.f1)]
    return Table("Accuracy", ("variant", *F1_HEADER), rows, left=2)
