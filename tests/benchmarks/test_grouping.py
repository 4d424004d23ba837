import numpy as np
import pytest

from benchmarks.grouping import PEOPLE, crowd, measure
from stm_skeletons.identity import Identities
from stm_skeletons.skeleton import COCO17


@pytest.mark.parametrize("people", PEOPLE)
def test_all_people_in_rows_are_complete_and_keep_their_ids(people: int):
    identities = Identities(COCO17)
    seen = [identities.update(found, 0) for found in crowd(people, 6)]
    assert [len(one) for one in seen] == [people] * 6
    assert all(one.found.all() for one in seen)
    assert set(seen[0].ids.tolist()) == {0}, "no id is confirmed in the first frame"
    by_position = [one.ids[np.lexsort(one.keypoints[:, 0, :2].round(-1).T)] for one in seen[1:]]
    assert sorted(by_position[0]) == list(range(1, people + 1))
    assert {tuple(sorted(ids)) for ids in by_position} == {tuple(range(1, people + 1))}


@pytest.mark.slow
def test_grouping_takes_a_small_share_of_a_frame():
    times = measure("edge", 150)
    frame = np.median(times.frame)
    few, many = (np.median(times.grouping[people]) for people in PEOPLE)
    print(f"of a frame of {frame:.1f} ms: {PEOPLE[0]} people {few / frame:.1%}, {PEOPLE[1]} {many / frame:.1%}")
    assert (many - few) / frame < 0.05
