import numpy as np
import pytest

from benchmarks.keypoint_f1 import RADIUS, Sample, best_f1


def sample(labels, predictions) -> Sample:
    return Sample(np.array(labels, float).reshape(-1, 2), np.array(predictions, float).reshape(-1, 3))


@pytest.mark.parametrize(
    ("labels", "predictions", "precision", "recall"),
    [
        ([(0, 0), (50, 0)], [(0, 0, 0.9), (50, 0, 0.8)], 1, 1),
        ([(0, 0)], [(RADIUS - 1, 0, 0.9)], 1, 1),
        ([(0, 0)], [(RADIUS + 1, 0, 0.9)], 0, 0),
        ([(0, 0)], [(0, 0, 0.9), (1, 0, 0.9)], 0.5, 1),
        ([(0, 0), (4, 0)], [(2, 0, 0.9)], 1, 0.5),
        # Nearest first would leave the second label without a match.
        ([(0, 0), (8, 0)], [(9, 0, 0.9), (17, 0, 0.9)], 1, 1),
        ([(0, 0)], [], 0, 0),
    ],
)
def test_known_answers(labels, predictions, precision, recall):
    score = best_f1([sample(labels, predictions)])
    assert (score.precision, score.recall) == (precision, recall)


def test_the_best_threshold_keeps_what_is_right_and_drops_what_is_wrong():
    samples = [sample([(0, 0)], [(0, 0, 0.6), (90, 90, 0.3)]), sample([], [(5, 5, 0.4)])]
    score = best_f1(samples)
    assert score.f1 == 1
    assert 0.4 < score.threshold <= 0.6
