"""How many of the points that the moving occluder hides are found when it is not there: what memory could give at best.

python -m benchmarks.hidden WEIGHTS --data coco=COCO --thresholds REPORT
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from training.data.held_out import held_out_sequences
from training.data.labels import DataSet
from training.data.open import open_data
from training.data.sequence import Sequence
from training.evaluation.candidates import candidate_from_weights
from training.evaluation.controls import MemoryOff
from training.evaluation.evaluate import evaluate
from training.evaluation.thresholds import best_thresholds


def uncovered(data: DataSet, size: tuple[int, int], frames: int, count: int | None) -> Iterator[Sequence]:
    """The clean held-out sequences, in which the points are marked that the occluder hides in the occluded ones."""
    clean = held_out_sequences(data, size, frames, count)
    covered = held_out_sequences(data, size, frames, count, occluded=True)
    for seen, hidden in zip(clean, covered, strict=True):
        marked = zip(seen.frames, hidden.frames, strict=True)
        yield dataclasses.replace(seen, frames=tuple(dataclasses.replace(a, hidden=b.hidden) for a, b in marked))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", required=True, help="KIND=FOLDER")
    parser.add_argument("--thresholds", type=Path, required=True, help="report.json of an evaluation with --controls")
    parser.add_argument("--sequences", type=int)
    arguments = parser.parse_args()
    kind, _, root = arguments.data.partition("=")
    candidate = candidate_from_weights(arguments.weights)
    data = open_data(kind, Path(root), "val", candidate.skeleton, *candidate.holdout)
    trackers = {candidate.name: candidate.tracker, f"{candidate.name}, memory off": MemoryOff(candidate.tracker)}
    thresholds = best_thresholds(arguments.thresholds, list(trackers))
    for name, tracker in trackers.items():
        sequences = uncovered(data, candidate.size, 12, arguments.sequences)
        evaluation = evaluate(tracker, sequences, candidate.skeleton, candidate.channels, "cold")
        threshold = thresholds[name]["one_to_one"]
        recall = evaluation.hidden_recall(threshold, "one_to_one")
        print(f"{name}: {recall:.3f} of what would be hidden is found at {threshold:.2f}")


if __name__ == "__main__":
    main()
