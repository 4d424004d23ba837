"""Differences between two networks on the same sequences: small cases worked out by hand."""

import math
from collections.abc import Iterable

import numpy as np
import pytest

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import COCO17
from training.evaluation.differences import Difference, difference, recall_in
from training.evaluation.evaluation import EvaluatedSequence, Evaluation, KeypointEvaluation
from training.evaluation.keypoints import MATCHINGS, THRESHOLDS, KeypointCounts, Matching, count_keypoints, stack


def frame(right: Iterable[float], wrong: Iterable[float] = (), labels: int = 10, hidden: int = 0) -> KeypointCounts:
    """Labels 40 px apart: the first are found with the scores ``right``; ``wrong`` are scores of predictions elsewhere.
    The first ``hidden`` labels are occluded."""
    found = [(40.0 * i + 3, 0, score) for i, score in enumerate(right)]
    found += [(40.0 * i, 200, score) for i, score in enumerate(wrong)]
    places = np.array([(40.0 * i, 0) for i in range(labels)]).reshape(-1, 2)
    return count_keypoints(places, np.reshape(found, (-1, 3)), THRESHOLDS, np.arange(labels) < hidden)


def evaluation(*sequences: list[KeypointCounts]) -> Evaluation:
    """An evaluation of sequences of equal length with these counts, the same for all joints."""
    by_sequence = stack(stack(frames).total() for frames in sequences)
    return Evaluation(
        skeleton=COCO17,
        channels=COCO17.channels,
        start="cold",
        size=(448, 256),
        sourced=COCO17.joints,
        thresholds=THRESHOLDS,
        sequences=tuple(
            EvaluatedSequence(name=str(i), frames=len(frames), seeded=False) for i, frames in enumerate(sequences)
        ),
        pixels=np.zeros((len(sequences), 3, 37), int),
        keypoints=KeypointEvaluation(
            by_joint=stack([by_sequence.total()] * 17),
            by_sequence=by_sequence,
            by_frame=stack(stack(same).total() for same in zip(*sequences, strict=True)),
        ),
        pairs=None,
        steadiness=None,
    )


def two_sequences(counts: KeypointCounts) -> Evaluation:
    """Two equal sequences of one frame, so resampling does not change the figures."""
    return evaluation([counts], [counts])


def four_found() -> KeypointCounts:
    """At 0.5, four of ten are found and a fifth prediction is wrong: precision 4/5, recall 4/10, F1 8/15."""
    return frame([0.7] * 4, [0.7])


def eight_found() -> KeypointCounts:
    """At 0.5, eight of ten are found and two more predictions are wrong: all three figures are 8/10. From 0.65 on,
    half as many are found and nothing is wrong."""
    return frame([0.9] * 4 + [0.6] * 4, [0.6] * 2)


def assert_same(interval: tuple[float, float] | None, value: float) -> None:
    assert interval == pytest.approx((value, value))


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("threshold", THRESHOLDS[::5])
def test_network_does_not_differ_from_itself_in_any_draw(threshold: float, matching: Matching):
    """Each threshold has a different recall."""
    found = [threshold + 0.005 for threshold in THRESHOLDS]
    ours = evaluation(*([frame(found, wrong, 100, 3)] for wrong in ([], [0.3, 0.6], [0.52] * 5)))
    expected = Difference(0, (0, 0), 0, 0, (0, 0))
    assert difference(ours, threshold, ours, threshold, matching) == expected


def test_most_precise_threshold_of_equal_recall_counts():
    """From 0.35 on, the wrong predictions are gone and all labels are still found. The precision difference of a
    network from itself is 0."""
    ours = two_sequences(frame([0.9] * 8, [0.32] * 2))
    for threshold in (0.35, 0.5, 0.9):
        found = difference(ours, threshold, ours, threshold, "one_to_one")
        assert found.precision == 0
        assert found.precision_interval == (0, 0)


def test_better_network_has_higher_f1_and_precision_at_equal_recall():
    found = difference(two_sequences(eight_found()), 0.5, two_sequences(four_found()), 0.5, "one_to_one")
    assert found.f1 == pytest.approx(8 / 10 - 8 / 15)
    assert_same(found.f1_interval, 8 / 10 - 8 / 15)
    # At 0.65 it also finds four of ten, with nothing wrong; 1 of 5 predictions of the other is wrong.
    assert found.precision == pytest.approx(1 / 5)
    assert_same(found.precision_interval, 1 / 5)


def test_precision_is_interpolated_between_thresholds():
    """Six of ten is halfway between four, with nothing wrong, and eight, with two of ten predictions wrong."""
    found = difference(two_sequences(eight_found()), 0.5, two_sequences(frame([0.7] * 6, [0.7] * 2)), 0.5, "one_to_one")
    assert found.precision == pytest.approx((1 + 8 / 10) / 2 - 6 / 8)
    assert_same(found.precision_interval, (1 + 8 / 10) / 2 - 6 / 8)


def test_precision_is_unknown_at_a_recall_that_is_never_reached():
    found = difference(two_sequences(four_found()), 0.5, two_sequences(eight_found()), 0.5, "one_to_one")
    assert found.f1 == pytest.approx(8 / 15 - 8 / 10)
    assert math.isnan(found.precision)
    assert found.precision_interval is None
    nothing = difference(two_sequences(frame([])), 0.5, two_sequences(four_found()), 0.5, "one_to_one")
    assert nothing.f1 == pytest.approx(-8 / 15)
    assert math.isnan(nothing.precision)


