"""A report on evaluations: what it is about, and in sentences how it was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from training.evaluation.against import Against, against
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import MATCHINGS, RADIUS, Matching, Score
from training.evaluation.people_tables import people_texts
from training.evaluation.pixels import LEVEL
from training.evaluation.steadiness import (
    FOUND_JOINTS,
    WALKS_IN_AFTER,
)

MATCHING_NAMES: dict[Matching, str] = {"closest": "closest (paper)", "one_to_one": "one to one"}
START_TEXTS = {
    "seed": "Start: the special case that the people of each sequence's first frame are given (seed), as in the paper, "
    "which no camera does; that frame is not counted, and where nobody is labelled in it, the sequence starts cold.",
    "cold": "Start: with an empty memory (cold), and every frame counts.",
}
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Report:
    """What a report is about. What takes long is worked out when it is first asked for, and kept."""

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

    @cached_property
    def against(self) -> dict[tuple[str, str], Against]:
        """By pair, what the network has more than its control, one to one."""
        evaluations = self.evaluations
        thresholds = {name: self.score(name, "one_to_one").threshold for pair in self.pairs for name in pair}
        return {
            (name, control): against(
                *(evaluations[name], thresholds[name], evaluations[control], thresholds[control]), "one_to_one"
            )
            for name, control in self.pairs
        }

    @cached_property
    def f1_intervals(self) -> dict[tuple[str, Matching], Interval]:
        """By name and matching, of the keypoint score that is reported."""
        return {
            (name, matching): self.evaluations[name].interval(self.score(name, matching).threshold, matching)
            for name in self.with_keypoints
            for matching in MATCHINGS
        }

    @cached_property
    def pixel_intervals(self) -> dict[tuple[str, str], Interval]:
        """By name and group, of the pixels' F1."""
        return {
            (name, group): evaluation.pixel_interval(group)
            for name, evaluation in self.evaluations.items()
            for group in evaluation.pixel_scores()
        }

    @cached_property
    def right_pairs(self) -> dict[str, tuple[int, float, Interval]]:
        """By the name of those that have edge maps."""
        return {
            name: evaluation.right_pairs()
            for name, evaluation in self.evaluations.items()
            if evaluation.pairs is not None
        }


def measured(report: Report) -> list[str]:
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
