"""Our measurements in the form of the paper's Tables 1, 2 and 3, compared with the paper's figures."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stm_skeletons.files import atomic_write
from stm_skeletons.maps import SKELETON_CHANNEL
from stm_skeletons.table import Table
from training.ablation.paper import COCO, POSETRACK, TABLES, Figures
from training.evaluation.conditions import Conditions
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import Score
from training.evaluation.report import Report
from training.recipe import Recipe

_CAPTIONS = {
    "1": "The original STM with one map of all people's skeletons. Counted: pixels of the map binarised at 0.5.",
    "2": "Edges only. Counted: pixels of the edge maps binarised at 0.5.",
    "3": "Keypoints and edges. Counted: keypoints within 10 pixels of the closest prediction.",
    None: "Counted: keypoints within 10 pixels of the closest prediction.",
}
_START_TEXTS = {
    "seed": "from the labels of their first frame, which is not counted",
    "cold": "from an empty memory",
}
_HEADER = ("", *(f"{source} {figure}" for source in ("paper", "measured") for figure in ("precision", "recall", "F1")))


@dataclass(frozen=True)
class Measured:
    """A recipe and its results."""

    name: str
    recipe: Recipe
    reports: dict[str, list[Report]]
    """By kind of data, one report for each seed."""


@dataclass(frozen=True)
class Row:
    """A row of a table, in percent."""

    recipe: str
    label: str
    data: str
    paper: Figures | None
    seeds: tuple[Figures, ...]
    """Precision, recall and F1 of each seed."""

    def cells(self) -> list[str]:
        """The cells under _HEADER."""
        paper = ["-"] * 3 if self.paper is None else [f"{figure:.1f}" for figure in self.paper]
        return [self.label, *paper, *map(_spread, zip(*self.seeds, strict=True))]


def write_tables(measured: Sequence[Measured], seeds: Sequence[int], conditions: Conditions, out: Path) -> Path:
    """Write tables.md and tables.json into ``out``; returns the path of tables.md. Raises SinkError."""
    lines = _preface(measured, seeds, conditions)
    rows: list[Row] = []
    for table in ("1", "2", "3", None):
        entries = [entry for entry in measured if entry.recipe.table == table]
        if not entries:
            continue
        lines += ["", f"## {f'Table {table}' if table else 'Other recipes'}", "", _CAPTIONS[table], ""]
        for kind in entries[0].reports:
            table_rows = [_row(entry, kind) for entry in entries]
            rows += table_rows
            markdown = Table("", _HEADER, [row.cells() for row in table_rows]).markdown()
            lines += [f"Measured on {entries[0].reports[kind][0].data}:", "", markdown, ""]
    with atomic_write(out / "tables.json") as partial:
        partial.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    with atomic_write(out / "tables.md") as partial:
        partial.write_text("\n".join(lines).rstrip() + "\n")
    return out / "tables.md"


def _preface(measured: Sequence[Measured], seeds: Sequence[int], conditions: Conditions) -> list[str]:
    sizes = sorted({f"{entry.recipe.data.width}x{entry.recipe.data.height}" for entry in measured})
    widths = sorted({f"{entry.recipe.model.width:g}" for entry in measured})
    lengths = sorted({entry.recipe.optimiser.length for entry in measured})
    pseudo = any(report.pseudo for entry in measured for reports in entry.reports.values() for report in reports)
    text = [
        "# Ablation",
        "",
        f"Mean and standard deviation over {len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({_listed(seeds)}), in "
        f"percent, with the weights after the last step. Network input: {_listed(sizes)}. Share of the paper's "
        f"channels: {_listed(widths)}. Length of training: {_listed(lengths)}, after the recipe that `after` names.",
        "",
        "The paper's figures come from its full-size network, trained for epochs on all of COCO and PoseTrack18 and "
        "evaluated there. If size, data or length differ, compare only the order of the rows, not the numbers.",
        "",
        f"Sequences start {_START_TEXTS[conditions.start]}. "
        "Keypoint figures use each run's best threshold on these data, which flatters all runs alike.",
    ]
    return [*text, "", "Some labels were made by a teacher network, not by people."] if pseudo else text


def _row(entry: Measured, kind: str) -> Row:
    recipe = entry.recipe
    data = COCO if kind == "coco" else POSETRACK
    paper = TABLES.get(recipe.table or "", {}).get(data, {}).get(recipe.row or "")
    scores = [_score(next(iter(report.evaluations.values())), recipe) for report in entry.reports[kind]]
    figures = tuple((100 * score.precision, 100 * score.recall, 100 * score.f1) for score in scores)
    return Row(entry.name, f"{recipe.row} (`{entry.name}`)" if recipe.row else f"`{entry.name}`", kind, paper, figures)


def _score(evaluation: Evaluation, recipe: Recipe) -> Score:
    if recipe.table == "1":
        return evaluation.pixel_scores()[SKELETON_CHANNEL]
    if recipe.table == "2":
        return evaluation.pixel_scores()["edges"]
    return evaluation.best("closest")


def _spread(figures: Sequence[float]) -> str:
    known = [figure for figure in figures if not math.isnan(figure)]
    if not known:
        return "-"
    mean = f"{statistics.mean(known):.1f}"
    return f"{mean} ± {statistics.stdev(known):.1f}" if len(known) > 1 else mean


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
