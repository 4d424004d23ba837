"""Tests whether edge maps separate people: a pair of one person's joints must score higher than a mixed pair."""

import numpy as np
import torch
from numpy.typing import NDArray

from stm_skeletons.geometry import STRIDE
from stm_skeletons.skeleton import Skeleton
from training.data.sequence import SequenceFrame
from training.model.parts import score_edges


def count_pairs(maps: NDArray[np.float32], frame: SequenceFrame, skeleton: Skeleton) -> NDArray[np.int64]:
    """Compare an edge's score between joints of one person with its score between joints of two people.

    For each edge and each ordered pair of people A and B with both joints visible (labelled, inside, not hidden), the
    score from A's first to A's second joint is compared with the score from A's first to B's second joint.

    Args:
        maps: [NE, h, w] maps of the skeleton's edges, in order.
        frame: with the labels.
        skeleton: determines the joints of the edges.

    Returns:
        [2]: number of comparisons, and of those in which the correct pair scores strictly higher.
    """
    counts = np.zeros(2, np.int64)
    visible = frame.inside & ~frame.hidden
    # Row and column, as for peaks.
    cells = torch.from_numpy(np.floor(frame.poses[..., 1::-1] / STRIDE).astype(np.float32))
    for edge, (first, second) in enumerate(skeleton.edges):
        people = np.flatnonzero(visible[:, first] & visible[:, second])
        if len(people) < 2:
            continue
        edge_map = torch.from_numpy(np.ascontiguousarray(maps[edge : edge + 1]))
        scores = score_edges(edge_map, cells[people, first][None], cells[people, second][None])[0].numpy()
        # On the diagonal, the correct pair is compared with itself and is not higher.
        counts += [len(people) * (len(people) - 1), (scores.diagonal()[:, None] > scores).sum()]
    return counts
