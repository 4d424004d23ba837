"""Tables of a report."""

import math
from dataclasses import asdict
from typing import Any

from stm_skeletons.table import Table
from training.evaluation.differences import EARLY, LATE, recall_in
from training.evaluation.keypoints import MATCHINGS, Score
from training.evaluation.people_tables import people_tables
from training.evaluation.report import MATCHING_NAMES, Report
from training.evaluation.steadiness import (
    compare_walk_ins,
    flicker_at_recall,
    median_delay,
)
from training.evaluation.texts import interval_text, number_text

_RUN_HEADER = ("model", "start", "skeleton", "distances in", "sequences", "seeded sequences", "frames")
_KEYPOINT_HEADER = ("model", "matching", "threshold", "precision", "recall", "F1", "95% CI", "occluded recall")
_DIFFERENCE_HEADER = (
    *("model", "control", "F1 difference", "95% CI", "occluded recall difference"),
    *("precision difference at the control's recall", "95% CI"),
)
_TIME_HEADER = ("model", f"frames {EARLY[0]} to {EARLY[1] - 1}", f"frames {LATE[0]} to {LATE[1] - 1}")
_PAIR_HEADER = ("model", "pairs", "correct", "95% CI")
_FLICKER_HEADER = (
    *("model", "threshold", "recall", "parts", "flicker"),
    *("flicker at the recall without memory", "flicker without memory"),
)
_WALK_IN_HEADER = (
    *("model", "walk-ins", "never found", "median delay", "found by either", "median delay difference"),
    *("found no later", "never with memory", "never without memory"),
)
_PIXEL_HEADER = ("model", "maps", "precision", "recall", "F1", "95% CI")
_SCORE_HEADER = tuple(f"{figure}, {MATCHING_NAMES[m]}" for m in MATCHINGS for figure in ("precision", "recall", "F1"))
_STEP = 5
"""Step between the thresholds of the sweep table, in hundredths."""


def summary_table(report: Report) -> Table:
    """The figures that decide between models, with one-to-one matching; without rows if there are no gains to show."""
    header = ("model", "AP", "keypoint F1", "difference to the first", "95% CI", "mask F1", "edge F1")
    rows = [_summary_row(report, name) for name in report.with_keypoints] if report.gains else []
    return Table("Summary", header, rows)


def _summary_row(report: Report, name: str) -> list[str]:
    evaluation, gain = report.evaluations[name], report.gains.get(name)
    ap = "-" if evaluation.people is None else number_text(evaluation.people.groups["any"].figures()["AP"])
    change = ["-", "-"] if gain is None else [f"{gain.f1:+.3f}", interval_text(gain.f1_interval)]
    pixels = evaluation.pixel_scores()
    maps = [number_text(pixels[group].f1) if group in pixels else "-" for group in ("mask", "edges")]
    return [name, ap, number_text(report.score(name, "one_to_one").f1), *change, *maps]


def run_table(report: Report) -> Table:
    """Table of the evaluated models and sequences."""
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
    """Table of the overall keypoint figures; without rows if no network has keypoint maps."""
    rows = []
    for name in report.with_keypoints:
        for matching in MATCHINGS:
            evaluation, score = report.evaluations[name], report.score(name, matching)
            interval = interval_text(report.f1_intervals[name, matching])
            hidden = number_text(evaluation.hidden_recall(score.threshold, matching))
            rows.append([name, MATCHING_NAMES[matching], f"{score.threshold:g}", *_numbers(score), interval, hidden])
    return Table("Keypoints", _KEYPOINT_HEADER, rows, left=2)


def further_tables(report: Report) -> list[Table]:
    """Tables that only some reports have; some may have no rows."""
    return [
        Table("Differences to controls", _DIFFERENCE_HEADER, _difference_rows(report), left=2),
        Table("Recall over time", _TIME_HEADER, _time_rows(report)),
        *people_tables(report.evaluations),
        Table("Correct pairs of joints", _PAIR_HEADER, _pair_rows(report)),
        Table("Flicker", _FLICKER_HEADER, _flicker_rows(report)),
        Table("Walk-ins", _WALK_IN_HEADER, _walk_in_rows(report)),
    ]


def _difference_rows(report: Report) -> list[list[str]]:
    return [
        [
            *(name, control, number_text(found.f1), interval_text(found.f1_interval)),
            *(number_text(found.hidden_recall), number_text(found.precision)),
            interval_text(found.precision_interval),
        ]
        for (name, control), found in report.differences.items()
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
        if pairs
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
            number_text(figures.get("flicker_without_memory", math.nan)),
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
        if delays := figures.get("compared_without_memory"):
            row += [str(delays["found"]), _frames(delays["median"]), number_text(delays["no_later"])]
            row += [str(delays["never"]), str(delays["never_other"])]
        rows.append(row + ["-"] * (len(_WALK_IN_HEADER) - len(row)))
    return rows


def _frames(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:g}"


def pixel_table(report: Report) -> Table:
    """Table of the pixel figures of the maps."""
    rows = [
        [name, group, *_numbers(score), interval_text(report.pixel_intervals[name, group])]
        for name, evaluation in report.evaluations.items()
        for group, score in evaluation.pixel_scores().items()
    ]
    return Table("Pixels", _PIXEL_HEADER, rows, left=2)


def joint_table(report: Report, name: str) -> Table:
    """Table of the keypoint figures of every labelled joint."""
    evaluation = report.evaluations[name]
    scores = [evaluation.joint_scores(report.score(name, matching).threshold, matching) for matching in MATCHINGS]
    rows = [
        [joint, str(labels), *(number for of_joint in scores for number in _numbers(of_joint[joint]))]
        for joint, labels in evaluation.joint_labels().items()
    ]
    return Table(f"{name}: keypoints by joint", ("joint", "labels", *_SCORE_HEADER), rows)


def sweep_table(report: Report, name: str) -> Table:
    """Table of every 5th threshold of the sweep; report.json has all."""
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
    """Flicker and walk-ins at the reported threshold, also compared with the network without memory.

    Empty if they were not counted.
    """
    evaluation = report.evaluations[name]
    steadiness = evaluation.steadiness
    if steadiness is None:
        return {}
    score = report.score(name, "one_to_one")
    i = evaluation.threshold_index(score.threshold)
    with_itself = compare_walk_ins(steadiness, i, steadiness, i)
    figures: dict[str, Any] = {
        "threshold": score.threshold,
        "recall": score.recall,
        "parts": int(steadiness.parts[:, i].sum()),
        "flicker": float(steadiness.flicker()[i]),
        "walk_ins": len(steadiness.walk_ins),
        "never_found": len(steadiness.walk_ins) - with_itself.found,
        "median_delay": median_delay(steadiness, i),
    }
    control = report.evaluations.get(report.without_memory.get(name, ""))
    if control is not None and control.steadiness is not None:
        control_score = report.score(report.without_memory[name], "one_to_one")
        j = control.threshold_index(control_score.threshold)
        recalls = [score.recall for score in evaluation.scores("one_to_one")]
        figures["flicker_at_equal_recall"] = flicker_at_recall(recalls, steadiness.flicker(), control_score.recall)
        figures["flicker_without_memory"] = float(control.steadiness.flicker()[j])
        figures["compared_without_memory"] = asdict(compare_walk_ins(steadiness, i, control.steadiness, j))
    return figures
