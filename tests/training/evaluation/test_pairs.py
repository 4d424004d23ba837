import numpy as np
import pytest

from stm_skeletons.maps import render_maps
from stm_skeletons.skeleton import COCO17
from training.data.sequence import SequenceFrame
from training.evaluation.pairs import count_pairs

EDGES = slice(18, 37)
POSE = np.array([(20 + 12 * (i % 3), 20 + 12 * i, 1) for i in range(17)], np.float32)


def frame(*shifts: float, unseen: tuple[tuple[int, int], ...] = (), hidden: tuple[tuple[int, int], ...] = ()):
    """People shifted by these many pixels, without the (person, joint) in ``unseen`` and ``hidden``."""
    poses = np.stack([POSE + np.array([shift, 0, 0], np.float32) for shift in shifts])
    inside, covered = np.ones((2, len(shifts), 17), bool)
    covered[:] = False
    for person, joint in unseen:
        inside[person, joint] = False
    for person, joint in hidden:
        covered[person, joint] = True
    image = np.zeros((256, 448, 3), np.uint8)
    corners = np.zeros((len(shifts), 4, 2), np.float32)
    return SequenceFrame(image, poses, inside, covered, corners, None, np.zeros((64, 112), bool))


def truth(seen: SequenceFrame) -> np.ndarray:
    return render_maps(seen.poses, COCO17, (256, 448))[EDGES]


def pairs(seen: SequenceFrame, maps: np.ndarray) -> list[int]:
    return count_pairs(maps, seen, COCO17).tolist()


def test_the_right_pairs_of_true_maps_score_higher():
    seen = frame(0, 150, 300)
    assert pairs(seen, truth(seen)) == [19 * 3 * 2] * 2
    holes_where_lines_are = np.where(truth(seen) > 0.1, 0, 1).astype(np.float32)
    assert pairs(seen, holes_where_lines_are) == [19 * 3 * 2, 0]


def test_a_tie_is_not_higher():
    seen = frame(0, 150)
    assert pairs(seen, np.full((19, 64, 112), 0.5, np.float32)) == [38, 0]
    same = frame(0, 0)
    assert pairs(same, truth(same)) == [38, 0]


def test_maps_of_the_wrong_person_are_told_for_each_person_apart():
    seen = frame(0, 150)
    only_first = render_maps(seen.poses[:1], COCO17, (256, 448))[EDGES]
    # From the first person's joint the right line is the drawn one, from the second's neither line is.
    count, right = pairs(seen, only_first)
    assert count == 38
    assert 19 <= right < 38


def test_a_persons_own_line_is_compared_with_the_one_to_another_from_the_same_joint():
    first, second = COCO17.edges[0]
    seen = frame(0, 0, unseen=tuple((i, j) for i in (0, 1) for j in range(17) if j not in (first, second)))
    places = {first: [(60, 60), (380, 60)], second: [(60, 200), (380, 200)]}
    for joint, xy in places.items():
        seen.poses[:, joint, :2] = xy

    def line(start: int, end: int) -> np.ndarray:
        pose = np.zeros((1, 17, 3), np.float32)
        pose[0, first], pose[0, second] = (*places[first][start], 1), (*places[second][end], 1)
        return render_maps(pose, COCO17, (256, 448))[EDGES]

    # The own line is the higher one for the first person and not for the second.
    heights = {(0, 0): 0.9, (0, 1): 0.3, (1, 0): 0.8, (1, 1): 0.6}
    maps = np.max([height * line(*ends) for ends, height in heights.items()], axis=0)
    assert pairs(seen, maps) == [2, 1]


@pytest.mark.parametrize("how", ["unseen", "hidden"])
def test_only_edges_of_two_people_whose_joints_are_seen_count(how):
    seen = frame(0, 150, **{how: ((0, 9),)})  # the left wrist ends one edge
    assert sum(9 in edge for edge in COCO17.edges) == 1
    assert pairs(seen, truth(seen)) == [36, 36]
    assert pairs(frame(0), truth(frame(0))) == [0, 0]
    three = frame(0, 150, 300, **{how: ((0, 9),)})
    assert pairs(three, truth(three)) == [18 * 6 + 2] * 2
