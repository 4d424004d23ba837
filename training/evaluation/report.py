"""Evaluations as a table on the terminal, JSON, Markdown, CSV and PNG."""

import csv
import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stm_skeletons.errors import SinkError
from stm_skeletons.files import whole_file
from training.evaluation.against import EARLY, LATE, Against, against, recall_in
from training.evaluation.evaluate import Evaluation
from training.evaluation.keypoints import MATCHINGS, RADIUS, Matching, Score
from training.evaluation.people_tables import TextTable, joint_table, people_figures, people_tables, people_texts
from training.evaluation.pixels import LEVEL
from training.evaluation.steadiness import (
    FOUND_JOINTS,
    WALKS_IN_AFTER,
    compare_walk_ins,
    flicker_at_recall,
    median_delay,
)
from training.evaluation.texts import interval_text, number_text

MATCHING_NAMES: dict[Matching, str] = {"closest": "closest (paper)", "one_to_one": "one to one"}
START_TEXTS = {
    "seed": "Start: the special case that the people of each sequence's first frame are given (seed), as in the paper, "
    "which no camera does; that frame is not counted, and where nobody is labelled in it, the sequence starts cold.",
    "cold": "Start: with an empty memory (cold), and every frame counts.",
}
# Okabe and Ito's colours, which the colour-blind tell apart, and three more; then the same with other lines.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#8C564B", "#7F7F7F", "#6A3D9A"),
)
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Report:
    """What a report is about."""

    title: str
    data: str
    """Name of the data, for the reader."""
    evaluations: dict[str, Evaluation]
    """By the name of what was evaluated; at least one."""
    pseudo: bool = False
    """The labels were written by a teacher network, not by people."""
    threshold: float | None = None
    """Chosen elsewhere; None: the best on these data, for each evaluation and matching."""
    thresholds: Mapping[str, Mapping[Matching, float]] | None = None
    """In place of ``threshold``, chosen elsewhere for each name and matching."""
    precision: float | None = None
    """In place of the best F1, the lowest threshold with this precision."""
    thresholds_from: str | None = None
    """Where ``thresholds`` were read, for the reader."""
    alone: Mapping[str, str] = field(default_factory=dict)
    """By name, the name of the same network without memory, which flicker and walk-ins are compared with."""

    def score(self, name: str, matching: Matching) -> Score:
        """The overall keypoint score that is reported."""
        evaluation = self.evaluations[name]
        threshold = self.threshold if self.thresholds is None else self.thresholds[name][matching]
        return evaluation.chosen(matching, self.precision) if threshold is None else evaluation.at(threshold, matching)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of each network and of one of its controls."""
        networks = {alone: name for name, alone in reversed(list(self.alone.items()))}  # the first one
        return [(networks[alone], name) for name, alone in self.alone.items() if name != networks[alone]]

    @property
    def with_keypoints(self) -> list[str]:
        """Names of those that have keypoint maps."""
        return [name for name, evaluation in self.evaluations.items() if evaluation.keypoints is not None]


def write_report(report: Report, folder: Path) -> None:
    """Write report.json and report.md, and of networks with keypoint maps recall_over_time.csv and .png (Figure 7) and
    thresholds.png, each whole or not at all; the folder is made.

    Raises:
        SinkError: the folder or a file cannot be written.
        DataError: nothing was counted at the report's threshold.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    with whole_file(folder / "report.json") as partial:
        partial.write_text(json.dumps(_without_nan(_as_json(report)), allow_nan=False), encoding="utf-8")
    with whole_file(folder / "report.md") as partial:
        partial.write_text(report_markdown(report), encoding="utf-8")
    if not report.with_keypoints:
        return
    with (
        whole_file(folder / "recall_over_time.csv") as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows(_recall_rows(report))
    for name, figure in (("recall_over_time", _recall_figure(report)), ("thresholds", _threshold_figure(report))):
        with whole_file(folder / f"{name}.png") as partial:
            figure.savefig(partial, dpi=150)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the overall figures as tables."""
    console = console or Console()
    for caption, header, left, rows in (
        ("Keypoints", _KEYPOINT_HEADER, 2, _keypoint_rows(report)),
        *_further_tables(report),
        ("Pixels", _PIXEL_HEADER, 2, _pixel_rows(report)),
    ):
        if rows:
            table = Table(title=Text(f"{report.title}: {caption}"))
            for column, heading in enumerate(header):
                table.add_column(heading, justify="left" if column < left else "right")
            for row in rows:
                table.add_row(*map(Text, row))
            console.print(table)
    for line in _measured(report):
        console.print(Text(line))


def report_markdown(report: Report) -> str:
    """The report as Markdown; it shows the figures that lie beside it."""
    parts = [f"# {report.title}", "\n".join(f"- {line}" for line in _measured(report))]
    parts.append(_markdown_table(_RUN_HEADER, _run_rows(report), left=4))
    if report.with_keypoints:
        parts += ["## Keypoints", _markdown_table(_KEYPOINT_HEADER, _keypoint_rows(report))]
        parts += ["![Recall by frame number](recall_over_time.png)", "![Threshold sweep](thresholds.png)"]
    for caption, header, left, rows in _further_tables(report):
        if rows:
            parts += [f"## {caption}", _markdown_table(header, rows, left)]
    parts += ["## Pixels", _markdown_table(_PIXEL_HEADER, _pixel_rows(report))]
    for name, evaluation in report.evaluations.items():
        caption, header, left, rows = joint_table(evaluation)
        if rows:
            parts += [f"## {name}: {caption}", _markdown_table(header, rows, left)]
    for name in report.with_keypoints:
        parts += [f"## {name}: joint by joint", _markdown_table(_JOINT_HEADER, _joint_rows(report, name), left=1)]
        parts += [f"## {name}: threshold sweep", _markdown_table(_SWEEP_HEADER, _sweep_rows(report, name), left=0)]
    return "\n\n".join(parts) + "\n"


def _measured(report: Report) -> list[str]:
    """What is measured and how, in sentences."""
    labels = "pseudo labels, written by a teacher network and not by people" if report.pseudo else "the data set's own"
    lines = [f"Data: {report.data}; labels: {labels}."]
    units = sorted({evaluation.unit for evaluation in report.evaluations.values()})
    if report.with_keypoints:
        joints = sorted({len(report.evaluations[name].overall_joints) for name in report.with_keypoints})
        lines += [
            f"Keypoints: right within {RADIUS:g} pixels of the label ({'; '.join(units)}), over the "
            f"{' or '.join(map(str, joints))} body joints that the data label.",
            "Closest (the paper's matching): a label is found when the closest prediction is within the radius; one "
            "prediction may serve several labels. One to one: a prediction serves one label.",
            _threshold_text(report),
        ]
    if report.pairs:
        lines.append(
            "Against controls, one to one: what the network has more than each of its controls, and how much more "
            "precise it is at the threshold where it finds as much; intervals are of the same sequences for both."
        )
    if any(evaluation.pairs is not None for evaluation in report.evaluations.values()):
        lines.append(
            "Right pairs of edges: an edge's score from a person's first joint to the same person's second is higher "
            "than that to another person's second, where both people's joints can be seen."
        )
    if any(evaluation.steadiness is not None for evaluation in report.evaluations.values()):
        lines += _steadiness_texts(report)
    lines += people_texts(report.evaluations)
    lines.append(f"Pixels: cells of the maps (4 x 4 network pixels), prediction and truth binarised at {LEVEL:g}.")
    lines.append("95 %: bootstrap interval over sequences; it tells nothing about another training of a network.")
    starts = {evaluation.start for evaluation in report.evaluations.values()}
    return lines + [text for start, text in START_TEXTS.items() if start in starts]


def _threshold_text(report: Report) -> str:
    if report.threshold is not None:
        return f"Threshold: {report.threshold:g}, chosen beforehand."
    best = "the one with the best F1"
    if report.precision is not None:
        best = f"the lowest one with a precision of {report.precision:g} (the most precise one where there is none)"
    if report.thresholds is not None:
        return f"Threshold: for each network {best} on other data ({report.thresholds_from})."
    return f"Threshold: {best} on these very data, so somewhat flattering."


def _steadiness_texts(report: Report) -> list[str]:
    lines = [
        "Flicker: parts that are there, or missing, in a single frame only (none of that joint within "
        f"{RADIUS:g} pixels in either frame beside it, or in it), for each part seen; recall is one to one.",
        f"Walk-ins: people first labelled after frame {WALKS_IN_AFTER}; found with {FOUND_JOINTS} of their joints, or "
        f"half of fewer than {2 * FOUND_JOINTS}.",
    ]
    if report.alone:
        lines.append(
            "Against memory off: the same network without memory. Flicker at equal recall is interpolated over the "
            "thresholds. Delays are over the walk-ins that either finds; inf: found only without memory, -inf: only "
            "with it."
        )
    return lines


_RUN_HEADER = ("name", "start", "joints", "distances in", "sequences", "of them seeded", "frames counted")


def _run_rows(report: Report) -> list[list[str]]:
    return [
        [
            name,
            evaluation.start,
            evaluation.skeleton.name,
            evaluation.unit,
            str(len(evaluation.sequences)),
            str(sum(sequence.seeded for sequence in evaluation.sequences)),
            str(evaluation.frames),
        ]
        for name, evaluation in report.evaluations.items()
    ]


_KEYPOINT_HEADER = ("name", "matching", "threshold", "precision", "recall", "F1", "95 %", "recall of hidden")


def _keypoint_rows(report: Report) -> list[list[str]]:
    rows = []
    for name in report.with_keypoints:
        for matching in MATCHINGS:
            evaluation, score = report.evaluations[name], report.score(name, matching)
            interval = interval_text(evaluation.interval(score.threshold, matching))
            hidden = number_text(evaluation.hidden_recall(score.threshold, matching))
            rows.append([name, MATCHING_NAMES[matching], f"{score.threshold:g}", *_numbers(score), interval, hidden])
    return rows


def _further_tables(report: Report) -> list[TextTable]:
    """As people_tables."""
    return [
        ("Against controls", _AGAINST_HEADER, 2, _against_rows(report)),
        ("Recall as time goes on", _TIME_HEADER, 1, _time_rows(report)),
        *people_tables(report.evaluations),
        ("Right pairs of edges", _PAIR_HEADER, 1, _pair_rows(report)),
        ("Flicker", _FLICKER_HEADER, 1, _flicker_rows(report)),
        ("Walk-ins", _WALK_IN_HEADER, 1, _walk_in_rows(report)),
    ]


_AGAINST_HEADER = (
    *("name", "against", "F1 more by", "95 %", "recall of hidden more by"),
    *("at its recall precision more by", "95 %"),
)


def _against_rows(report: Report) -> list[list[str]]:
    return [
        [
            *(name, control, number_text(found.f1), interval_text(found.f1_interval)),
            *(number_text(found.hidden_recall), number_text(found.precision)),
            interval_text(found.precision_interval),
        ]
        for name, control in report.pairs
        for found in [_against(report, name, control)]
    ]


def _against(report: Report, name: str, control: str) -> Against:
    ours, theirs = (report.evaluations[row] for row in (name, control))
    threshold, other = (report.score(row, "one_to_one").threshold for row in (name, control))
    return against(ours, threshold, theirs, other, "one_to_one")


_TIME_HEADER = ("name", f"frames {EARLY[0]} to {EARLY[1] - 1}", f"frames {LATE[0]} to {LATE[1] - 1}")


def _time_rows(report: Report) -> list[list[str]]:
    return [[name, *map(number_text, _recalls_in_time(report, name))] for name in report.with_keypoints]


def _recalls_in_time(report: Report, name: str) -> list[float]:
    threshold = report.score(name, "one_to_one").threshold
    return [recall_in(report.evaluations[name], part, threshold, "one_to_one") for part in (EARLY, LATE)]


_PAIR_HEADER = ("name", "pairs", "right", "95 %")


def _pair_rows(report: Report) -> list[list[str]]:
    rows = []
    for name, evaluation in report.evaluations.items():
        if evaluation.pairs is not None:
            pairs, share, interval = evaluation.right_pairs()
            rows.append([name, str(pairs), number_text(share), interval_text(interval)])
    return rows


_FLICKER_HEADER = ("name", "threshold", "recall", "parts", "flicker", "flicker at memory off's recall", "its flicker")


def _flicker_rows(report: Report) -> list[list[str]]:
    return [
        [
            name,
            f"{figures['threshold']:g}",
            number_text(figures["recall"]),
            str(figures["parts"]),
            number_text(figures["flicker"]),
            number_text(figures.get("flicker_at_equal_recall", math.nan)),
            number_text(figures.get("flicker_of_memory_off", math.nan)),
        ]
        for name in report.evaluations
        if (figures := _steadiness_figures(report, name))
    ]


_WALK_IN_HEADER = (
    *("name", "walk-ins", "never found", "median delay", "found by either", "of these: median less memory off's"),
    *("no later", "never", "memory off never"),
)


def _walk_in_rows(report: Report) -> list[list[str]]:
    rows = []
    for name in report.evaluations:
        if not (figures := _steadiness_figures(report, name)):
            continue
        row = [name, str(figures["walk_ins"]), str(figures["never_found"]), _frames(figures["median_delay"])]
        if against := figures.get("against_memory_off"):
            row += [str(against["found"]), _frames(against["median"]), number_text(against["no_later"])]
            row += [str(against["never"]), str(against["never_other"])]
        rows.append(row + ["-"] * (len(_WALK_IN_HEADER) - len(row)))
    return rows


def _frames(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:g}"


_PIXEL_HEADER = ("name", "maps", "precision", "recall", "F1", "95 %")


def _pixel_rows(report: Report) -> list[list[str]]:
    return [
        [name, group, *_numbers(score), interval_text(evaluation.pixel_interval(group))]
        for name, evaluation in report.evaluations.items()
        for group, score in evaluation.pixel_scores().items()
    ]


_SCORE_HEADER = tuple(f"{part}, {MATCHING_NAMES[m]}" for m in MATCHINGS for part in ("precision", "recall", "F1"))
_JOINT_HEADER = ("joint", "labels", *_SCORE_HEADER)
_SWEEP_HEADER = ("threshold", *_SCORE_HEADER)
_STEP = 5
"""Of the thresholds in the table, in hundredths."""


def _joint_rows(report: Report, name: str) -> list[list[str]]:
    evaluation = report.evaluations[name]
    scores = [evaluation.joint_scores(report.score(name, matching).threshold, matching) for matching in MATCHINGS]
    return [
        [joint, str(labels), *(number for of_joint in scores for number in _numbers(of_joint[joint]))]
        for joint, labels in evaluation.joint_labels().items()
    ]


def _sweep_rows(report: Report, name: str) -> list[list[str]]:
    """Of the thresholds those that are told: report.json has them all."""
    sweeps = [report.evaluations[name].scores(matching) for matching in MATCHINGS]
    return [
        [f"{scores[0].threshold:g}", *(number for score in scores for number in _numbers(score))]
        for scores in zip(*sweeps, strict=True)
        if round(100 * scores[0].threshold, 6) % _STEP == 0
    ]


def _recall_rows(report: Report) -> list[list[object]]:
    rows: list[list[object]] = [["name", "matching", "threshold", "frame", "labels", "hits", "recall"]]
    for name in report.with_keypoints:
        for matching in MATCHINGS:
            threshold = report.score(name, matching).threshold
            for number, labels, hits in report.evaluations[name].hits_over_time(threshold, matching):
                rows.append([name, matching, threshold, number, labels, hits, round(hits / labels, 6)])
    return rows


def _recall_figure(report: Report) -> Figure:
    """Figure 7: recall against frame number, the paper's matching, one line for each name."""
    figure, (axes,) = _new_figure(report, "recall over time", 1)
    last = 1
    for place, name in enumerate(report.with_keypoints):
        threshold = report.score(name, "closest").threshold
        points = report.evaluations[name].hits_over_time(threshold, "closest")
        last = max([last, *(number for number, _, _ in points)])
        axes.plot(
            [number for number, _, _ in points],
            [hits / labels for _, labels, hits in points],
            label=f"{_plain(name)} (threshold {threshold:g})",
            color=COLOURS[place % len(COLOURS)],
            linestyle=LINES[place // len(COLOURS) % len(LINES)],
            marker="o" if len(points) <= 40 else "",
            markersize=4,
            clip_on=False,
        )
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("frame number")
    axes.set_ylabel(f"recall within {RADIUS:g} network pixels")
    _legend_below(figure, axes, 2)
    return figure


def _threshold_figure(report: Report) -> Figure:
    """F1, and for at most four names precision and recall, against the threshold, one panel a matching."""
    figure, panels = _new_figure(report, "keypoints by threshold", len(MATCHINGS))
    parts = (("f1", "-", 2.2), ("precision", "--", 1.2), ("recall", ":", 1.6))
    parts = parts if len(report.with_keypoints) <= 4 else parts[:1]
    for axes, matching in zip(panels, MATCHINGS, strict=True):
        # Part by part, so that the legend has a row for each name.
        for part, line, width in parts:
            for place, name in enumerate(report.with_keypoints):
                scores = report.evaluations[name].scores(matching)
                axes.plot(
                    [score.threshold for score in scores],
                    [getattr(score, part) for score in scores],
                    label=f"{_plain(name)}: {'F1' if part == 'f1' else part}",
                    color=COLOURS[place % len(COLOURS)],
                    linestyle=line,
                    linewidth=width,
                )
        for place, name in enumerate(report.with_keypoints):
            shown = report.score(name, matching)
            axes.plot([shown.threshold], [shown.f1], marker="o", color=COLOURS[place % len(COLOURS)])
        axes.set_title(f"matching: {MATCHING_NAMES[matching]}; dot: reported", fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_xlabel("threshold on the score of a peak")
    _legend_below(figure, panels[0], 3)
    return figure


def _new_figure(report: Report, what: str, panels: int) -> tuple[Figure, list[Axes]]:
    """A figure that says on which data, wherever it is taken; higher with a longer legend."""
    evaluations = [report.evaluations[name] for name in report.with_keypoints]
    width = 7.5 if panels == 1 else 5.2 * panels
    figure = Figure(figsize=(width, 4.8 + 0.2 * len(evaluations)), layout="constrained")
    FigureCanvasAgg(figure)
    sequences = " or ".join(map(str, sorted({len(evaluation.sequences) for evaluation in evaluations})))
    starts = " and ".join(sorted({evaluation.start for evaluation in evaluations}))
    labels = ", pseudo labels" if report.pseudo else ""
    note = f"{report.data}{labels}; {sequences} sequences; start: {starts}"
    lines = [line for text in (f"{report.title}: {what}", note) for line in textwrap.wrap(text, round(12.5 * width))]
    figure.suptitle(_plain("\n".join(lines)), fontsize=10)
    axes = list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])
    for one in axes:
        one.set_ylim(0, 1.02)
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: no formulas, and no leading underscore, which would hide it in a legend."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _numbers(score: Score) -> list[str]:
    return [number_text(score.precision), number_text(score.recall), number_text(score.f1)]


def _markdown_table(header: tuple[str, ...], rows: list[list[str]], left: int = 2) -> str:
    """The first ``left`` columns are texts, the others numbers."""
    lines = [list(header), ["---" if column < left else "---:" for column in range(len(header))], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _as_json(report: Report) -> dict[str, Any]:
    """Figures first, then the counts they come from, which ``Evaluation`` reads back."""
    return {
        "title": report.title,
        "data": report.data,
        "pseudo_labels": report.pseudo,
        "threshold": report.threshold,
        "thresholds": report.thresholds,
        "thresholds_from": report.thresholds_from,
        "measured": _measured(report),
        "figures": {name: _figures(report, name) for name in report.evaluations},
        "evaluations": {name: evaluation.model_dump(mode="json") for name, evaluation in report.evaluations.items()},
    }


def _figures(report: Report, name: str) -> dict[str, Any]:
    evaluation = report.evaluations[name]
    figures: dict[str, Any] = {
        "sequences": len(evaluation.sequences),
        "frames": evaluation.frames,
        "start": evaluation.start,
        "unit": evaluation.unit,
        "pixels": {
            group: {**asdict(score), "f1_interval": evaluation.pixel_interval(group)}
            for group, score in evaluation.pixel_scores().items()
        },
        "channels": {channel: asdict(score) for channel, score in evaluation.channel_scores().items()},
    }
    if evaluation.keypoints is not None:
        figures["keypoints"] = {matching: _keypoint_figures(report, name, matching) for matching in MATCHINGS}
        figures["recall_in_time"] = dict(zip(("early", "late"), _recalls_in_time(report, name), strict=True))
        figures["against"] = {
            control: asdict(_against(report, name, control)) for ours, control in report.pairs if ours == name
        }
    if evaluation.pairs is not None:
        pairs, share, interval = evaluation.right_pairs()
        figures["right_pairs"] = {"pairs": pairs, "share": share, "interval": interval}
    if steadiness := _steadiness_figures(report, name):
        figures["steadiness"] = steadiness
    return figures | people_figures(evaluation)


def _keypoint_figures(report: Report, name: str, matching: Matching) -> dict[str, Any]:
    evaluation, score = report.evaluations[name], report.score(name, matching)
    joints = evaluation.joint_scores(score.threshold, matching)
    return {
        **asdict(score),
        "f1_interval": evaluation.interval(score.threshold, matching),
        "hidden_recall": evaluation.hidden_recall(score.threshold, matching),
        "joints": {joint: asdict(of_joint) for joint, of_joint in joints.items()},
        "sweep": [asdict(of_threshold) for of_threshold in evaluation.scores(matching)],
    }


def _steadiness_figures(report: Report, name: str) -> dict[str, Any]:
    """Flicker and walk-ins at the reported threshold, and against the network without memory; empty where none were
    counted."""
    evaluation = report.evaluations[name]
    steadiness = evaluation.steadiness
    if steadiness is None:
        return {}
    score = report.score(name, "one_to_one")
    i = evaluation.threshold_index(score.threshold)
    by_itself = compare_walk_ins(steadiness, i, steadiness, i)
    figures: dict[str, Any] = {
        "threshold": score.threshold,
        "recall": score.recall,
        "parts": int(steadiness.parts[:, i].sum()),
        "flicker": float(steadiness.flicker()[i]),
        "walk_ins": len(steadiness.walk_ins),
        "never_found": len(steadiness.walk_ins) - by_itself.found,
        "median_delay": median_delay(steadiness, i),
    }
    alone = report.evaluations.get(report.alone.get(name, ""))
    if alone is not None and alone.steadiness is not None:
        other = report.score(report.alone[name], "one_to_one")
        j = alone.threshold_index(other.threshold)
        recalls = [one.recall for one in evaluation.scores("one_to_one")]
        figures["flicker_at_equal_recall"] = flicker_at_recall(recalls, steadiness.flicker(), other.recall)
        figures["flicker_of_memory_off"] = float(alone.steadiness.flicker()[j])
        figures["against_memory_off"] = asdict(compare_walk_ins(steadiness, i, alone.steadiness, j))
    return figures


def _without_nan(value: Any) -> Any:
    """NaN and infinities, which JSON has not, as null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
