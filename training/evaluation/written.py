"""A report as files and on the terminal."""

import csv
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stm_skeletons.errors import SinkError
from stm_skeletons.files import whole_file
from training.evaluation.keypoints import MATCHINGS, Matching
from training.evaluation.people_tables import joint_table, people_figures
from training.evaluation.plots import recall_figure, threshold_figure
from training.evaluation.report import Report, measured
from training.evaluation.tables import (
    JOINT_HEADER,
    KEYPOINT_HEADER,
    PIXEL_HEADER,
    RUN_HEADER,
    SWEEP_HEADER,
    further_tables,
    held_against,
    joint_rows,
    keypoint_rows,
    pixel_rows,
    recalls_in_time,
    run_rows,
    steadiness_figures,
    sweep_rows,
)


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
    for name, figure in (("recall_over_time", recall_figure(report)), ("thresholds", threshold_figure(report))):
        with whole_file(folder / f"{name}.png") as partial:
            figure.savefig(partial, dpi=150)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the overall figures as tables."""
    console = console or Console()
    for caption, header, left, rows in (
        ("Keypoints", KEYPOINT_HEADER, 2, keypoint_rows(report)),
        *further_tables(report),
        ("Pixels", PIXEL_HEADER, 2, pixel_rows(report)),
    ):
        if rows:
            table = Table(title=Text(f"{report.title}: {caption}"))
            for column, heading in enumerate(header):
                table.add_column(heading, justify="left" if column < left else "right")
            for row in rows:
                table.add_row(*map(Text, row))
            console.print(table)
    for line in measured(report):
        console.print(Text(line))


def report_markdown(report: Report) -> str:
    """The report as Markdown; it shows the figures that lie beside it."""
    parts = [f"# {report.title}", "\n".join(f"- {line}" for line in measured(report))]
    parts.append(_markdown_table(RUN_HEADER, run_rows(report), left=4))
    if report.with_keypoints:
        parts += ["## Keypoints", _markdown_table(KEYPOINT_HEADER, keypoint_rows(report))]
        parts += ["![Recall by frame number](recall_over_time.png)", "![Threshold sweep](thresholds.png)"]
    for caption, header, left, rows in further_tables(report):
        if rows:
            parts += [f"## {caption}", _markdown_table(header, rows, left)]
    parts += ["## Pixels", _markdown_table(PIXEL_HEADER, pixel_rows(report))]
    for name, evaluation in report.evaluations.items():
        caption, header, left, rows = joint_table(evaluation)
        if rows:
            parts += [f"## {name}: {caption}", _markdown_table(header, rows, left)]
    for name in report.with_keypoints:
        parts += [f"## {name}: joint by joint", _markdown_table(JOINT_HEADER, joint_rows(report, name), left=1)]
        parts += [f"## {name}: threshold sweep", _markdown_table(SWEEP_HEADER, sweep_rows(report, name), left=0)]
    return "\n\n".join(parts) + "\n"


def _recall_rows(report: Report) -> list[list[object]]:
    rows: list[list[object]] = [["name", "matching", "threshold", "frame", "labels", "hits", "recall"]]
    for name in report.with_keypoints:
        for matching in MATCHINGS:
            threshold = report.score(name, matching).threshold
            for number, labels, hits in report.evaluations[name].hits_over_time(threshold, matching):
                rows.append([name, matching, threshold, number, labels, hits, round(hits / labels, 6)])
    return rows


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
        "measured": measured(report),
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
        figures["recall_in_time"] = dict(zip(("early", "late"), recalls_in_time(report, name), strict=True))
        figures["against"] = {
            control: asdict(held_against(report, name, control)) for ours, control in report.pairs if ours == name
        }
    if evaluation.pairs is not None:
        pairs, share, interval = evaluation.right_pairs()
        figures["right_pairs"] = {"pairs": pairs, "share": share, "interval": interval}
    if steadiness := steadiness_figures(report, name):
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


def _without_nan(value: Any) -> Any:
    """NaN and infinities, which JSON has not, as null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
