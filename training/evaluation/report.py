"""A report on evaluations, and its notes on how the figures were measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from training.evaluation.differences import Difference, difference
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import MATCHINGS, RADIUS, Matching, Score
from training.evaluation.people_tables import people_notes
from training.evaluation.pixels import LEVEL
from training.evaluation.steadiness import (
    FOUND_JOINTS,
    WALKS_IN_AFTER,
)

MATCHING_NAMES: dict[Matching, str] = {"closest": "closest (paper)", "one_to_one": "one to one"}
START_TEXTS = {
    "seed": "Start: from the labels of each sequence's first frame (seed), as in the paper. That frame is not counted. "
    "A sequence without labels in its first frame starts with an empty memory. A camera has no such labels.",
    "cold": "Start: with an empty memory (cold); all frames count.",
}
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Report:
    """Evaluations with their conditions. Expensive figures are computed on first use and cached."""

    title: str
    data: str
    """Description of the data."""
    evaluations: dict[str, Evaluation]
    """By name of the model or control; at least one."""
    pseudo: bool = False
    """Whether the labels were made by a teacher network, not by people."""
    threshold: float | None = None
    """A threshold chosen beforehand; None: the best on these data, for each evaluation and matching."""
    thresholds: Mapping[str, Mapping[Matching, float]] | None = None
    """Instead of ``threshold``: thresholds chosen on other data, by name and matching."""
    precision: float | None = None
    """Choose the lowest threshold with this precision instead of the best F1."""
    thresholds_from: str | None = None
    """Source of ``thresholds``, for the notes."""
    without_memory: Mapping[str, str] = field(default_factory=dict)
    """By name, the name of the same network without memory, with which flicker and walk-ins are compared."""

    def score(self, name: str, matching: Matching) -> Score:
        """The reported overall keypoint score."""
        evaluation = self.evaluations[name]
        threshold = self.threshold if self.thresholds is None else self.thresholds[name][matching]
        return evaluation.chosen(matching, self.precision) if threshold is None else evaluation.at(threshold, matching)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of the names of a network and of one of its controls."""
        networks = {control: name for name, control in reversed(list(self.without_memory.items()))}  # the first one
        return [(networks[control], name) for name, control in self.without_memory.items() if name != networks[control]]

    @property
    def with_keypoints(self) -> list[str]:
        """Names of the evaluations that have keypoint maps."""
        return [name for name, evaluation in self.evaluations.items() if evaluation.keypoints is not None]

    @cached_property
    def differences(self) -> dict[tuple[str, str], Difference]:
        """Difference between the network and the control of each pair, with one-to-one matching."""
        evaluations = self.evaluations
        thresholds = {name: self.score(name, "one_to_one").threshold for pair in self.pairs for name in pair}
        return {
            (name, control): difference(
                *(evaluations[name], thresholds[name], evaluations[control], thresholds[control]), "one_to_one"
            )
            for name, control in self.pairs
        }

    @cached_property
    def gains(self) -> dict[str, Difference]:
        """By name, the difference of each model to the first one, one to one; empty for one model, with controls, or
        if the models saw different sequences."""
        names = self.with_keypoints
        if self.pairs or len({len(self.evaluations[name].sequences) for name in names}) != 1:
            return {}
        chosen = [(self.evaluations[name], self.score(name, "one_to_one").threshold) for name in names]
        return {
            name: difference(*one, *chosen[0], "one_to_one") for name, one in zip(names[1:], chosen[1:], strict=True)
        }

    @cached_property
    def f1_intervals(self) -> dict[tuple[str, Matching], Interval]:
        """Intervals of the reported keypoint F1 by name and matching."""
        return {
            (name, matching): self.evaluations[name].interval(self.score(name, matching).threshold, matching)
            for name in self.with_keypoints
            for matching in MATCHINGS
        }

    @cached_property
    def pixel_intervals(self) -> dict[tuple[str, str], Interval]:
        """Intervals of the pixel F1 by name and group."""
        return {
            (name, group): evaluation.pixel_interval(group)
            for name, evaluation in self.evaluations.items()
            for group in evaluation.pixel_scores()
        }

    @cached_property
    def right_pairs(self) -> dict[str, tuple[int, float, Interval]]:
        """Figures of ``Evaluation.right_pairs`` by name, for networks with edge maps."""
        return {
            name: evaluation.right_pairs()
            for name, evaluation in self.evaluations.items()
            if evaluation.pairs is not None
        }


def report_notes(report: Report) -> list[str]:
    """Notes on the figures of a report: what is measured, and how."""
    labels = "pseudo labels made by a teacher network, not by people" if report.pseudo else "those of the data set"
    lines = [f"Data: {report.data}; labels: {labels}."]
    units = sorted({evaluation.unit for evaluation in report.evaluations.values()})
    if report.with_keypoints:
        joints = sorted({len(report.evaluations[name].overall_joints) for name in report.with_keypoints})
        lines += [
            f"Keypoints: correct within {RADIUS:g} pixels of the label ({'; '.join(units)}), over the "
            f"{' or '.join(map(str, joints))} labelled body joints.",
            "Matching: closest (the paper's) finds a label if its closest prediction is within the radius, and a "
            "prediction may match several labels; with one to one, a prediction matches at most one label.",
            _threshold_note(report),
        ]
    if report.pairs:
        lines.append(
            "Differences to controls (one to one): the model's figure minus the control's. The precision is compared "
            "at the control's recall. Intervals use the same sequences for both."
        )
    if any(evaluation.pairs is not None for evaluation in report.evaluations.values()):
        lines.append(
            "Correct pairs of joints: share of comparisons in which an edge scores higher between two joints of one "
            "person than between joints of two people, if all these joints are visible."
        )
    if any(evaluation.steadiness is not None for evaluation in report.evaluations.values()):
        lines += _steadiness_notes(report)
    lines += people_notes(report.evaluations)
    lines.append(f"Pixels: cells of the maps (4x4 network pixels); prediction and truth are binarised at {LEVEL:g}.")
    lines.append("95% CI: bootstrap interval over sequences. It does not include the variation between trainings.")
    starts = {evaluation.start for evaluation in report.evaluations.values()}
    return lines + [text for start, text in START_TEXTS.items() if start in starts]


def _threshold_note(report: Report) -> str:
    if report.threshold is not None:
        return f"Threshold: {report.threshold:g}, chosen beforehand."
    best = "the one with the best F1"
    if report.precision is not None:
        best = f"the lowest with a precision of {report.precision:g} (the most precise if there is none)"
    if report.thresholds is not None:
        return f"Threshold: for each model {best} on other data ({report.thresholds_from})."
    return f"Threshold: for each model {best} on these data, which flatters the figures."


def _steadiness_notes(report: Report) -> list[str]:
    lines = [
        "Flicker: share of parts that appear in, or vanish from, a single frame, that is, without a part of the same "
        f"joint within {RADIUS:g} pixels in the frames before and after, or in that frame. Recall is one to one.",
        f"Walk-ins: people first labelled after frame {WALKS_IN_AFTER}. A person is found with {FOUND_JOINTS} of the "
        f"labelled joints, or with half of them if there are fewer than {2 * FOUND_JOINTS}.",
    ]
    if report.without_memory:
        lines.append(
            "Compared with the same network without memory: flicker at equal recall is interpolated over the "
            "thresholds. Delays are of walk-ins that either finds: inf if found only without memory, -inf if only with "
            "it."
        )
    return lines
