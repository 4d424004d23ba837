import numpy as np
import pytest

from stm_skeletons.maps import render_maps
from stm_skeletons.skeleton import COCO17
from training.data.sequence import SequenceFrame
from training.evaluation.pairs import count_pairs

EDGES = slice(18, 37)
POSE = np.array([(20 + 12 * (i % 3), 20 + 12 * i, 1) for i in range(17)], np.float32)


def frame(*shifts: float, unseen: tuple[tuple[int, int], ...] = (), hidden: tuple[tuple[int, int], ...] = ()):
    """People shifted by this many pixels each, without the (person, joint) in ``unseen`` and ``hidden``."""
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


def test_correct_pairs_score_higher_in_true_maps():
    seen = frame(0, 150, 300)
    assert pairs(seen, truth(seen)) == [19 * 3 * 2] * 2
    inverted = np.where(truth(seen) > 0.1, 0, 1).astype(np.float32)
    assert pairs(seen, inverted) == [19 * 3 * 2, 0]


def test_ties_are_not_correct():
    seen = frame(0, 150)
    assert pairs(seen, np.full((19, 64, 112), 0.5, np.float32)) == [38, 0]
    same = frame(0, 0)
    assert pairs(same, truth(same)) == [38, 0]


def test_pairs_of_each_person_are_compared_separately():
    seen = frame(0, 150)
    only_first = render_maps(seen.poses[:1], COCO17, (256, 448))[EDGES]
    # From the first person's joints, the correct line is drawn; from the second person's joints, no line is.
    count, right = pairs(seen, only_first)
    assert count == 38
    assert 19 <= right < 38


def test_own_edge_is_compared_with_the_edge_to_the_other_person():
    first, second = COCO17.edges[0]
    seen = frame(0, 0, unseen=tuple((i, j) for i in (0, 1) for j in range(17) if j not in (first, second)))
    places = {first: [(60, 60), (380, 60)], second: [(60, 200), (380, 200)]}
    for joint, xy in places.items():
        seen.poses[:, joint, :2] = xy

    def line(start: int, end: int) -> np.ndarray:
        pose = np.zeros((1, 17, 3), np.float32)
        pose[0, first], pose[0, second] = (*places[first][start], 1), (*places[second][end], 1)
        return render_maps(pose, COCO17, (256, 448))[EDGES]

    # The first person's own line is the higher one, but the second person's is not.
    heights = {(0, 0): 0.9, (0, 1): 0.3, (1, 0): 0.8, (1, 1): 0.6}
    maps = np.max([height * line(*ends) for ends, height in heights.items()], axis=0)
    assert pairs(seen, maps) == [2, 1]


@pytest.mark.parametrize("reason", ["unseen", "hidden"])
def test_only_edges_of_two_people_with_visible_joints_count(reason):
    seen = frame(0, 150, **{reason: ((0, 9),)})  # the left wrist ends one edge
    assert sum(9 in edge for edge in COCO17.edges) == 1
    assert pairs(seen, truth(seen)) == [36, 36]
    assert pairs(frame(0), truth(frame(0))) == [0, 0]
    three = frame(0, 150, 300, **{reason: ((0, 9),)})
    assert pairs(three, truth(three)) == [18 * 6 + 2] * 2
