"""Writes a report to files, and prints it on the terminal."""

import csv
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stm_skeletons.files import atomic_write, make_folder
from stm_skeletons.table import show
from training.evaluation.keypoints import MATCHINGS, Matching
from training.evaluation.people_tables import people_figures, tracking_joint_table
from training.evaluation.plots import recall_figure, threshold_figure
from training.evaluation.report import Report, report_notes
from training.evaluation.report_tables import (
    further_tables,
    joint_table,
    keypoint_table,
    pixel_table,
    recalls_in_time,
    run_table,
    steadiness_figures,
    summary_table,
    sweep_table,
)

if TYPE_CHECKING:
    from rich.console import Console


def write_report(report: Report, folder: Path) -> None:
    """Write the files of a report atomically; creates the folder.

    The files are report.json and report.md, and for networks with keypoint maps recall_over_time.csv,
    recall_over_time.png (Figure 7) and thresholds.png.

    Raises:
        SinkError: the folder or a file cannot be written.
        DataError: the report's threshold was not counted.
    """
    make_folder(folder)
    with atomic_write(folder / "report.json") as partial:
        partial.write_text(json.dumps(_without_nan(_as_json(report)), allow_nan=False), encoding="utf-8")
    with atomic_write(folder / "report.md") as partial:
        partial.write_text(report_markdown(report), encoding="utf-8")
    if not report.with_keypoints:
        return
    with (
        atomic_write(folder / "recall_over_time.csv") as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows(_recall_rows(report))
    for name, figure in (("recall_over_time", recall_figure(report)), ("thresholds", threshold_figure(report))):
        with atomic_write(folder / f"{name}.png") as partial:
            figure.savefig(partial, dpi=150)


def print_report(report: Report, console: "Console | None" = None) -> None:
    """Print the overall figures as tables, with notes; a summary comes last, where the reader is."""
    tables = (keypoint_table(report), *further_tables(report), pixel_table(report))
    titled = (replace(table, title=f"{report.title}: {table.title}") for table in tables)
    show(titled, console, report_notes(report))
    show([summary_table(report)], console)


def report_markdown(report: Report) -> str:
    """The report as Markdown; it shows the plots in the same folder."""
    parts = [f"# {report.title}", "\n".join(f"- {line}" for line in report_notes(report))]
    parts.append(run_table(report).markdown())
    if (summary := summary_table(report)).rows:
        parts.append(summary.section())
    if report.with_keypoints:
        parts.append(keypoint_table(report).section())
        parts += ["![Recall by frame number](recall_over_time.png)", "![Threshold sweep](thresholds.png)"]
    tables = [*further_tables(report), pixel_table(report)]
    tables += [tracking_joint_table(*one) for one in report.evaluations.items()]
    for name in report.with_keypoints:
        tables += [joint_table(report, name), sweep_table(report, name)]
    parts += [table.section() for table in tables if table.rows]
    return "\n\n".join(parts) + "\n"


def _recall_rows(report: Report) -> list[list[object]]:
    rows: list[list[object]] = [["name", "matching", "threshold", "frame", "labels", "hits", "recall"]]
    for name in report.with_keypoints:
        for matching in MATCHINGS:
            threshold = report.score(name, matching).threshold
            for number, labels, hits in report.evaluations[name].hits_over_time(threshold, matching):
                rows.append([name, matching, threshold, number, labels, hits, round(hits / labels, 6)])
    return rows


def _as_json(report: Report) -> dict[str, Any]:
    """The figures, then the counts they are computed from, which ``Evaluation`` can read."""
    return {
        "title": report.title,
        "data": report.data,
        "pseudo_labels": report.pseudo,
        "threshold": report.threshold,
        "thresholds": report.thresholds,
        "thresholds_from": report.thresholds_from,
        "notes": report_notes(report),
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
            group: {**asdict(score), "f1_interval": report.pixel_intervals[name, group]}
            for group, score in evaluation.pixel_scores().items()
        },
        "channels": {channel: asdict(score) for channel, score in evaluation.channel_scores().items()},
    }
    if evaluation.keypoints is not None:
        figures["keypoints"] = {matching: _keypoint_figures(report, name, matching) for matching in MATCHINGS}
        figures["recall_in_time"] = dict(zip(("early", "late"), recalls_in_time(report, name), strict=True))
        figures["differences"] = {
            control: asdict(found) for (network, control), found in report.differences.items() if network == name
        }
    if evaluation.pairs is not None:
        pairs, share, interval = report.right_pairs[name]
        figures["right_pairs"] = {"pairs": pairs, "share": share, "interval": interval}
    if steadiness := steadiness_figures(report, name):
        figures["steadiness"] = steadiness
    return figures | people_figures(evaluation)


def _keypoint_figures(report: Report, name: str, matching: Matching) -> dict[str, Any]:
    evaluation, score = report.evaluations[name], report.score(name, matching)
    joints = evaluation.joint_scores(score.threshold, matching)
    return {
        **asdict(score),
        "f1_interval": report.f1_intervals[name, matching],
        "hidden_recall": evaluation.hidden_recall(score.threshold, matching),
        "joints": {joint: asdict(of_joint) for joint, of_joint in joints.items()},
        "sweep": [asdict(of_threshold) for of_threshold in evaluation.scores(matching)],
    }


def _without_nan(value: Any) -> Any:
    """The value with NaN and infinity, which JSON lacks, replaced by null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
