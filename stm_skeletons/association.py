"""Assigns parts to people: peaks, centres and edges become people.

A centre gives a person's confidence and the expected position of each joint. The best one-to-one assignment gives each
joint's peaks to the centres. A peak's worth for a person grows with its score, its closeness to the expected position
(relative to the person's size) and the scores of its edges to the person's other joints. Remaining peaks that edges
connect become people without a centre. Peaks that are still left belong to no person.

All distances are relative to the people's size, so a scaled scene gives the same people scaled. People far apart do not
affect each other.

Shape legend: M people, NK joints, K peaks of each joint.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.assignment import best_assignment
from stm_skeletons.detections import Detections
from stm_skeletons.people import People, concatenate, no_people
from stm_skeletons.skeleton import Skeleton

PERSON_THRESHOLD = 0.15
"""Lowest score of a reported person, unless the bundle or the user overrides it."""
LOWEST_CENTRE = 0.1
"""Centres with a lower score are ignored."""
SAME_PERSON = 0.15
"""Two centres are the same person if the mean distance of their joints is below this; in sizes of the larger one."""
LOWEST_PEAK = 0.1
"""Peaks with a lower score are ignored: the joint is then predicted from the centre."""
REACH = 0.5
"""Distance from the expected joint at which a peak's worth in the greedy assignment has fallen to exp(-2); in sizes of
the person."""
MIN_SHARE = 0.25
"""A peak is considered for a person if its worth is at least this share of that of the person's best peak."""
GREEDY_ROUNDS = 2
"""Rounds of the greedy assignment."""
EXACT_ROUNDS = 2
"""Rounds of the exact assignment."""
REFINED_REACH = 0.18
"""Distance from the expected joint at which a peak's worth in the exact assignment has fallen to exp(-1); in sizes of
the person. Falls more slowly than a Gaussian, because wrists and ankles may be far from their expected place."""
PEAK_POWER, CENTRE_POWER = 1.5, 0.7
"""Exponents of the peak's and the centre's score in a peak's worth in the exact assignment."""
EDGE_PRIOR, HINT_PRIOR = 0.5, 0.06
"""Added to edge support and hint in a peak's worth, so that neither has to be there."""
OFFSET_PRIOR = 0.3
"""Sum of found joints' scores at which a centre is shifted halfway towards them."""
NO_EDGE_SUPPORT = 0.1
"""Edge support if the person has no other joint to connect to."""
MIN_WORTH = 1e-3
"""A peak of lower worth to a person is never assigned to that person."""
CONFIDENT_PEAK = 0.3
"""Peaks from this score on may form a person without a centre."""
CONFIDENT_EDGE = 0.15
"""Edges from this score on connect such peaks."""
SAME_PLACE = 0.5
"""Two people are in the same place if the mean distance of their joints is below this, in sizes of the surer one."""
FRAGMENT_SCORE = 0.5
"""A fragment scores less than this share of the surer person's score."""
MIN_CONFIDENT_JOINTS = 2
"""Fewest confident joints of a new person; of people with fewer, 2 in 100 were real on validation images."""
FRAGMENT_JOINTS = 5
"""A person with this many joints is never a fragment."""
MIN_JOINTS = 3
"""Fewest joints of a person."""
MISSING_CENTRE = 0.1
"""Centre score of people without a centre."""
SCORED_JOINTS = 8
"""A person's score is the mean of this many best joints, because the others are often occluded."""
CENTRE_POWER = 0.3
"""Exponent of the centre's score in a person's score; chosen on validation images."""
PREDICTED_SCORE = 0.02
"""Score of a predicted joint, relative to its centre's."""


@dataclass(frozen=True)
class Candidates:
    """M candidate people before the peaks are assigned; network pixels."""

    places: NDArray[np.float32]
    """[M, NK, 2]: expected joint positions."""
    centres: NDArray[np.float32]
    """[M]: confidence that the person exists."""
    tags: NDArray[np.int64]
    """[M]: the caller's identifiers; become ``People.ids``."""

    @cached_property
    def sizes(self) -> NDArray[np.float32]:
        """[M]: sizes of the people, see ``sizes``."""
        return sizes(self.places)


