"""What one network has more than another on the same sequences: small cases worked by hand."""

import math
from collections.abc import Iterable

import numpy as np
import pytest

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import COCO17
from training.evaluation.against import Against, against, recall_in
from training.evaluation.evaluation import EvaluatedSequence, Evaluation, KeypointEvaluation
from training.evaluation.keypoints import MATCHINGS, THRESHOLDS, KeypointCounts, Matching, count_keypoints, stack


def frame(right: Iterable[float], wrong: Iterable[float] = (), labels: int = 10, hidden: int = 0) -> KeypointCounts:
    """So many labels 40 px apart: the first ones are found with these scores, and elsewhere others with those. As many
    as ``hidden`` of the first labels are covered."""
    found = [(40.0 * i + 3, 0, score) for i, score in enumerate(right)]
    found += [(40.0 * i, 200, score) for i, score in enumerate(wrong)]
    places = np.array([(40.0 * i, 0) for i in range(labels)]).reshape(-1, 2)
    return count_keypoints(places, np.reshape(found, (-1, 3)), THRESHOLDS, np.arange(labels) < hidden)


def evaluation(*sequences: list[KeypointCounts]) -> Evaluation:
    """Of sequences that are equally long, as the frames were counted; of all joints alike."""
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


def twice(counts: KeypointCounts) -> Evaluation:
    """Two sequences of one frame, both the same: whichever are drawn, the figures stay."""
    return evaluation([counts], [counts])


def half() -> KeypointCounts:
    """At 0.5 four of ten are found, and a fifth is wrong: precision 4/5, recall 4/10, F1 8/15."""
    return frame([0.7] * 4, [0.7])


def most() -> KeypointCounts:
    """At 0.5 eight of ten are found, and two more are wrong: all three figures 8/10; from 0.65 on half as many are
    found, and nothing is wrong."""
    return frame([0.9] * 4 + [0.6] * 4, [0.6] * 2)


def assert_same(interval: tuple[float, float] | None, value: float) -> None:
    assert interval == pytest.approx((value, value))


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("threshold", THRESHOLDS[::5])
def test_against_itself_there_is_no_difference_in_any_draw(threshold: float, matching: Matching):
    """Where each threshold finds another share."""
    found = [threshold + 0.005 for threshold in THRESHOLDS]
    ours = evaluation(*([frame(found, wrong, 100, 3)] for wrong in ([], [0.3, 0.6], [0.52] * 5)))
    expected = Against(0, (0, 0), 0, 0, (0, 0))
    assert against(ours, threshold, ours, threshold, matching) == expected


def test_of_thresholds_that_find_as_much_the_most_precise_one_counts():
    """From 0.35 on what is wrong is gone, and all that is right is still found: no network is less precise than
    itself."""
    ours = twice(frame([0.9] * 8, [0.32] * 2))
    for threshold in (0.35, 0.5, 0.9):
        found = against(ours, threshold, ours, threshold, "one_to_one")
        assert found.precision == 0
        assert found.precision_interval == (0, 0)


def test_what_finds_more_has_a_higher_f1_and_is_preciser_where_it_finds_as_much():
    found = against(twice(most()), 0.5, twice(half()), 0.5, "one_to_one")
    assert found.f1 == pytest.approx(8 / 10 - 8 / 15)
    assert_same(found.f1_interval, 8 / 10 - 8 / 15)
    # It finds four of ten too at 0.65, with nothing wrong, where the other has one of five.
    assert found.precision == pytest.approx(1 / 5)
    assert_same(found.precision_interval, 1 / 5)


def test_precision_is_interpolated_between_thresholds():
    """Six of ten lie in the middle of four, all right, and of eight, with two of ten wrong."""
    found = against(twice(most()), 0.5, twice(frame([0.7] * 6, [0.7] * 2)), 0.5, "one_to_one")
    assert found.precision == pytest.approx((1 + 8 / 10) / 2 - 6 / 8)
    assert_same(found.precision_interval, (1 + 8 / 10) / 2 - 6 / 8)


def test_precision_is_unknown_where_so_much_is_never_found():
    found = against(twice(half()), 0.5, twice(most()), 0.5, "one_to_one")
    assert found.f1 == pytest.approx(8 / 15 - 8 / 10)
    assert math.isnan(found.precision)
    assert found.precision_interval is None
    nothing = against(twice(frame([])), 0.5, twice(half()), 0.5, "one_to_one")
    assert nothing.f1 == pytest.approx(-8 / 15)
    assert math.isnan(nothing.precision)


