"""F1 of the bundle whose speed was measured. Workstations only: needs torch."""

import math
from collections.abc import Callable
from pathlib import Path

from benchmarks.run.bench_report import F1, Report
from benchmarks.run.notes import F1_MISSING
from benchmarks.run.one_stream import Options
from runtime.session import Session
from stm_skeletons.bundle import Bundle
from training.evaluation.candidates import Candidate, evaluate_candidates
from training.evaluation.conditions import Conditions

SEQUENCES = 20
"""Sequences of 12 frames, each clean and with a moving occluder: about a minute on two cores."""


def add_f1(report: Report, options: Options, say: Callable[[str], object]) -> Report:
    """The report with F1 on the data of the options, measured with the same bundle, backend and provider.

    Raises:
        DataError: the data cannot be read or have nothing to measure on.
        StmError: the session cannot be opened.
    """
    bundle = Bundle.open(options.model)
    found: list[F1] = []
    with Session.open(bundle, options.backend) as session:
        for kind, root in options.data.items():
            say(f"measuring F1 on {kind}")
            found += measure_f1(session, bundle.folder.name, kind, root)
    notes = [note for note in report.notes if note != F1_MISSING]
    return report.model_copy(update={"accuracy": found, "notes": notes})


def measure_f1(session: Session, name: str, kind: str, root: Path) -> list[F1]:
    """F1 of a session on held-out data, from a cold start: clean, and with a moving occluder and blur.

    Args:
        session: its memory is reset; its bundle sets the threshold.
        name: of the bundle.
        kind, root: kind and folder of the data, see training.data.open.

    Raises:
        DataError: the data cannot be read or have nothing to measure on.
    """
    info = session.info
    candidate = Candidate(name, session, info.skeleton, info.channels, info.size)
    return measure_candidate(candidate, kind, root, info.keypoint_threshold)


def measure_candidate(candidate: Candidate, kind: str, root: Path, threshold: float | None) -> list[F1]:
    """F1 of a candidate as in measure_f1; without a threshold, at its best one on these data."""
    found = []
    for occluded in (False, True):
        conditions = Conditions(start="cold", sequences=SEQUENCES, occluded=occluded, threshold=threshold)
        report = evaluate_candidates([candidate], kind, root, conditions, say=lambda _line: None)
        evaluation, score = report.evaluations[candidate.name], report.score(candidate.name, "one_to_one")
        low, high = evaluation.interval(score.threshold, "one_to_one") or (math.nan, math.nan)
        figures = {"f1": score.f1, "low": low, "high": high, "precision": score.precision, "recall": score.recall}
        known = {key: round(float(value), 4) if math.isfinite(value) else None for key, value in figures.items()}
        found.append(
            F1(
                kind=kind,
                data=report.data,
                occluded=occluded,
                sequences=len(evaluation.sequences),
                threshold=round(float(score.threshold), 4),
                **known,
            )
        )
    return found