def find_people(found: Detections, skeleton: Skeleton) -> People:
    """Return all people in a frame's detections, best first, in network pixels, without ids (all 0)."""
    found = trim_peaks(found)
    candidates = candidates_from_centres(found)
    first = assign_greedily(found.peaks, candidates)
    return finish_people(found, refine(found, skeleton, candidates, first), skeleton)


def trim_peaks(found: Detections) -> Detections:
    """Drop trailing peak columns that no joint uses: most frames have far fewer people than there is room for, and all
    later steps take time in proportion."""
    parts = np.flatnonzero((found.peaks[..., 2] >= LOWEST_PEAK).any(axis=0))
    count = int(parts.max(initial=0)) + 1
    return replace(
        found,
        peaks=found.peaks[:, :count],
        edge_scores=found.edge_scores[:, :count, :count],
        previous=found.previous[:, :, :count],
    )


def candidates_from_centres(found: Detections) -> Candidates:
    """Return the candidates from the centres, with tags 0."""
    chosen = _without_duplicates(found.centres[:, 2], found.centre_joints)
    return Candidates(found.centre_joints[chosen], found.centres[chosen, 2], np.zeros(len(chosen), np.int64))


def refine(
    found: Detections, skeleton: Skeleton, candidates: Candidates, first: People, hints: NDArray | None = None
) -> People:
    """Refine a first assignment: shift each centre by its mean offset and weigh peaks by their edges.

    Args:
        found: peaks and edge scores.
        skeleton: gives the edges' joints.
        candidates: the candidates.
        first: their first assignment.
        hints: [NK, M, K] in [0, 1]: other evidence that a peak belongs to a person.
    """
    people = first
    for _ in range(EXACT_ROUNDS):
        seen = np.where(people.found, people.keypoints[..., 2], 0)[..., None]
        off = reduce_axis(np.add, (people.keypoints[..., :2] - candidates.places) * seen, 1)
        offset = off / (seen.sum(axis=1) + OFFSET_PRIOR)
        likely = (EDGE_PRIOR + _edge_support(found, skeleton, people)) / (EDGE_PRIOR + 1)
        if hints is not None:
            likely *= (HINT_PRIOR + hints) / (HINT_PRIOR + 1)
        moved = replace(candidates, places=candidates.places + offset[:, None])
        before, people = people, assign_exactly(found.peaks, moved, candidates.sizes, likely)
        if np.array_equal(before.peaks, people.peaks):
            break  # another round would repeat this one
    return people


def _edge_support(found: Detections, skeleton: Skeleton, people: People) -> NDArray[np.float32]:
    """[NK, M, K]: mean score of the edges from each peak to the people's other joints; NO_EDGE_SUPPORT for people
    without a connected joint."""
    joints, count = found.peaks.shape[:2]
    total = np.zeros((joints, len(people) * count), np.float32)
    number = np.zeros((joints, len(people)), np.float32)
    (at_first, first), (at_second, second) = _ends(skeleton.edges, joints)
    edges = np.arange(len(first))[:, None]
    for of_joint, others, scores in (
        (at_first, second, found.edge_scores.transpose(0, 2, 1)),
        (at_second, first, found.edge_scores),
    ):
        has = people.peaks[:, others].T  # [NE, M]: the peak at the other end
        support = scores[edges, has] * (has >= 0)[..., None]
        total += of_joint @ support.reshape(len(edges), -1)
        number += of_joint @ (has >= 0).astype(np.float32)
    mean = total.reshape(joints, len(people), count) / np.maximum(number, 1)[..., None]
    return np.where(number[..., None] > 0, mean, np.float32(NO_EDGE_SUPPORT))