def test_each_is_taken_at_its_own_threshold():
    """At 0.75 the one finds four of ten and nothing wrong, and the other finds nothing."""
    ours, theirs = twice(most()), twice(half())
    assert against(ours, 0.75, theirs, 0.5, "one_to_one").f1 == pytest.approx(8 / 14 - 8 / 15)
    assert against(ours, 0.5, theirs, 0.75, "one_to_one").f1 == pytest.approx(8 / 10)


def test_the_matching_is_the_one_asked_for():
    """One prediction serves two labels in the closest matching only."""
    places, found = np.array([(0, 0), (4, 0)]), np.array([(2, 0, 0.9)])
    ours, nothing = (twice(count_keypoints(places, seen, THRESHOLDS)) for seen in (found, found[:0]))
    assert against(ours, 0.5, nothing, 0.5, "closest").f1 == pytest.approx(1)
    assert against(ours, 0.5, nothing, 0.5, "one_to_one").f1 == pytest.approx(2 / 3)


def test_recall_of_what_is_hidden_is_compared_among_that_alone():
    """Of the four hidden labels three are found and one, of all ten as many by both."""
    places, hidden = np.array([(40.0 * i, 0) for i in range(10)]), np.arange(10) < 4

    def finding(*numbers: int) -> Evaluation:
        found = np.array([(40.0 * i, 3, 0.9) for i in numbers])
        return twice(count_keypoints(places, found, THRESHOLDS, hidden))

    found = against(finding(0, 1, 2, 7), 0.5, finding(3, 5, 6, 7), 0.5, "one_to_one")
    assert (found.hidden_recall, found.f1) == (0.5, 0)
    assert math.isnan(against(twice(most()), 0.5, twice(half()), 0.5, "one_to_one").hidden_recall)


def test_intervals_are_of_the_same_sequences_for_both():
    """Sequences are harder or easier for both alike, and one more is found in each: that is far surer than the figures
    of either, and than the difference where each of the sequences is compared with another one."""
    easy_to_hard = [3, 8, 2, 9, 5, 7, 1, 6]
    theirs = evaluation(*([frame([0.9] * found)] for found in easy_to_hard))
    ours = evaluation(*([frame([0.9] * (found + 1))] for found in easy_to_hard))
    mixed = evaluation(*([frame([0.9] * (found + 1))] for found in sorted(easy_to_hard)))

    def width(interval: tuple[float, float] | None) -> float:
        assert interval is not None
        return interval[1] - interval[0]

    paired = against(ours, 0.5, theirs, 0.5, "one_to_one")
    unpaired = against(mixed, 0.5, theirs, 0.5, "one_to_one")
    assert paired.f1 == unpaired.f1 == pytest.approx(2 * 49 / 129 - 2 * 41 / 121)
    assert paired.f1_interval is not None
    assert paired.f1_interval[0] > 0
    assert width(paired.f1_interval) < width(unpaired.f1_interval) / 3
    assert width(paired.f1_interval) < width(ours.interval(0.5, "one_to_one")) / 3
    again = against(ours, 0.5, theirs, 0.5, "one_to_one")
    assert again.f1_interval == paired.f1_interval, "always the same draws"


def test_against_nothing_the_interval_is_that_of_the_network():
    ours = evaluation(*([frame([0.9] * found, [0.8])] for found in (3, 8, 5)))
    nothing = evaluation(*[[frame([])]] * 3)
    found = against(ours, 0.5, nothing, 0.5, "one_to_one")
    assert found.f1 == ours.at(0.5, "one_to_one").f1
    assert found.f1_interval == ours.interval(0.5, "one_to_one")


def test_one_sequence_has_no_intervals():
    found = against(evaluation([most()]), 0.5, evaluation([half()]), 0.5, "one_to_one")
    assert found.f1 == pytest.approx(8 / 10 - 8 / 15)
    assert found.precision == pytest.approx(1 / 5)
    assert found.f1_interval is found.precision_interval is None


@pytest.mark.parametrize("thresholds", [(0.5, 0.777), (0.777, 0.5)])
def test_a_threshold_that_was_not_counted_is_refused(thresholds: tuple[float, float]):
    ours, theirs = twice(most()), twice(half())
    with pytest.raises(DataError, match=r"nothing was counted at threshold 0\.777"):
        against(ours, thresholds[0], theirs, thresholds[1], "one_to_one")


def test_recall_in_some_frames_is_of_all_their_labels():
    """From the first frame on and before the second; a frame with more labels weighs more."""
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
