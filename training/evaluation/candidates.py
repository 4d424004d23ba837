"""Networks measured on one data set, side by side: what ``stm-skeletons eval`` does."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from pydantic import ValidationError

from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import what_is_wrong
from stm_skeletons.tracker import Tracker
from training.data.held_out import held_out_sequences
from training.data.labels import DataSet
from training.data.open import open_data
from training.data.sequences import SequenceOptions
from training.evaluation.controls import AffineMaps, Hold, Mean, MemoryOff, with_rule
from training.evaluation.evaluate import evaluate_together
from training.evaluation.evaluation import Evaluation, Start
from training.evaluation.report import Report
from training.evaluation.thresholds import best_thresholds
from training.model.edge import Edge
from training.model.session import TorchSession
from training.model.weights import load_weights
from training.recipe import DataSection

_DEFAULT = DataSection(kind="coco")


@dataclass(frozen=True)
class Candidate:
    """A network to be measured, in torch or as a bundle."""

    name: str
    tracker: Tracker
    skeleton: Skeleton
    channels: tuple[str, ...]
    size: tuple[int, int]
    """(width, height) of its input in pixels."""
    holdout: tuple[float, int] = (_DEFAULT.holdout, _DEFAULT.holdout_seed)
    """Share and seed by which its training kept data back."""
    person_threshold: float = PERSON_THRESHOLD
    """Score from which on people are reported."""


@dataclass(frozen=True)
class Conditions:
    """What is measured."""

    split: str = "val"
    start: Start = "cold"
    frames: int = 12
    sequences: int | None = None
    """At most so many; None for one of each picture or video."""
    occluded: bool = False
    threshold: float | None = None
    """Chosen elsewhere; None: the best on these data, said in the report."""
    thresholds: Path | None = None
    """In place of ``threshold``: report.json of an earlier evaluation on other data; each row takes its best there."""
    precision: float | None = None
    """Choose the lowest threshold with this precision, here or in the report; None: the one with the best F1."""
    controls: bool = False
    """Measure each network that has keypoint maps without its memory too, and with memories that learnt nothing."""

    def __post_init__(self) -> None:
        if self.threshold is not None and self.thresholds is not None:
            raise DataError("--threshold and --thresholds exclude each other; give one of them")
        if self.precision is not None and not 0 < self.precision <= 1:
            raise DataError(f"a precision lies above 0 and at most at 1, not at {self.precision}")
        if self.precision is not None and self.threshold is not None:
            raise DataError("--precision chooses a threshold; leave out --threshold or --precision")


def candidate_from_weights(
    path: Path,
    size: tuple[int, int] | None = None,
    slots: int | None = None,
    every: int | None = None,
    threads: int | None = None,
) -> Candidate:
    """A weights file, run in torch on the CPU; at the size and with the memory that it was trained for unless told.

    ``threads`` holds for all of torch, from here on; None leaves the choice to it. Raises WeightsError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model, provenance = load_weights(path)
    trained = provenance.training.get("data", {})
    if size is None:
        size = trained.get("width", _DEFAULT.width), trained.get("height", _DEFAULT.height)
    holdout = trained.get("holdout", _DEFAULT.holdout), trained.get("holdout_seed", _DEFAULT.holdout_seed)
    trained_slots, trained_every = provenance.memory
    session = TorchSession(model, trained_slots if slots is None else slots, trained_every if every is None else every)
    return Candidate(_short_name(path), session, model.config.skeleton, model.config.channels, size, holdout)


def evaluate_candidates(
    candidates: Iterable[Candidate],
    kind: str,
    root: Path,
    conditions: Conditions,
    say: Callable[[str], None] = print,
    progress: Callable[[], object] | None = None,
    baseline: Candidate | None = None,
) -> Report:
    """Measure each on the same data.

    Args:
        candidates: at least one; names must differ.
        kind, root: of the data, see training.data.open.
        conditions: what is measured.
        say: is given what was left out, line by line.
        progress: called after every frame.
        baseline: a network that each is held against as well, without its memory; of the same maps and size.

    Raises:
        DataError: no such data, nothing in it to measure on, no threshold for a row in the given report, or a baseline
            with other maps or of another size.
    """
    by_candidate = [(candidate, _rows(candidate, conditions.controls, baseline)) for candidate in candidates]
    rows = [row for _, of_candidate in by_candidate for row in of_candidate]
    _check_names([row.name for row in rows])
    thresholds = None
    if conditions.thresholds is not None:
        names = [row.name for row in rows if row.has_keypoints]
        thresholds = best_thresholds(conditions.thresholds, names, conditions.precision)
    evaluations, data = {}, None
    for candidate, of_candidate in by_candidate:
        data = open_data(kind, root, conditions.split, candidate.skeleton, *candidate.holdout)
        _check_frames(data, conditions.frames)
        if not evaluations:
            for problem in _problems(data):
                say(problem)
        evaluations |= _evaluate(of_candidate, candidate, data, conditions, progress)
    if data is None:
        raise DataError("nothing to evaluate; name at least one weights file or bundle")
    return Report(
        f"{', '.join(candidate.name for candidate, _ in by_candidate)} on {kind}",
        describe_data(data, conditions),
        evaluations,
        data.pseudo,
        conditions.threshold,
        thresholds,
        conditions.precision,
        None if conditions.thresholds is None else str(conditions.thresholds),
        {row.name: row.alone for row in rows if row.alone is not None},
    )


