"""Tables and notes of a report about whole people: OKS AP, numbers of people, tracking and ids."""

from collections.abc import Mapping
from typing import Any

from stm_skeletons.table import Table
from training.evaluation.average_precision import FIGURES
from training.evaluation.evaluation import Evaluation
from training.evaluation.head_sizes import HEAD_OF_BOX, REACH
from training.evaluation.oks import AREA_OF_BOX, LOWEST, MOST
from training.evaluation.people_scores import PeopleEvaluation
from training.evaluation.texts import interval_text, number_text
from training.evaluation.tracking import TrackingEvaluation

_HEADER = (
    *("model", "group", "frames", "AP", "95% CI", "AR", "95% CI"),
    *("reported per frame", "labelled per frame"),
)
_LEVEL_HEADER = ("model", "group", "AP50", "95% CI", "AP75", "95% CI")
_TRACKING_HEADER = ("model", "AP", "MOTA", "95% CI", "labels", "misses", "false positives", "id switches")
_IDENTITY_HEADER = ("model", "labelled", "found", "without id", "id switches", "id switches per 1,000 found")
_JOINT_HEADER = ("joint", "labels", "AP", "MOTA")


def people_tables(evaluations: Mapping[str, Evaluation]) -> list[Table]:
    """The tables about people of all evaluations; some may have no rows."""
    people = [
        (name, group, evaluated)
        for name, evaluation in evaluations.items()
        if evaluation.people is not None
        for group, evaluated in evaluation.people.groups.items()
    ]
    tracking = [
        (name, evaluation.tracking) for name, evaluation in evaluations.items() if evaluation.tracking is not None
    ]
    return [
        Table("People", _HEADER, [_people_row(*row) for row in people], left=2),
        Table("People at a single similarity", _LEVEL_HEADER, [_level_row(*row) for row in people], left=2),
        Table("Tracking", _TRACKING_HEADER, [_tracking_row(*row) for row in tracking]),
        Table("Identity", _IDENTITY_HEADER, [_identity_row(*row) for row in tracking]),
    ]


def tracking_joint_table(name: str, evaluation: Evaluation) -> Table:
    """PoseTrack's figures of every labelled joint; without rows if tracking was not evaluated."""
    rows, tracking = [], evaluation.tracking
    if tracking is not None:
        ap, mota = tracking.joint_ap(), tracking.joint_mota()
        for i, joint in enumerate(evaluation.skeleton.joints):
            if joint in evaluation.sourced:
                rows.append([joint, str(tracking.labels[i]), number_text(ap[i]), number_text(mota[i])])
    return Table(f"{name}: tracking by joint", _JOINT_HEADER, rows)


def people_notes(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """Notes on the figures about people: what is measured, and how."""
    counted = [evaluation.people for evaluation in evaluations.values() if evaluation.people is not None]
    tracked = [evaluation.tracking for evaluation in evaluations.values() if evaluation.tracking is not None]
    lines = []
    if counted:
        thresholds = " or ".join(f"{threshold:g}" for threshold in sorted({each.person_threshold for each in counted}))
        lines.append(
            "People: COCO's AP and AR by object keypoint similarity (pycocotools), with the best "
            f"{MOST} people of a frame that score at least {LOWEST:g}. Without labelled areas, {AREA_OF_BOX:g} of the "
            "box is used. Small, medium and large are COCO's sizes, with limits of 32x32 and 96x96 network pixels. "
            f"Reported people score at least {thresholds}; labelled people have a labelled joint inside the frame. "
            "People in ignored regions are never wrong."
        )
    if tracked:
        lines.append(
            f"Tracking: PoseTrack's AP and MOTA, averaged over the joints; a joint is correct within {REACH:g} head "
            "sizes, and a found joint without label is wrong. MOTA counts the found joints of reported people. People "
            "without an id count as found and are never a switch. The network sees only the labelled frames. "
            "Identity: labelled people summed over the frames, those found, and changes of a person's id."
        )
        labelled, estimated = (tracked[0].person_counts()[key] for key in ("labelled", "estimated_heads"))
        if estimated:
            lines.append(
                f"Head sizes: for {estimated} of {labelled} people estimated as {HEAD_OF_BOX:g} of the square root of "
                "the box's area, because the data have no boxes of heads. So AP and MOTA differ slightly from "
                "PoseTrack's."
            )
    return lines


def people_figures(evaluation: Evaluation) -> dict[str, Any]:
    """Figures for JSON: "people" and "tracking", if they were counted."""
    figures: dict[str, Any] = {}
    if evaluation.people is not None:
        figures["people"] = {name: _group_figures(group) for name, group in evaluation.people.groups.items()}
    if (tracking := evaluation.tracking) is not None:
        ap, mota = tracking.joint_ap().tolist(), tracking.joint_mota().tolist()
        joints = {
            joint: {"ap": ap[i], "mota": mota[i]}
            for i, joint in enumerate(evaluation.skeleton.joints)
            if joint in evaluation.sourced
        }
        figures["tracking"] = {
            "person_threshold": tracking.person_threshold,
            "ap": tracking.ap(),
            "mota": tracking.mota(),
            "mota_interval": tracking.mota_interval,
            **tracking.joint_counts(),
            "people": tracking.person_counts(),
            "joints": joints,
        }
    return figures


def _group_figures(people: PeopleEvaluation) -> dict[str, Any]:
    intervals = people.intervals()
    return {
        "frames": len(people.labelled),
        **{name.lower(): value for name, value in people.figures().items()},
        **{f"{name.lower()}_interval": intervals[name] for name in FIGURES},
        "person_threshold": people.person_threshold,
        "people_per_frame": people.reported_per_frame,
        "labelled_per_frame": people.labelled_per_frame,
    }


def _people_row(name: str, group: str, people: PeopleEvaluation) -> list[str]:
    per_frame = f"{people.reported_per_frame:.2f}", f"{people.labelled_per_frame:.2f}"
    return [name, group, str(len(people.labelled)), *_with_intervals(people, "AP", "AR"), *per_frame]


def _level_row(name: str, group: str, people: PeopleEvaluation) -> list[str]:
    return [name, group, *_with_intervals(people, "AP50", "AP75")]


def _with_intervals(people: PeopleEvaluation, *names: str) -> list[str]:
    figures, intervals = people.figures(), people.intervals()
    return [text for name in names for text in (number_text(figures[name]), interval_text(intervals[name]))]


def _tracking_row(name: str, tracking: TrackingEvaluation) -> list[str]:
    row = [name, number_text(tracking.ap()), number_text(tracking.mota()), interval_text(tracking.mota_interval)]
    return row + [str(count) for count in tracking.joint_counts().values()]


def _identity_row(name: str, tracking: TrackingEvaluation) -> list[str]:
    people = tracking.person_counts()
    rate = f"{1000 * people['switches'] / people['found']:.1f}" if people["found"] else "-"
    return [name, *(str(people[key]) for key in ("labelled", "found", "without_id", "switches")), rate]
