"""Whether edge maps tell who is who: the right pair of joints must score higher than one with another person's."""

import numpy as np
import torch
from numpy.typing import NDArray

from stm_skeletons.geometry import STRIDE
from stm_skeletons.skeleton import Skeleton
from training.data.sequence import SequenceFrame
from training.model.parts import score_edges


def count_pairs(maps: NDArray[np.float32], frame: SequenceFrame, skeleton: Skeleton) -> NDArray[np.int64]:
    """Compare, for each edge and each two people A and B both of whose joints are seen (labelled, inside and not
    hidden), the edge's score from A's first joint to A's second with that from A's first to B's second.

    Args:
        maps: [NE, h, w] of the skeleton's edges, in their order.
        frame: with the labels.
        skeleton: names the edges' joints.

    Returns:
        [2]: comparisons, and those in which the right pair scores higher (not: the same).
    """
    counts = np.zeros(2, np.int64)
    seen = frame.inside & ~frame.hidden
    # Row and column, as peaks have them.
    cells = torch.from_numpy(np.floor(frame.poses[..., 1::-1] / STRIDE).astype(np.float32))
    for edge, (first, second) in enumerate(skeleton.edges):
        people = np.flatnonzero(seen[:, first] & seen[:, second])
        if len(people) < 2:
            continue
        edge_map = torch.from_numpy(np.ascontiguousarray(maps[edge : edge + 1]))
        scores = score_edges(edge_map, cells[people, first][None], cells[people, second][None])[0].numpy()
        # On the diagonal the right pair is compared with itself, and is not higher.
        counts += [len(people) * (len(people) - 1), (scores.diagonal()[:, None] > scores).sum()]
    return counts
