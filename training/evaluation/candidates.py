"""``stm-skeletons eval``: evaluates networks on the same data."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

import torch
from pydantic import ValidationError

from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.cli.progress import Progress, no_progress
from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import validation_message
from stm_skeletons.tracker import Tracker
from training.data.held_out import held_out_frames, held_out_sequences
from training.data.labels import DataSet
from training.data.open import open_data
from training.data.sequences import SequenceOptions
from training.evaluation.conditions import Conditions
from training.evaluation.controls import AffineMaps, Hold, Mean, WithoutMemory, with_rule
from training.evaluation.evaluate import evaluate_together
from training.evaluation.evaluation import Evaluation
from training.evaluation.report import Report
from training.evaluation.thresholds import best_thresholds
from training.model.edge import Edge
from training.model.session import TorchSession
from training.model.weights import load_weights
from training.recipe import DataSection

_DEFAULT = DataSection(kind="coco")


@dataclass(frozen=True)
class Candidate:
    """A network to evaluate, in torch or as a bundle."""

    name: str
    tracker: Tracker
    skeleton: Skeleton
    channels: tuple[str, ...]
    size: tuple[int, int]
    """(width, height) of its input in pixels."""
    holdout: tuple[float, int] = (_DEFAULT.holdout, _DEFAULT.holdout_seed)
    """Share and seed of the data held out from its training."""
    person_threshold: float = PERSON_THRESHOLD
    """Lowest score of reported people."""


def candidate_from_weights(
    path: Path,
    size: tuple[int, int] | None = None,
    slots: int | None = None,
    every: int | None = None,
    threads: int | None = None,
) -> Candidate:
    """A weights file, run in torch on the CPU.

    Args:
        path: weights file.
        size: (width, height) of the input; None for the size of its training.
        slots, every: memory; None for those of its training.
        threads: sets torch's CPU threads for the whole process; None for torch's default.

    Raises:
        WeightsError: the file cannot be read.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model, provenance = load_weights(path)
    trained = provenance.training.get("data", {})
    holdout = trained.get("holdout", _DEFAULT.holdout), trained.get("holdout_seed", _DEFAULT.holdout_seed)
    trained_slots, trained_every = provenance.memory
    session = TorchSession(model, trained_slots if slots is None else slots, trained_every if every is None else every)
    return Candidate(
        _short_name(path), session, model.config.skeleton, model.config.channels, size or provenance.size, holdout
    )


def evaluate_candidates(
    candidates: Iterable[Candidate],
    kind: str,
    root: Path,
    conditions: Conditions,
    say: Callable[[str], None] = print,
    progress: Progress = no_progress,
    baseline: Candidate | None = None,
) -> Report:
    """Evaluate all candidates on the same data.

    Args:
        candidates: at least one; names must differ.
        kind, root: kind and folder of the data, see training.data.open.
        conditions: of the evaluation.
        say: receives warnings about skipped data, line by line.
        progress: shows how far it is.
        baseline: a network to compare each candidate with, run without memory; it needs the same maps and size.

    Raises:
        DataError: the data cannot be read or have nothing to measure on, a row has no threshold in the given report,
            or the baseline has other maps or another size.
    """
    by_candidate = [(candidate, _rows(candidate, conditions.controls, baseline)) for candidate in candidates]
    rows = [row for _, candidate_rows in by_candidate for row in candidate_rows]
    _check_names([row.name for row in rows])
    thresholds = None
    if conditions.thresholds is not None:
        names = [row.name for row in rows if row.has_keypoints]
        thresholds = best_thresholds(conditions.thresholds, names, conditions.precision)
    evaluations, data = {}, None
    for candidate, candidate_rows in by_candidate:
        progress(f"reading {kind} data")
        data = open_data(kind, root, conditions.split, candidate.skeleton, *candidate.holdout)
        _check_frames(data, conditions.frames)
        if not evaluations:
            for problem in _problems(data):
                say(problem)
        evaluations |= _evaluate(candidate_rows, candidate, data, conditions, progress)
    if data is None:
        raise DataError("there is no model to evaluate; name at least one weights file or bundle")
    return Report(
        f"{', '.join(candidate.name for candidate, _ in by_candidate)} on {kind}",
        describe_data(data, conditions),
        evaluations,
        data.pseudo,
        conditions.threshold,
        thresholds,
        conditions.precision,
        None if conditions.thresholds is None else str(conditions.thresholds),
        {row.name: row.without_memory for row in rows if row.without_memory is not None},
    )


