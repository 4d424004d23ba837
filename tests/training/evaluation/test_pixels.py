import math

import numpy as np

from stm_skeletons.maps import SKELETON_CHANNEL
from stm_skeletons.skeleton import COCO17
from training.evaluation.pixels import channel_groups, count_pixels, pixel_score


def test_cells_are_binarised_and_counted():
    maps = np.array([[[0.5, 0.9, 0.49, 0.8]], [[0, 0, 0, 0]]])
    targets = np.array([[[1, 0.4, 0.5, 1]], [[0, 1, 0, 0]]])
    everything = np.ones(maps.shape, bool)
    counts = count_pixels(maps, targets, everything)
    assert counts.T.tolist() == [[2, 3, 3], [0, 0, 1]]
    score = pixel_score(counts[:, 0])
    assert (score.precision, score.recall, score.f1) == (2 / 3, 2 / 3, 2 / 3)
    score = pixel_score(counts[:, 1])
    assert math.isnan(score.precision)
    assert (score.recall, score.f1) == (0, 0)
    assert pixel_score(counts.sum(axis=1)).recall == 0.5


def test_cells_without_weight_are_left_out_of_all_counts():
    maps = targets = np.ones((1, 2, 2))
    weights = np.array([[[True, False], [False, False]]])
    assert count_pixels(maps, targets, weights).ravel().tolist() == [1, 1, 1]
    assert math.isnan(pixel_score(count_pixels(maps, targets, ~weights & weights)[:, 0]).f1)


def test_channel_groups_are_those_of_the_network():
    groups = channel_groups(COCO17, COCO17.channels)
    assert [len(groups[name]) for name in ("overall", "mask", "keypoints", "edges")] == [37, 1, 17, 19]
    assert sorted(channel_groups(COCO17, ("mask", *COCO17.edge_names))) == ["edges", "mask", "overall"]
    assert channel_groups(COCO17, (SKELETON_CHANNEL,)) == {"skeleton": [0]}
