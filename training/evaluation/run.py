"""Networks measured on one data set, side by side: what ``stm-skeletons eval`` does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import Skeleton
from training.data.held_out import held_out_sequences
from training.data.labels import DataSet
from training.data.open import open_data
from training.evaluation.evaluate import Start, Tracker, evaluate
from training.evaluation.report import Report
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


@dataclass(frozen=True)
class Conditions:
    """What is measured."""

    split: str = "val"
    start: Start = "seed"
    frames: int = 12
    sequences: int | None = None
    """At most so many; None for one of each picture or video."""
    occluded: bool = False
    threshold: float | None = None
    """Chosen elsewhere; None: the best on these data, said in the report."""


def candidate_from_weights(
    path: Path, size: tuple[int, int] | None = None, slots: int = 6, every: int = 5, threads: int | None = None
) -> Candidate:
    """A weights file, run in torch on the CPU; at the size that it was trained at unless another is given.

    ``threads`` holds for all of torch, from here on; None leaves the choice to it. Raises WeightsError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model, provenance = load_weights(path)
    trained = provenance.training.get("data", {})
    if size is None:
        size = trained.get("width", _DEFAULT.width), trained.get("height", _DEFAULT.height)
    holdout = trained.get("holdout", _DEFAULT.holdout), trained.get("holdout_seed", _DEFAULT.holdout_seed)
    session = TorchSession(model, slots, every)
    return Candidate(_short_name(path), session, model.config.skeleton, model.config.channels, size, holdout)


def evaluate_candidates(
    candidates: Iterable[Candidate],
    kind: str,
    root: Path,
    conditions: Conditions,
    say: Callable[[str], None] = print,
    progress: Callable[[], object] | None = None,
) -> Report:
    """Measure each on the same data.

    Args:
        candidates: at least one; names must differ.
        kind, root: of the data, see training.data.open.
        conditions: what is measured.
        say: is given what was left out, line by line.
        progress: called after every frame.

    Raises:
        DataError: no such data, or nothing in it to measure on.
    """
    evaluations, data = {}, None
    for candidate in candidates:
        if candidate.name in evaluations:
            raise DataError(f"'{candidate.name}' is given twice; copy one of the files to another name")
        data = open_data(kind, root, conditions.split, candidate.skeleton, *candidate.holdout)
        if not evaluations:
            for problem in data.problems:
                say(problem)
        sequences = held_out_sequences(
            data, candidate.size, conditions.frames, conditions.sequences, conditions.occluded
        )
        evaluations[candidate.name] = evaluate(
            candidate.tracker,
            sequences,
            candidate.skeleton,
            candidate.channels,
            conditions.start,
            conditions.threshold,
            progress,
        )
    if data is None:
        raise DataError("nothing to evaluate; name at least one weights file or bundle")
    name = describe_data(data, conditions)
    return Report(f"{', '.join(evaluations)} on {kind}", name, evaluations, data.pseudo, conditions.threshold)


def describe_data(data: DataSet, conditions: Conditions) -> str:
    """What is measured on, for the reader of a report."""
    made = "labelled video" if data.videos else "synthetic sequences of single pictures"
    harder = ", with a moving occluder and blur" if conditions.occluded else ""
    return f"{data.name}: {made}, up to {conditions.frames} frames each{harder}"


def _short_name(path: Path) -> str:
    """runs/table3-5/seed0/weights.safetensors is table3-5/seed0."""
    parts = path.resolve().parts
    return "/".join(parts[-3:-1]) if path.stem in ("weights", "best") and len(parts) > 3 else path.stem
