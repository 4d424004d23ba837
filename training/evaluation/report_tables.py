"""A report as tables of text."""

import math
from dataclasses import asdict
from typing import Any

from stm_skeletons.table import Table
from training.evaluation.against import EARLY, LATE, recall_in
from training.evaluation.keypoints import MATCHINGS, Score
from training.evaluation.people_tables import people_tables
from training.evaluation.report import MATCHING_NAMES, Report
from training.evaluation.steadiness import (
    compare_walk_ins,
    flicker_at_recall,
    median_delay,
)
from training.evaluation.texts import interval_text, number_text

_RUN_HEADER = ("name", "start", "joints", "distances in", "sequences", "of them seeded", "frames counted")
_KEYPOINT_HEADER = ("name", "matching", "threshold", "precision", "recall", "F1", "95 %", "recall of hidden")
_AGAINST_HEADER = (
    *("name", "against", "F1 more by", "95 %", "recall of hidden more by"),
    *("at its recall precision more by", "95 %"),
)
_TIME_HEADER = ("name", f"frames {EARLY[0]} to {EARLY[1] - 1}", f"frames {LATE[0]} to {LATE[1] - 1}")
_PAIR_HEADER = ("name", "pairs", "right", "95 %")
_FLICKER_HEADER = ("name", "threshold", "recall", "parts", "flicker", "flicker at memory off's recall", "its flicker")
_WALK_IN_HEADER = (
    *("name", "walk-ins", "never found", "median delay", "found by either", "of these: median less memory off's"),
    *("no later", "never", "memory off never"),
)
_PIXEL_HEADER = ("name", "maps", "precision", "recall", "F1", "95 %")
_SCORE_HEADER = tuple(f"{part}, {MATCHING_NAMES[m]}" for m in MATCHINGS for part in ("precision", "recall", "F1"))
_STEP = 5
"""Of the thresholds in the table, in hundredths."""


def run_table(report: Report) -> Table:
    """What was measured on."""
    rows = [
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
    return Table("Run", _RUN_HEADER, rows, left=4)


def keypoint_table(report: Report) -> Table:
    """The overall keypoint figures; without rows where no network has keypoint maps."""
    rows = []
    for name in report.with_keypoints:
        for matching in MATCHINGS:
            evaluation, score = report.evaluations[name], report.score(name, matching)
            interval = interval_text(report.f1_intervals[name, matching])
            hidden = number_text(evaluation.hidden_recall(score.threshold, matching))
            rows.append([name, MATCHING_NAMES[matching], f"{score.threshold:g}", *_numbers(score), interval, hidden])
    return Table("Keypoints", _KEYPOINT_HEADER, rows, left=2)


def further_tables(report: Report) -> list[Table]:
    """All that is told in some reports only; there may be some without rows."""
    return [
        Table("Against controls", _AGAINST_HEADER, _against_rows(report), left=2),
        Table("Recall as time goes on", _TIME_HEADER, _time_rows(report)),
        *people_tables(report.evaluations),
        Table("Right pairs of edges", _PAIR_HEADER, _pair_rows(report)),
        Table("Flicker", _FLICKER_HEADER, _flicker_rows(report)),
        Table("Walk-ins", _WALK_IN_HEADER, _walk_in_rows(report)),
    ]


def _against_rows(report: Report) -> list[list[str]]:
    return [
        [
            *(name, control, number_text(found.f1), interval_text(found.f1_interval)),
            *(number_text(found.hidden_recall), number_text(found.precision)),
            interval_text(found.precision_interval),
        ]
        for (name, control), found in report.against.items()
    ]


def _time_rows(report: Report) -> list[list[str]]:
    return [[name, *map(number_text, recalls_in_time(report, name))] for name in report.with_keypoints]


def recalls_in_time(report: Report, name: str) -> list[float]:
    threshold = report.score(name, "one_to_one").threshold
    return [recall_in(report.evaluations[name], part, threshold, "one_to_one") for part in (EARLY, LATE)]


def _pair_rows(report: Report) -> list[list[str]]:
    return [
        [name, str(pairs), number_text(share), interval_text(interval)]
        for name, (pairs, share, interval) in report.right_pairs.items()
    ]


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
        if (figures := steadiness_figures(report, name))
    ]


def _walk_in_rows(report: Report) -> list[list[str]]:
    rows = []
    for name in report.evaluations:
        if not (figures := steadiness_figures(report, name)):
            continue
        row = [name, str(figures["walk_ins"]), str(figures["never_found"]), _frames(figures["median_delay"])]
        if against := figures.get("against_memory_off"):
            row += [str(against["found"]), _frames(against["median"]), number_text(against["no_later"])]
            row += [str(against["never"]), str(against["never_other"])]
        rows.append(row + ["-"] * (len(_WALK_IN_HEADER) - len(row)))
    return rows


def _frames(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:g}"


def pixel_table(report: Report) -> Table:
    """The maps' own figures."""
    rows = [
        [name, group, *_numbers(score), interval_text(report.pixel_intervals[name, group])]
        for name, evaluation in report.evaluations.items()
        for group, score in evaluation.pixel_scores().items()
    ]
    return Table("Pixels", _PIXEL_HEADER, rows, left=2)


def joint_table(report: Report, name: str) -> Table:
    """Keypoint figures of every joint that the data label."""
    evaluation = report.evaluations[name]
    scores = [evaluation.joint_scores(report.score(name, matching).threshold, matching) for matching in MATCHINGS]
    rows = [
        [joint, str(labels), *(number for of_joint in scores for number in _numbers(of_joint[joint]))]
        for joint, labels in evaluation.joint_labels().items()
    ]
    return Table(f"{name}: joint by joint", ("joint", "labels", *_SCORE_HEADER), rows)


def sweep_table(report: Report, name: str) -> Table:
    """Of the thresholds those that are told: report.json has them all."""
    sweeps = [report.evaluations[name].scores(matching) for matching in MATCHINGS]
    rows = [
        [f"{scores[0].threshold:g}", *(number for score in scores for number in _numbers(score))]
        for scores in zip(*sweeps, strict=True)
        if round(100 * scores[0].threshold, 6) % _STEP == 0
    ]
    return Table(f"{name}: threshold sweep", ("threshold", *_SCORE_HEADER), rows, left=0)


def _numbers(score: Score) -> list[str]:
    return [number_text(score.precision), number_text(score.recall), number_text(score.f1)]


def steadiness_figures(report: Report, name: str) -> dict[str, Any]:
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
