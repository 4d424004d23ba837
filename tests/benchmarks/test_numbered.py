import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.numbered import TRUTH, IdCounts, Person, Truth, count_switches
from stm_skeletons.people import People

WALKER = Person(id=1, boxes={0: (0, 0, 20, 60), 10: (100, 0, 20, 60)}, hidden=[(4, 5)], absent=[])


def people_at(*people: tuple[int, float]) -> People:
    """People with these ids and left edges, 17 joints in a body of 20 x 60."""
    body = np.random.default_rng(0).random((17, 2)) * (20, 60)
    body[:2] = (0, 0), (20, 60)
    count = len(people)
    keypoints = np.ones((count, 17, 3), np.float32)
    for index, (_, left) in enumerate(people):
        keypoints[index, :, :2] = body + np.array([left, 0])
    ids = np.array([person_id for person_id, _ in people], np.int64)
    return People(np.ones(count, np.float32), keypoints, np.zeros((count, 17), np.int64), ids)


def test_boxes_are_interpolated_up_to_the_last_one():
    assert WALKER.box(5) == pytest.approx([50, 0, 20, 60])
    assert WALKER.box(11) is None
    assert WALKER.is_hidden(4)
    assert not WALKER.is_hidden(3)


def test_changed_id_is_a_switch_but_a_gap_is_not():
    count = IdCounts(Truth(frames=10, people=[WALKER]))
    for frame, person_id in ((0, 0), (1, 7), (2, 7), (6, 7), (7, 8), (8, 8)):
        count.add(frame, people_at((person_id, 10 * frame)))
    assert [(frame, before, now) for frame, _, before, now in count.switches] == [(7, 7, 8)]
    assert (count.matched, count.person_frames, count.false_positives) == (6, 6, 0)


def test_previous_id_wins_over_a_slightly_closer_one():
    """Id 9 is slightly closer to the true box, but id 7 is still present."""
    count = IdCounts(Truth(frames=10, people=[WALKER]))
    count.add(1, people_at((7, 10)))
    count.add(2, people_at((9, 20), (7, 27)))
    assert count.switches == []
    assert count.false_positives == 1


def test_new_id_after_an_absence_is_not_a_switch():
    person = WALKER.model_copy(update={"absent": [(4, 5)]})
    count = IdCounts(Truth(frames=10, people=[person]))
    count.add(3, people_at((7, 30)))
    count.add(6, people_at((8, 60)))
    assert (len(count.switches), len(count.returns)) == (0, 1)


def test_hidden_person_is_not_counted():
    count = IdCounts(Truth(frames=10, people=[WALKER]))
    count.add(4, people_at())
    assert count.person_frames == 0


@pytest.mark.slow
def test_people_of_the_annotated_video_keep_their_ids(shared: Path):
    """Bounds on the shipped model's results, and a gain over the nearest box's id."""
    truth = Truth.model_validate(json.loads(TRUTH.read_text(encoding="utf-8")))
    count = count_switches("edge", str(shared / "video" / "vtest.avi"), truth)
    assert count.frames == 300
    assert count.matched / count.person_frames > 0.78
    assert count.false_positives < 30
    assert len(count.switches) <= 18
    nearest = count_switches("edge", str(shared / "video" / "vtest.avi"), truth, "nearest")
    assert len(count.switches) < 0.6 * len(nearest.switches)
