import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from training.evaluation.keypoints import (
    BODY_JOINTS,
    MATCHINGS,
    RADIUS,
    THRESHOLDS,
    KeypointCounts,
    Score,
    best_score,
    count_keypoints,
    stack,
    sweep_scores,
    zeros,
)


def count(labels, predictions, thresholds=(0.5,), **more) -> KeypointCounts:
    labels, predictions = np.array(labels, float).reshape(-1, 2), np.array(predictions, float).reshape(-1, 3)
    return count_keypoints(labels, predictions, thresholds, **more)


def scores(counts: KeypointCounts, thresholds=(0.5,)) -> list[Score]:
    """Scores at the first threshold: with closest and with one-to-one matching."""
    return [sweep_scores(counts, thresholds, matching)[0] for matching in MATCHINGS]


POINTS = [(50.0, 60.0), (120.0, 60.0), (200.0, 150.0)]


def moved(x: float) -> list[tuple[float, float, float]]:
    return [(point[0] + x, point[1], 0.9) for point in POINTS]


@pytest.mark.parametrize(
    ("labels", "predictions", "closest", "one_to_one"),
    [
        pytest.param(POINTS, moved(0), (1, 1), (1, 1), id="perfect"),
        pytest.param(POINTS, moved(9), (1, 1), (1, 1), id="9 px off"),
        pytest.param(POINTS, moved(RADIUS), (1, 1), (1, 1), id="right on the radius"),
        pytest.param(POINTS, moved(11), (0, 0), (0, 0), id="11 px off"),
        pytest.param(POINTS, moved(0) + moved(10), (0.5, 1), (0.5, 1), id="doubled"),
        pytest.param([(0, 0), (0, 0)], [(2, 0, 0.9)], (1, 1), (1, 0.5), id="two labels, one prediction"),
        pytest.param([(0, 0), (4, 0)], [(2, 0, 0.9), (90, 0, 0.9)], (0.5, 1), (0.5, 0.5), id="and a wrong one"),
        # Both labels are closest to the first prediction. A greedy one-to-one matching would leave one unmatched.
        pytest.param([(0, 0), (8, 0)], [(9, 0, 0.9), (17, 0, 0.9)], (0.5, 1), (1, 1), id="two near two"),
        pytest.param(POINTS, [(50, 60, 0.4)], (math.nan, 0), (math.nan, 0), id="below the threshold"),
        pytest.param(POINTS, [], (math.nan, 0), (math.nan, 0), id="no predictions"),
        pytest.param([], moved(0), (0, math.nan), (0, math.nan), id="no labels"),
        pytest.param([], [], (math.nan, math.nan), (math.nan, math.nan), id="neither"),
    ],
)
def test_precision_and_recall_of_known_cases(labels, predictions, closest, one_to_one):
    for score, (precision, recall) in zip(scores(count(labels, predictions)), (closest, one_to_one), strict=True):
        np.testing.assert_equal((score.precision, score.recall), (precision, recall))
        if math.isnan(precision) and math.isnan(recall):
            assert math.isnan(score.f1)
        elif not precision or not recall or math.isnan(precision) or math.isnan(recall):
            assert score.f1 == 0
        else:
            assert score.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_predictions_in_unknown_areas_count_only_near_a_label():
    predictions = [(0, 0, 0.9), (5, 0, 0.9), (100, 0, 0.9), (200, 0, 0.9)]
    known = np.array([False, False, False, True])
    counts = count([(0, 0)], predictions, known=known)
    assert counts.predictions.tolist() == [3], "the one at 100 is not counted"
    assert counts.right.tolist() == [[1, 1]]


def test_hidden_labels_are_counted_separately_and_with_the_others():
    counts = count([(0, 0), (50, 0), (90, 0)], [(0, 0, 0.9), (50, 0, 0.9)], hidden=np.array([False, True, True]))
    assert (counts.labels.tolist(), counts.hits.tolist()) == (3, [[2, 2]])
    assert (counts.hidden.tolist(), counts.hidden_hits.tolist()) == (2, [[1, 1]])


def test_best_threshold_of_the_sweep_drops_only_wrong_predictions():
    counts = count([(0, 0)], [(0, 0, 0.6), (90, 90, 0.32)], THRESHOLDS)
    assert counts.predictions.tolist() == [2] * 28 + [1] * 28 + [0] * 35
    assert counts.hits[:, 0].tolist() == [1] * 56 + [0] * 35
    best = best_score(sweep_scores(counts, THRESHOLDS, "one_to_one"))
    assert best == Score(0.33, 1, 1, 1)


coordinates = st.integers(0, 60)
labels = st.lists(st.tuples(coordinates, coordinates), max_size=6)
predictions = st.lists(st.tuples(coordinates, coordinates, st.floats(0.01, 1)), max_size=8)


@given(labels, predictions)
def test_one_to_one_finds_no_more_than_closest_and_uses_labels_once(labels, predictions):
    counts = count(labels, predictions, THRESHOLDS)
    closest, strict = counts.hits[:, 0], counts.hits[:, 1]
    assert (strict <= closest).all()
    assert (strict == counts.right[:, 1]).all()
    assert (strict <= np.minimum(len(labels), counts.predictions)).all()
    assert (counts.right[:, 0] <= closest).all()
    assert (np.diff(strict) <= 0).all()
    assert (np.diff(closest) <= 0).all()


@given(labels, predictions)
def test_thresholds_of_a_sweep_are_counted_independently(labels, predictions):
    counts = count(labels, predictions, THRESHOLDS)
    for i in (0, 9):
        assert count(labels, predictions, THRESHOLDS[i : i + 1]).hits.tolist() == [counts.hits[i].tolist()]


def test_counts_add_up_and_round_trip_through_json():
    one, two = count(POINTS, moved(0), THRESHOLDS), count(POINTS, moved(11), THRESHOLDS)
    both = stack([one, two])
    assert both.total().model_dump_json() == (one + two).model_dump_json()
    assert both[1].model_dump_json() == two.model_dump_json()
    assert KeypointCounts.model_validate_json(both.model_dump_json()).model_dump_json() == both.model_dump_json()
    assert (zeros(len(THRESHOLDS)) + one).model_dump_json() == one.model_dump_json()


@pytest.mark.parametrize(
    "change", [{"labels": [1, 2]}, {"hits": [[1, 1]]}, {"labels": -1}, {"labels": 0.5}, {"labels": "many"}]
)
def test_impossible_counts_are_refused(change):
    good = zeros(len(THRESHOLDS)).model_dump(mode="json")
    KeypointCounts.model_validate(good)
    with pytest.raises(ValidationError):
        KeypointCounts.model_validate({**good, **change})


def test_body_joints_are_the_13_that_both_data_sets_label():
    assert len(BODY_JOINTS) == 13