def test_each_network_is_taken_at_its_own_threshold():
    """At 0.75, one network finds four of ten and nothing wrong; the other finds nothing."""
    ours, theirs = two_sequences(eight_found()), two_sequences(four_found())
    assert difference(ours, 0.75, theirs, 0.5, "one_to_one").f1 == pytest.approx(8 / 14 - 8 / 15)
    assert difference(ours, 0.5, theirs, 0.75, "one_to_one").f1 == pytest.approx(8 / 10)


def test_difference_uses_the_given_matching():
    """One prediction matches two labels only with the closest matching."""
    places, found = np.array([(0, 0), (4, 0)]), np.array([(2, 0, 0.9)])
    ours, nothing = (two_sequences(count_keypoints(places, seen, THRESHOLDS)) for seen in (found, found[:0]))
    assert difference(ours, 0.5, nothing, 0.5, "closest").f1 == pytest.approx(1)
    assert difference(ours, 0.5, nothing, 0.5, "one_to_one").f1 == pytest.approx(2 / 3)


def test_hidden_recall_compares_only_occluded_labels():
    """One network finds 3 of 4 occluded labels, the other finds 1. Both find 4 of all 10 labels."""
    places, hidden = np.array([(40.0 * i, 0) for i in range(10)]), np.arange(10) < 4

    def finding(*indices: int) -> Evaluation:
        found = np.array([(40.0 * i, 3, 0.9) for i in indices])
        return two_sequences(count_keypoints(places, found, THRESHOLDS, hidden))

    found = difference(finding(0, 1, 2, 7), 0.5, finding(3, 5, 6, 7), 0.5, "one_to_one")
    assert (found.hidden_recall, found.f1) == (0.5, 0)
    assert math.isnan(
        difference(two_sequences(eight_found()), 0.5, two_sequences(four_found()), 0.5, "one_to_one").hidden_recall
    )


def test_intervals_draw_the_same_sequences_for_both_networks():
    """Each sequence is equally hard for both networks, and one network finds one more label in each. The difference has
    a far narrower interval than the networks, and than the difference with the sequences paired differently."""
    easy_to_hard = [3, 8, 2, 9, 5, 7, 1, 6]
    theirs = evaluation(*([frame([0.9] * found)] for found in easy_to_hard))
    ours = evaluation(*([frame([0.9] * (found + 1))] for found in easy_to_hard))
    mixed = evaluation(*([frame([0.9] * (found + 1))] for found in sorted(easy_to_hard)))

    def width(interval: tuple[float, float] | None) -> float:
        assert interval is not None
        return interval[1] - interval[0]

    paired = difference(ours, 0.5, theirs, 0.5, "one_to_one")
    unpaired = difference(mixed, 0.5, theirs, 0.5, "one_to_one")
    assert paired.f1 == unpaired.f1 == pytest.approx(2 * 49 / 129 - 2 * 41 / 121)
    assert paired.f1_interval is not None
    assert paired.f1_interval[0] > 0
    assert width(paired.f1_interval) < width(unpaired.f1_interval) / 3
    assert width(paired.f1_interval) < width(ours.interval(0.5, "one_to_one")) / 3
    again = difference(ours, 0.5, theirs, 0.5, "one_to_one")
    assert again.f1_interval == paired.f1_interval, "always the same draws"


def test_difference_to_an_empty_network_has_the_networks_own_interval():
    ours = evaluation(*([frame([0.9] * found, [0.8])] for found in (3, 8, 5)))
    nothing = evaluation(*[[frame([])]] * 3)
    found = difference(ours, 0.5, nothing, 0.5, "one_to_one")
    assert found.f1 == ours.at(0.5, "one_to_one").f1
    assert found.f1_interval == ours.interval(0.5, "one_to_one")


def test_one_sequence_has_no_intervals():
    found = difference(evaluation([eight_found()]), 0.5, evaluation([four_found()]), 0.5, "one_to_one")
    assert found.f1 == pytest.approx(8 / 10 - 8 / 15)
    assert found.precision == pytest.approx(1 / 5)
    assert found.f1_interval is found.precision_interval is None


@pytest.mark.parametrize("thresholds", [(0.5, 0.777), (0.777, 0.5)])
def test_a_threshold_that_was_not_counted_is_refused(thresholds: tuple[float, float]):
    ours, theirs = two_sequences(eight_found()), two_sequences(four_found())
    with pytest.raises(DataError, match=r"threshold 0\.777 was not counted"):
        difference(ours, thresholds[0], theirs, thresholds[1], "one_to_one")


def test_recall_in_a_range_of_frames_counts_all_their_labels():
    """The range includes its first frame and excludes its last; a frame with more labels weighs more."""
    walk = [frame([0.9] * found, labels=labels) for found, labels in ((9, 10), (8, 10), (1, 2), (0, 0), (2, 4))]
    ours = evaluation(walk, walk)
    for frames, expected in (
        ((0, 1), 9 / 10),
        ((1, 2), 8 / 10),
        ((1, 3), 9 / 12),
        ((0, 5), 20 / 26),
        ((2, 5), 3 / 6),
        ((4, 99), 2 / 4),
    ):
        assert recall_in(ours, frames, 0.5, "one_to_one") == pytest.approx(expected), frames
    assert recall_in(ours, (0, 5), 0.95, "one_to_one") == 0


@pytest.mark.parametrize("frames", [(3, 4), (5, 9), (2, 2)])
def test_recall_is_unknown_in_frames_without_labels(frames: tuple[int, int]):
    ours = evaluation([frame([0.9]), frame([0.9]), frame([0.9]), frame([], labels=0)])
    assert math.isnan(recall_in(ours, frames, 0.5, "one_to_one"))
