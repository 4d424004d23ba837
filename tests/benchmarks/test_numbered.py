import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.numbered import TRUTH, IdCounts, Person, Truth, count_switches
from stm_skeletons.people import People

WALKER = Person(id=1, boxes={0: (0, 0, 20, 60), 10: (100, 0, 20, 60)}, hidden=[(4, 5)], absent=[])


def reported(*people: tuple[int, float]) -> People:
    """People with these ids and left edges, 17 joints in a body of 20 x 60."""
    body = np.random.default_rng(0).random((17, 2)) * (20, 60)
    body[:2] = (0, 0), (20, 60)
    count = len(people)
    keypoints = np.ones((count, 17, 3), np.float32)
    for number, (_, left) in enumerate(people):
        keypoints[number, :, :2] = body + np.array([left, 0])
    ids = np.array([number for number, _ in people], np.int64)
    return People(np.ones(count, np.float32), keypoints, np.zeros((count, 17), np.int64), ids)


def test_boxes_are_interpolated_and_end_with_the_person():
    assert WALKER.box(5) == pytest.approx([50, 0, 20, 60])
    assert WALKER.box(11) is None
    assert WALKER.is_hidden(4)
    assert not WALKER.is_hidden(3)


def test_a_change_of_number_is_a_switch_and_a_gap_is_none():
    count = IdCounts(Truth(frames=10, people=[WALKER]))
    for frame, number in ((0, 0), (1, 7), (2, 7), (6, 7), (7, 8), (8, 8)):
        count.add(frame, reported((number, 10 * frame)))
    assert [(frame, before, now) for frame, _, before, now in count.switches] == [(7, 7, 8)]
    assert (count.matched, count.person_frames, count.false_positives) == (6, 6, 0)


def test_who_had_the_number_before_keeps_it_where_two_stand_close():
    """The person is a little nearer to the new one's position, but id 7 is still there."""
    count = IdCounts(Truth(frames=10, people=[WALKER]))
    count.add(1, reported((7, 10)))
    count.add(2, reported((9, 20), (7, 27)))
    assert count.switches == []
    assert count.false_positives == 1


def test_who_left_and_came_back_may_have_a_new_number():
    person = WALKER.model_copy(update={"absent": [(4, 5)]})
    count = IdCounts(Truth(frames=10, people=[person]))
    count.add(3, reported((7, 30)))
    count.add(6, reported((8, 60)))
    assert (len(count.switches), len(count.returns)) == (0, 1)


def test_a_hidden_person_is_not_missed():
    count = IdCounts(Truth(frames=10, people=[WALKER]))
    count.add(4, reported())
    assert count.person_frames == 0


@pytest.mark.slow
def test_people_numbered_by_eye_keep_their_numbers(shared: Path):
    """Bounds on the shipped model's results."""
    truth = Truth.model_validate(json.loads(TRUTH.read_text(encoding="utf-8")))
    count = count_switches("edge", str(shared / "video" / "vtest.avi"), truth)
    assert count.frames == 300
    assert count.matched / count.person_frames > 0.78
    assert count.false_positives < 30
    assert len(count.switches) <= 30