@cache
def _ends(edges: tuple[tuple[int, int], ...], joints: int) -> tuple[tuple[NDArray, NDArray], ...]:
    """First and second joints of the edges, each as an indicator [NK, NE] and as joint indices [NE]."""
    return tuple(((np.arange(joints)[:, None] == ends).astype(np.float32), ends) for ends in np.array(edges).T)


def assign_greedily(peaks: NDArray, candidates: Candidates) -> People:
    """Assign peaks [NK, K, 3] greedily: candidate and peak must prefer each other. Fast, and a good start for the exact
    assignment."""
    worth = _worth(peaks, candidates)
    taken = np.full(worth.shape[:2], -1, np.int64)
    if not worth.size:
        return _people(peaks, candidates, taken.T)
    joints, people = np.arange(len(peaks))[:, None], np.arange(len(candidates.places))
    for _ in range(GREEDY_ROUNDS):
        best = np.asarray(worth.argmax(axis=2))
        own = worth[joints, people, best]
        wanted = own > 0
        agreed = wanted & (own >= reduce_axis(np.maximum, worth, 1)[joints, best])
        taken[agreed] = best[agreed]
        if agreed.sum() == wanted.sum():
            break
        where, who = np.nonzero(agreed)
        worth[where, :, best[where, who]] = 0
        worth[agreed] = 0
    return _people(peaks, candidates, taken.T)


def assign_exactly(peaks: NDArray, candidates: Candidates, size: NDArray, likely: NDArray) -> People:
    """Assign each joint's peaks to candidates one to one, with the largest sum of worth.

    Args:
        peaks: [NK, K, 3] x, y, score.
        candidates: the candidates.
        size: [M]: their sizes in network pixels.
        likely: [NK, M, K]: factor on each peak's worth to each candidate.
    """
    near = np.exp(-np.sqrt(square_distances(peaks[..., :2], candidates.places, REFINED_REACH * size)))
    scores = usable_scores(peaks) ** np.float32(PEAK_POWER)
    worth = _at_least(MIN_WORTH, near * scores * (candidates.centres**CENTRE_POWER)[:, None] * likely)
    likeliest = reduce_axis(np.maximum, worth, 2)[..., None]
    return _people(peaks, candidates, best_assignment(_at_least(MIN_SHARE * likeliest, worth)).T)


def _worth(peaks: NDArray, candidates: Candidates) -> NDArray[np.float32]:
    """[NK, M, K]: worth of each peak to each candidate in the greedy assignment, 0 if they do not match."""
    near = closeness(peaks[..., :2], candidates.places, REACH * candidates.sizes)
    return _at_least(MIN_WORTH, near * usable_scores(peaks) * candidates.centres[:, None])


def usable_scores(peaks: NDArray) -> NDArray[np.float32]:
    """[NK, 1, K]: scores of the peaks, 0 for those that are ignored."""
    return np.where(peaks[..., 2] >= LOWEST_PEAK, peaks[..., 2], np.float32(0))[:, None]


def _at_least(least: NDArray | float, values: NDArray) -> NDArray[np.float32]:
    return np.where(values >= least, values, np.float32(0))


def _people(peaks: NDArray, candidates: Candidates, taken: NDArray[np.int64]) -> People:
    """Return the candidates as people with their assigned peaks [M, NK], -1 for none."""
    keypoints = np.empty((*candidates.places.shape[:2], 3), np.float32)
    keypoints[..., :2] = candidates.places
    keypoints[..., 2] = PREDICTED_SCORE * candidates.centres[:, None]
    person, joint = np.nonzero(taken >= 0)
    keypoints[person, joint] = peaks[joint, taken[person, joint]]
    return People(_scores(candidates.centres, keypoints, taken), keypoints, taken, candidates.tags)


def finish_people(found: Detections, centred: People, skeleton: Skeleton) -> People:
    """Add the people without a centre, drop fragments, and sort by score."""
    confident = (centred.found & (centred.keypoints[..., 2] >= CONFIDENT_PEAK)).sum(axis=1)
    known = (centred.ids > 0) | (confident >= MIN_CONFIDENT_JOINTS)
    there = centred.chosen(known & (centred.found.sum(axis=1) >= MIN_JOINTS))
    people = concatenate(there, _people_from_edges(found, _free_peaks(found, there), skeleton))
    return _drop_fragments(people.chosen(np.argsort(-people.scores, kind="stable")))