@dataclass(frozen=True)
class _Row:
    """A line of the tables: a network as it is, or one of its controls."""

    name: str
    tracker: Tracker
    has_keypoints: bool
    alone: str | None = None
    """The line of the same network without memory."""


def _rows(candidate: Candidate, controls: bool, baseline: Candidate | None) -> list[_Row]:
    name, skeleton, channels = candidate.name, candidate.skeleton, candidate.channels
    has_keypoints = any(joint in channels for joint in skeleton.joints)
    if not (has_keypoints and (controls or baseline)):
        return [_Row(name, candidate.tracker, has_keypoints)]
    alone = f"{name}, memory off"
    memory_off = MemoryOff(candidate.tracker)
    trackers: dict[str, Tracker] = {alone: memory_off}
    if controls:
        trackers |= {f"{name}, {rule}": tracker for rule, tracker in _rules(candidate.tracker).items()}
        trackers[f"{name}, affine"] = AffineMaps(memory_off, skeleton, channels)
    if baseline is not None:
        if (baseline.channels, baseline.size) != (channels, candidate.size):
            raise DataError(f"the baseline {baseline.name} has other maps or another size than {name}")
        trackers[f"{name}, baseline {baseline.name}"] = MemoryOff(baseline.tracker)
    others = [_Row(row, tracker, True, alone) for row, tracker in trackers.items()]
    return [_Row(name, candidate.tracker, True, alone), *others]


def _rules(tracker: Tracker) -> dict[str, Tracker]:
    """The same network with fixed rules in the place of its fusion; of ``edge`` in torch, bundles cannot be changed."""
    if not (isinstance(tracker, TorchSession) and isinstance(tracker.network, Edge)):
        return {}
    return {
        name: tracker.with_network(with_rule(tracker.network, rule))
        for name, rule in (("mean", Mean()), ("hold", Hold()))
    }


def _check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"'{name}' is given twice; copy one of the files to another name")


def _check_frames(data: DataSet, frames: int) -> None:
    """Videos are cut into pieces of any length; only synthetic sequences have a longest one."""
    try:
        if not data.videos:
            SequenceOptions(kind="synthetic", frames=frames)
    except ValidationError as error:
        why = what_is_wrong(error)
        raise DataError(f"no synthetic sequences of {frames} frames ({why}); give --frames accordingly") from error


def _problems(data: DataSet) -> list[str]:
    """What was left out, and what cannot be counted."""
    problems = list(data.problems)
    if data.videos and not _has_every_frame(data):
        problems.append("flicker and walk-ins are not counted: they need labels of every frame (label --every 1)")
    return problems


def _has_every_frame(data: DataSet) -> bool:
    """Whether the data are videos of which every frame is labelled."""
    steps = {after - before for video in data.videos for before, after in pairwise(video.numbers)}
    return steps == {1}


def _evaluate(
    rows: Sequence[_Row],
    candidate: Candidate,
    data: DataSet,
    conditions: Conditions,
    progress: Callable[[], object] | None,
) -> dict[str, Evaluation]:
    return evaluate_together(
        {row.name: row.tracker for row in rows},
        held_out_sequences(data, candidate.size, conditions.frames, conditions.sequences, conditions.occluded),
        candidate.skeleton,
        candidate.channels,
        conditions.start,
        conditions.threshold,
        progress,
        _has_every_frame(data),
        candidate.person_threshold,
    )


def describe_data(data: DataSet, conditions: Conditions) -> str:
    """What is measured on, for the reader of a report."""
    made = "labelled video" if data.videos else "synthetic sequences of single pictures"
    harder = ", with a moving occluder and blur" if conditions.occluded else ""
    return f"{data.name}: {made}, up to {conditions.frames} frames each{harder}"


def _short_name(path: Path) -> str:
    """runs/table3-5/seed0/weights.safetensors is table3-5/seed0."""
    parts = path.resolve().parts
    return "/".join(parts[-3:-1]) if path.stem in ("weights", "best") and len(parts) > 3 else path.stem
