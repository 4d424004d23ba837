"""What a comparison found, as a file: compare.json, and as tables."""

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
from stm_skeletons.files import atomic_write, make_folder
from stm_skeletons.strict import Strict
from stm_skeletons.table import Table

FILE_NAME = "compare.json"


PLOTS = {"ratios.png": "Ratios of times", "times.png": "Times over the frames"}
HOW = (
    "Each frame goes through all of them in turn, the first one another each time; ratios are frame by frame, with the "
    "95 % confidence interval of their median. F1 is keypoint F1 from a cold start, clean and with a moving occluder, "
    "each at its best threshold on these data."
)


class ArmResult(Strict):
    """One of the things that were compared."""

    name: str
    what: str = Field(description="What is timed.")
    threads: int
    sha256: str = Field(description="Of bundle.json, of the weights or of the ONNX file.")
    latency: Summary = Field(description="Milliseconds a frame.")
    ratio: Ratio = Field(description="Of its times to the first one's, frame by frame.")
    f1: list[F1] = Field(description="Keypoint F1 at its best threshold on these data; empty where not measured.")
    warm_up: list[float] = Field(description="Milliseconds of the first frames, which do not count.")
    times: list[float] = Field(description="Milliseconds of every frame that counts.")


class Comparison(Strict):
    """Several ways of doing the same, in turn on the same frames. Decoding is not timed."""

    model_config = ConfigDict(title="STM-skeletons comparison of speed")

    format: Literal[1] = 1
    environment: Environment
    after: State
    frames: int
    stopped_early: bool
    arms: list[ArmResult]


def tables(comparison: Comparison) -> list[Table]:
    """The comparison as text: speed with accuracy beside it, what each is, the machine."""
    title = f"{comparison.frames} frames of {comparison.environment.source} in turn; ms; ratios to the first"
    header = ("what", "ratio of times", "mean", "p50", "p90", "p99", "max")
    speed = Table(title, header, [_row(arm) for arm in comparison.arms])
    arms = [(arm.name, str(arm.threads), arm.what, arm.sha256[:16]) for arm in comparison.arms]
    what = Table("What is timed", ("name", "threads", "what", "SHA-256"), arms, left=4)
    return [speed, _accuracy(comparison), what, environment_table(comparison.environment, comparison.after)]


def comparison_markdown(comparison: Comparison, plots: bool) -> str:
    """The comparison as Markdown; ``plots``: shows the pictures that lie beside it."""
    parts = [f"# {' and '.join(arm.name for arm in comparison.arms)}", HOW]
    parts += [table.section() for table in tables(comparison)]
    parts += [f"![{caption}]({name})" for name, caption in PLOTS.items()] if plots else [NO_PLOTS]
    return "\n\n".join(parts) + "\n"


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write compare.json and compare.md, each whole or not at all; the folder is made. Raises SinkError."""
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
    title = "Accuracy" if rows else "Accuracy: not measured, --data does"
    return Table(title, ("what", *F1_HEADER), rows or [(UNKNOWN,) * (1 + len(F1_HEADER))], left=2)