def _free_peaks(found: Detections, people: People) -> NDArray[np.bool_]:
    """[NK, K]: confident peaks that belong to no person."""
    free = found.peaks[..., 2] >= CONFIDENT_PEAK
    person, joint = np.nonzero(people.found)
    free[joint, people.peaks[person, joint]] = False
    return free


def closeness(points: NDArray, places: NDArray, reach: NDArray) -> NDArray[np.float32]:
    """[NK, M, K] in [0, 1]: closeness of points [NK, K, 2] to the joints at places [M, NK, 2], in reaches [M]."""
    squares = square_distances(points, places, np.sqrt(0.5) * reach)
    return np.exp(np.negative(squares, out=squares), out=squares)


def square_distances(points: NDArray, places: NDArray, unit: NDArray) -> NDArray[np.float32]:
    """[NK, M, K]: squared distances of points [NK, K, 2] from the joints at places [M, NK, 2], in units [M]."""
    # Axis by axis, because NumPy is slow at sums over an axis of length 2; from contiguous copies and in place, because
    # strides and new arrays would take as long as the arithmetic.
    x, y = (points[..., axis].copy()[:, None] - places[..., axis].T.copy()[:, :, None] for axis in (0, 1))
    x *= x
    y *= y
    x += y
    x *= (1 / np.maximum(unit, 1e-3).astype(np.float32) ** 2)[:, None]
    return x


def reduce_axis(function: np.ufunc, values: NDArray, axis: int) -> NDArray:
    """Return ``function.reduce`` over an axis of a 3-D array.

    NumPy reduces a short inner axis element by element. With that axis first it is up to seven times as fast; sums are
    identical to the last bit.
    """
    others = [one for one in range(3) if one != axis]
    return function.reduce(values.transpose(axis, *others).copy(), axis=0)


def spans(places: NDArray) -> NDArray:
    """[M, 2]: width and height of the joints at places [M, NK, 2]."""
    by_joint = places.transpose(1, 0, 2).copy()  # see reduce_axis
    return by_joint.max(axis=0) - by_joint.min(axis=0)


def sizes(places: NDArray) -> NDArray[np.float32]:
    """[M]: size of people with joints at places [M, NK, 2]: the side of a square of about their area."""
    width, height = spans(places).T
    return np.sqrt(np.maximum(width, height / 4) * np.maximum(height, width / 4))


def mean_positions(places: NDArray) -> NDArray:
    """[M, 2]: mean of the joints at places [M, NK, 2]."""
    return reduce_axis(np.add, places, 1) / places.shape[1]


