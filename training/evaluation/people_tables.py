"""What reports tell of whole people: OKS AP, how many, and how long their numbers last."""

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

_HEADER = ("name", "labelled", "frames", "AP", "95 %", "AR", "95 %", "people a frame", "labelled ones")
_LEVEL_HEADER = ("name", "labelled", "AP50", "95 %", "AP75", "95 %")
_TRACKING_HEADER = ("name", "AP", "MOTA", "95 %", "labels", "misses", "false positives", "switches")
_IDENTITY_HEADER = ("name", "people", "found", "without id", "switches", "for 1,000 found")
_JOINT_HEADER = ("joint", "labels", "AP", "MOTA")


def people_tables(evaluations: Mapping[str, Evaluation]) -> list[Table]:
    """The tables of all evaluations together; there may be some without rows."""
    people = [
        (name, labelled, group)
        for name, evaluation in evaluations.items()
        if evaluation.people is not None
        for labelled, group in evaluation.people.groups.items()
    ]
    tracking = [
        (name, evaluation.tracking) for name, evaluation in evaluations.items() if evaluation.tracking is not None
    ]
    return [
        Table("People", _HEADER, [_people_row(*one) for one in people], left=2),
        Table("People at one similarity", _LEVEL_HEADER, [_level_row(*one) for one in people], left=2),
        Table("Tracking", _TRACKING_HEADER, [_tracking_row(*one) for one in tracking]),
        Table("Identity", _IDENTITY_HEADER, [_identity_row(*one) for one in tracking]),
    ]


def tracking_joint_table(name: str, evaluation: Evaluation) -> Table:
    """PoseTrack's figures of every joint that the data label; without rows where nobody was tracked."""
    rows, tracking = [], evaluation.tracking
    if tracking is not None:
        ap, mota = tracking.joint_ap(), tracking.joint_mota()
        for i, joint in enumerate(evaluation.skeleton.joints):
            if joint in evaluation.sourced:
                rows.append([joint, str(tracking.labels[i]), number_text(ap[i]), number_text(mota[i])])
    return Table(f"{name}: tracking, joint by joint", _JOINT_HEADER, rows)


def people_texts(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """What is measured and how, in sentences."""
    counted = [evaluation.people for evaluation in evaluations.values() if evaluation.people is not None]
    tracked = [evaluation.tracking for evaluation in evaluations.values() if evaluation.tracking is not None]
    lines = []
    if counted:
        thresholds = " or ".join(f"{threshold:g}" for threshold in sorted({one.person_threshold for one in counted}))
        lines.append(
            f"People: COCO's AP and AR by object keypoint similarity (pycocotools), of the {MOST} surest of a frame "
            f"from a score of {LOWEST:g}; where the data give no area, {AREA_OF_BOX:g} of the box. Small, medium "
            "and large are COCO's, under 32, 96 and over 96 network pixels squared. People in a frame "
            f"are those from a score of {thresholds}; labelled, those with a labelled joint inside. In ignored regions "
            "nobody is wrong."
        )
    if tracked:
        lines.append(
            f"Tracking: PoseTrack's AP and MOTA, right within {REACH:g} head sizes, means over the joints; a joint "
            "that is found and not labelled is wrong. In MOTA people from the same score count, with the joints that "
            "were found; who has no id yet is found, and never a switch. The network sees the labelled frames "
            "only. Identity: people in frames, who is found, and how often somebody has another id than the last one."
        )
        labelled, estimated = (tracked[0].person_counts()[what] for what in ("labelled", "estimated_heads"))
        if estimated:
            lines.append(
                f"Head sizes: of {estimated} of {labelled} people estimated as {HEAD_OF_BOX:g} of the root of the "
                "box's area, for the data have no box of the head; so AP and MOTA are not PoseTrack's exactly."
            )
    return lines


def people_figures(evaluation: Evaluation) -> dict[str, Any]:
    """For JSON: "people" and "tracking", as far as they were counted."""
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


def _people_row(name: str, labelled: str, people: PeopleEvaluation) -> list[str]:
    per_frame = f"{people.reported_per_frame:.2f}", f"{people.labelled_per_frame:.2f}"
    return [name, labelled, str(len(people.labelled)), *_with_interval(people, "AP", "AR"), *per_frame]


def _level_row(name: str, labelled: str, people: PeopleEvaluation) -> list[str]:
    return [name, labelled, *_with_interval(people, "AP50", "AP75")]


def _with_interval(people: PeopleEvaluation, *wanted: str) -> list[str]:
    figures, intervals = people.figures(), people.intervals()
    return [text for name in wanted for text in (number_text(figures[name]), interval_text(intervals[name]))]


def _tracking_row(name: str, tracking: TrackingEvaluation) -> list[str]:
    row = [name, number_text(tracking.ap()), number_text(tracking.mota()), interval_text(tracking.mota_interval)]
    return row + [str(count) for count in tracking.joint_counts().values()]


def _identity_row(name: str, tracking: TrackingEvaluation) -> list[str]:
    people = tracking.person_counts()
    rate = f"{1000 * people['switches'] / people['found']:.1f}" if people["found"] else "-"
    return [name, *(str(people[what]) for what in ("labelled", "found", "without_id", "switches")), rate]