@dataclass(frozen=True)
class _Row:
    """A row of the tables: a network, or one of its controls."""

    name: str
    tracker: Tracker
    has_keypoints: bool
    without_memory: str | None = None
    """Name of the row of the same network without memory."""


def _rows(candidate: Candidate, controls: bool, baseline: Candidate | None) -> list[_Row]:
    name, skeleton, channels = candidate.name, candidate.skeleton, candidate.channels
    has_keypoints = any(joint in channels for joint in skeleton.joints)
    if not (has_keypoints and (controls or baseline)):
        return [_Row(name, candidate.tracker, has_keypoints)]
    without_memory = f"{name}, without memory"
    memoryless = WithoutMemory(candidate.tracker)
    trackers: dict[str, Tracker] = {without_memory: memoryless}
    if controls:
        trackers |= {f"{name}, {rule}": tracker for rule, tracker in _rules(candidate.tracker).items()}
        trackers[f"{name}, affine"] = AffineMaps(memoryless, skeleton, channels)
    if baseline is not None:
        if (baseline.channels, baseline.size) != (channels, candidate.size):
            raise DataError(f"baseline {baseline.name} and {name} differ in maps or input size; choose equal ones")
        trackers[f"{name}, baseline {baseline.name}"] = WithoutMemory(baseline.tracker)
    others = [_Row(row, tracker, True, without_memory) for row, tracker in trackers.items()]
    return [_Row(name, candidate.tracker, True, without_memory), *others]


def _rules(tracker: Tracker) -> dict[str, Tracker]:
    """The same network with fixed rules instead of its fusion; only for ``edge`` in torch, as bundles are fixed."""
    if not (isinstance(tracker, TorchSession) and isinstance(tracker.network, Edge)):
        return {}
    return {
        name: tracker.with_network(with_rule(tracker.network, rule))
        for name, rule in (("mean", Mean()), ("hold", Hold()))
    }


def _check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"'{name}' is listed twice; rename a copy of one of the files")


def _check_frames(data: DataSet, frames: int) -> None:
    """Check the length of synthetic sequences, which is limited; videos are cut into pieces of any length."""
    try:
        if not data.videos:
            SequenceOptions(kind="synthetic", frames=frames)
    except ValidationError as error:
        why = validation_message(error)
        raise DataError(f"--frames is {frames}, not possible for synthetic sequences ({why})") from error


def _problems(data: DataSet) -> list[str]:
    """Messages about skipped data, and about figures that cannot be computed."""
    problems = list(data.problems)
    if data.videos and not _has_every_frame(data):
        problems.append("flicker and walk-ins are not computed: they need labels of every frame (label --every 1)")
    return problems


def _has_every_frame(data: DataSet) -> bool:
    """Whether the data are videos with every frame labelled."""
    steps = {after - before for video in data.videos for before, after in pairwise(video.numbers)}
    return steps == {1}


def _evaluate(
    rows: Sequence[_Row],
    candidate: Candidate,
    data: DataSet,
    conditions: Conditions,
    progress: Progress,
) -> dict[str, Evaluation]:
    total = len(rows) * held_out_frames(data, conditions.frames, conditions.sequences)
    frames = count(1)
    return evaluate_together(
        {row.name: row.tracker for row in rows},
        held_out_sequences(data, candidate.size, conditions.frames, conditions.sequences, conditions.occluded),
        candidate.skeleton,
        candidate.channels,
        conditions.start,
        conditions.threshold,
        lambda: progress(f"evaluating {candidate.name}, frames", next(frames), total),
        _has_every_frame(data),
        candidate.person_threshold,
    )


def describe_data(data: DataSet, conditions: Conditions) -> str:
    """Description of the data for a report."""
    sequences = "labelled video" if data.videos else "synthetic sequences of single images"
    occluder = ", with a moving occluder and blur" if conditions.occluded else ""
    return f"{data.name}: {sequences}, up to {conditions.frames} frames each{occluder}"


def _short_name(path: Path) -> str:
    """Name of a weights file in reports: runs/table3-5/seed0/weights.safetensors is table3-5/seed0."""
    parts = path.resolve().parts
    return "/".join(parts[-3:-1]) if path.stem in ("weights", "best") and len(parts) > 3 else path.stem