def close_pairs(places: NDArray, reach: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of different people with joints at places [M, NK, 2] and a mean distance below ``reach`` [M, M]."""
    x, y = mean_positions(places).T
    # The mean distance is at least the distance of the means, so this leaves few pairs to check.
    one, other = np.nonzero((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 < reach**2)
    different = one != other
    one, other = one[different], other[different]
    if not len(one):
        return one, other
    apart = np.linalg.norm(places[one] - places[other], axis=-1).mean(axis=-1)
    close = apart < reach[one, other]
    return one[close], other[close]


def _without_duplicates(scores: NDArray, places: NDArray) -> NDArray[np.int64]:
    """Return indices of centres, best first, without duplicates of a better centre.

    Args:
        scores: [P]
        places: [P, NK, 2]: expected joints.
    """
    confident = np.flatnonzero(scores >= LOWEST_CENTRE)
    confident = confident[np.argsort(-scores[confident], kind="stable")]
    places = places[confident]
    size = sizes(places)
    same: dict[int, list[int]] = {}
    for better, other in zip(
        *(side.tolist() for side in close_pairs(places, SAME_PERSON * np.maximum(size[:, None], size))), strict=True
    ):
        if better < other:
            same.setdefault(other, []).append(better)
    kept = np.ones(len(confident), bool)
    for other in sorted(same):
        kept[other] = not any(kept[better] for better in same[other])
    return confident[kept]


def _scores(centres: NDArray, keypoints: NDArray, peaks: NDArray) -> NDArray[np.float32]:
    """[M]: scores of people from their centre and their best joints."""
    return (centres**CENTRE_POWER * _mean_best(keypoints, peaks >= 0)).astype(np.float32)


def centre_scores(people: People) -> NDArray[np.float32]:
    """[M]: the centre scores behind people's scores (inverse of ``_scores``)."""
    best = np.maximum(_mean_best(people.keypoints, people.found), 1e-3)
    return np.minimum((people.scores / best) ** (1 / CENTRE_POWER), 1).astype(np.float32)


def _mean_best(keypoints: NDArray, found: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[M]: mean score of the best joints; joints that were not found count as 0."""
    scores = np.where(found, keypoints[..., 2], 0)
    best = np.sort(scores, axis=1)[:, -SCORED_JOINTS:]
    return best.sum(axis=1, dtype=np.float32) / best.shape[1]


def _people_from_edges(found: Detections, usable: NDArray[np.bool_], skeleton: Skeleton) -> People:
    """Build people without a centre: connect usable peaks [NK, K] by their edges, best first, unless a person would get
    a joint twice (the greedy assembly of Cao et al., over all edges at once)."""
    joints = len(usable)
    if usable.sum() < MIN_JOINTS:
        return no_people(joints)
    (_, first), (_, second) = _ends(skeleton.edges, joints)
    scores = np.where(usable[first][:, :, None] & usable[second][:, None, :], found.edge_scores, 0)
    edges = np.nonzero(scores >= CONFIDENT_EDGE)
    order = np.argsort(-scores[edges], kind="stable")
    people: dict[tuple[int, int], dict[int, int]] = {}
    for edge, start, end in zip(*(index[order].tolist() for index in edges), strict=True):
        one, other = (int(first[edge]), start), (int(second[edge]), end)
        ours, theirs = people.setdefault(one, {one[0]: one[1]}), people.setdefault(other, {other[0]: other[1]})
        if ours.keys() & theirs.keys():  # also if both are already the same person
            continue
        ours |= theirs
        for joint, peak in theirs.items():
            people[joint, peak] = ours
    groups = list({id(group): group for group in people.values() if len(group) >= MIN_JOINTS}.values())
    peaks = np.full((len(groups), joints), -1, np.int64)
    for number, group in enumerate(groups):
        peaks[number, list(group)] = list(group.values())
    keypoints = np.zeros((*peaks.shape, 3), np.float32)
    person, joint = np.nonzero(peaks >= 0)
    keypoints[person, joint] = found.peaks[joint, peaks[person, joint]]
    centres = np.full(len(groups), MISSING_CENTRE if len(found.centres) else 1.0)
    return People(_scores(centres, keypoints, peaks), keypoints, peaks, np.zeros(len(groups), np.int64))


def _drop_fragments(people: People) -> People:
    """Drop people that score much less than another person in the same place."""
    places = _filled_positions(people)
    reach = np.broadcast_to(SAME_PLACE * sizes(places), (len(places), len(places)))
    one, better = close_pairs(places, reach)
    if not len(one):
        return people
    few = people.found[one].sum(axis=1) < FRAGMENT_JOINTS
    scraps = one[few & (people.scores[one] < FRAGMENT_SCORE * people.scores[better])]
    kept = np.ones(len(places), bool)
    kept[scraps] = False
    return people.chosen(kept)


def _filled_positions(people: People) -> NDArray[np.float32]:
    """[M, NK, 2]: joint positions; unknown joints are placed at the mean of the known ones."""
    places, known = people.keypoints[..., :2], people.keypoints[..., 2:] > 0
    mean_positions = (places * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known, places, mean_positions[:, None])
