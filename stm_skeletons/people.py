"""Which parts belong to the same person: the edges say so."""

from dataclasses import replace

import numpy as np

from stm_skeletons.parts import Parts


def join_people(parts: Parts) -> Parts:
    """The same parts with ``people`` filled in.

    Edges join keypoints, the surest edge first, unless somebody would have a joint twice. The paper stops at parts;
    this is the greedy assembly of Cao et al. (on multi-person parsing), over all edges at once, not limb by limb.
    """
    # Plain integers: NumPy's calls would cost more than all the rest at some hundred edges.
    joints = [1 << kind for kind in parts.keypoint_types.tolist()]
    owner = list(range(len(joints)))
    members = [[i] for i in owner]
    for first, second in parts.edge_ends[np.argsort(-parts.edge_scores, kind="stable")].tolist():
        one, other = owner[first], owner[second]
        if joints[one] & joints[other]:  # also where both are the same person already
            continue
        joints[one] |= joints[other]
        members[one] += members[other]
        for i in members[other]:
            owner[i] = one
    numbers: dict[int, int] = {}
    people = [numbers.setdefault(one, len(numbers)) if len(members[one]) > 1 else -1 for one in owner]
    return replace(parts, people=np.array(people, np.int64))
