"""What was measured in the form of the paper's Tables 1, 2 and 3, beside the paper's figures."""

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
from training.evaluation.candidates import Conditions
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import Score
from training.evaluation.report import Report
from training.recipe import Recipe

_CAPTIONS = {
    "1": "The original STM with one map of all people's skeletons; pixels of the map binarised at 0.5.",
    "2": "Edges only; pixels of the edge maps binarised at 0.5.",
    "3": "Keypoints and edges; keypoints within 10 pixels of the closest prediction.",
    None: "Keypoints within 10 pixels of the closest prediction.",
}
_HEADER = ("", *(f"{whose} {figure}" for whose in ("paper", "measured") for figure in ("precision", "recall", "F1")))


@dataclass(frozen=True)
class Measured:
    """A recipe and what it came to."""

    name: str
    recipe: Recipe
    reports: dict[str, list[Report]]
    """By kind of data, one report a seed."""


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
        """As a row under _HEADER."""
        paper = ["-"] * 3 if self.paper is None else [f"{figure:.1f}" for figure in self.paper]
        return [self.label, *paper, *map(_spread, zip(*self.seeds, strict=True))]


def write_tables(measured: Sequence[Measured], seeds: Sequence[int], conditions: Conditions, out: Path) -> Path:
    """Write tables.md and tables.json into ``out`` and return the former. Raises SinkError."""
    lines = _preface(measured, seeds, conditions)
    rows: list[Row] = []
    for table in ("1", "2", "3", None):
        entries = [entry for entry in measured if entry.recipe.table == table]
        if not entries:
            continue
        lines += ["", f"## {f'Table {table}' if table else 'Other recipes'}", "", _CAPTIONS[table], ""]
        for kind in entries[0].reports:
            found = [_row(entry, kind) for entry in entries]
            rows += found
            shown = Table("", _HEADER, [row.cells() for row in found]).markdown()
            lines += [f"Measured on {entries[0].reports[kind][0].data}:", "", shown, ""]
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
        f"percent, of weights after the last step. Network input {_listed(sizes)}, share of the paper's channels "
        f"{_listed(widths)}, trained for {_listed(lengths)} (and before that what each recipe's `after` says).",
        "",
        "The paper's figures come from its full-size network, trained for epochs on all of COCO and PoseTrack18 and "
        "measured there. Where size, data or length differ, only the order of rows can be compared, not the numbers.",
        "",
        f"Sequences are started {'by ground truth, which is not counted' if conditions.start == 'seed' else 'cold'}. "
        "Keypoint figures are at the threshold that is best on these very data, for each run: this flatters all alike.",
    ]
    return [*text, "", "Some labels were written by a teacher network, not by people."] if pseudo else text


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
