"""Whose part is it: peaks, centres and edges to people.

A centre tells of one person: how sure that is, and where the joints should be. Each joint's peaks are shared out among
the centres by the best one-to-one assignment; a peak is worth more to a person the surer it is, the nearer it lies to
where that person's joint is expected, in sizes of the person, and the more edges join it to the other joints. What is
left over and joined by edges is somebody whose centre nobody saw. The rest are parts of nobody.

Everything is relative to the size of the people, so a scene that is scaled gives the same people scaled, and those who
are far away from each other never meet in a sum: nobody changes because of somebody far away.

Shape legend: M people, NK joints, K peaks of each.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.assignment import best_assignment
from stm_skeletons.detections import Detections
from stm_skeletons.people import People, joined, nobody
from stm_skeletons.skeleton import Skeleton

PERSON_THRESHOLD = 0.15
"""Lowest score of a person who is reported, unless a bundle or user says otherwise."""
LOWEST_CENTRE = 0.1
"""Centres below tell of nobody."""
SAME_PERSON = 0.15
"""Mean distance between what two centres expect, in sizes of the larger, below which both are of one person."""
LOWEST_PEAK = 0.1
"""Peaks below are no parts: a joint without a better one is placed where its centre expects it."""
REACH = 0.5
"""Sizes of a person within which a centre may have its joints: a peak's worth falls to exp(-2) there."""
PLAUSIBLE = 0.25
"""Share of what somebody's best peak is worth below which no other would do instead."""
GLANCES = 2
"""Rounds of the first, quick sharing out."""
LOOKS = 2
"""Rounds of the exact one."""
CLOSER_REACH = 0.4
"""The same once it is known by how much the centre is off as a whole."""
HESITANT = 0.3
"""Sum of the scores of found joints at which a centre is moved half of the way to them."""
HINTED = 5.0
"""How much more a peak may be worth to somebody for what else speaks for it."""
JOINED = 2.0
"""How much more it may be worth for the edges to the other joints."""
UNJOINED = 0.1
"""What edges count where there is no other joint."""
WORTHLESS = 1e-3
"""Of a peak to a person: below, they do not go together."""
SURE_PEAK = 0.3
"""Peaks from here on are parts beyond doubt, and may be somebody whose centre nobody saw."""
SURE_EDGE = 0.15
"""Edges from here on join them."""
SAME_PLACE = 0.5
"""Mean distance of joints, in sizes of the surer person, below which two are in the same place."""
SCRAP = 0.5
"""Share of the surer one's score below which the other is a scrap of the same person."""
SURE_JOINTS = 2
"""So many of them somebody new must have: of people with fewer 2 in 100 were any, on validation images."""
SCRAP_JOINTS = 5
"""Joints from which on nobody is a scrap."""
FEWEST_JOINTS = 3
"""A scrap of two joints is no person."""
UNSEEN_CENTRE = 0.1
"""What the centre counts of people whose centre nobody saw."""
TELLING_JOINTS = 8
"""A person is as sure as the surest few joints: more are often hidden."""
CENTRE_POWER = 0.3
"""Of the centre's score in a person's: which people to believe was chosen on validation images."""
PLACED = 0.02
"""Score of a joint that was not found but placed, times its centre's."""


@dataclass(frozen=True)
class Guess:
    """M who may be there, before the peaks are shared out; network pixels."""

    places: NDArray[np.float32]
    """[M, NK, 2] where their joints are expected."""
    centres: NDArray[np.float32]
    """[M] how sure it is that they are there."""
    tags: NDArray[np.int64]
    """[M] whatever the caller knows them by; becomes ``People.ids``."""

    @cached_property
    def sizes(self) -> NDArray[np.float32]:
        """[M]: of the people, see ``sizes``."""
        return sizes(self.places)


def find_people(found: Detections, skeleton: Skeleton) -> People:
    """Everybody that a frame's detections tell of, the surest first, network pixels, without ids (all 0)."""
    found = without_blanks(found)
    guess = guess_by_centres(found)
    first = glance(found.peaks, guess)
    return complete(found, look_again(found, skeleton, guess, first), skeleton)


def without_blanks(found: Detections) -> Detections:
    """The same without the last peaks where they are no parts in any joint: most frames have far fewer than there is
    room for, and all that follows takes longer the more there are."""
    parts = np.flatnonzero((found.peaks[..., 2] >= LOWEST_PEAK).any(axis=0))
    count = int(parts.max(initial=0)) + 1
    return replace(
        found,
        peaks=found.peaks[:, :count],
        edge_scores=found.edge_scores[:, :count, :count],
        previous=found.previous[:, :, :count],
    )


def guess_by_centres(found: Detections) -> Guess:
    """Those whose centre is seen, without tags (all 0)."""
    chosen = _distinct(found.centres[:, 2], found.centre_joints)
    return Guess(found.centre_joints[chosen], found.centres[chosen, 2], np.zeros(len(chosen), np.int64))


def look_again(
    found: Detections, skeleton: Skeleton, guess: Guess, first: People, hints: NDArray | None = None
) -> People:
    """Share out more exactly, knowing what everybody got: a centre is often off as a whole, and edges tell which peaks
    go with the others.

    Args:
        found: peaks and edge scores.
        skeleton: names the edges' joints.
        guess, first: who was expected, and what was found of them.
        hints: [NK, M, K] from 0 to 1, what else speaks for a peak to be somebody's.
    """
    people = first
    hinted = None if hints is None else (1 + HINTED * hints) / (1 + HINTED)
    for _ in range(LOOKS):
        seen = np.where(people.found, people.keypoints[..., 2], 0)[..., None]
        off = along(np.add, (people.keypoints[..., :2] - guess.places) * seen, 1)
        offset = off / (seen.sum(axis=1) + HESITANT)
        likely = (1 + JOINED * _edge_support(found, skeleton, people)) / (1 + JOINED)
        if hinted is not None:
            likely *= hinted
        moved = replace(guess, places=guess.places + offset[:, None])
        people = share_out(found.peaks, moved, CLOSER_REACH, likely)
    return people


def _edge_support(found: Detections, skeleton: Skeleton, people: People) -> NDArray[np.float32]:
    """[NK, M, K]: mean score of the edges from each peak to the joints that people have; UNJOINED where they have none
    that an edge would lead to."""
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
    return np.where(number[..., None] > 0, mean, np.float32(UNJOINED))


@cache
def _ends(edges: tuple[tuple[int, int], ...], joints: int) -> tuple[tuple[NDArray, NDArray], ...]:
    """Of the edges' first joints and of their second ones: [NK, NE], 1 where an edge has it, and the joints [NE]."""
    return tuple(((np.arange(joints)[:, None] == ends).astype(np.float32), ends) for ends in np.array(edges).T)


def glance(peaks: NDArray, guess: Guess) -> People:
    """What those who are expected get at once: peaks [NK, K, 3] that are worth most to them and to whom they are worth
    most. Quick, and enough to go on from."""
    worth = _worth(peaks, guess, REACH)
    taken = np.full(worth.shape[:2], -1, np.int64)
    if not worth.size:
        return _people(peaks, guess, taken.T)
    joints, people = np.arange(len(peaks))[:, None], np.arange(len(guess.places))
    for _ in range(GLANCES):
        best = np.asarray(worth.argmax(axis=2))
        own = worth[joints, people, best]
        wanted = own > 0
        agreed = wanted & (own >= along(np.maximum, worth, 1)[joints, best])
        taken[agreed] = best[agreed]
        if agreed.sum() == wanted.sum():
            break
        where, who = np.nonzero(agreed)
        worth[where, :, best[where, who]] = 0
        worth[agreed] = 0
    return _people(peaks, guess, taken.T)


def share_out(peaks: NDArray, guess: Guess, reach: float, likely: NDArray) -> People:
    """Give each joint's peaks to those who are expected there, one to one, so that the sum of what they are worth is as
    large as can be.

    Args:
        peaks: [NK, K, 3] x, y, score.
        guess: who is expected.
        reach: sizes of a person within which the joints may be.
        likely: [NK, M, K] a factor of what each peak is worth to each of them.
    """
    worth = _worth(peaks, guess, reach, likely)
    likeliest = along(np.maximum, worth, 2)[..., None]
    return _people(peaks, guess, best_assignment(np.where(worth >= PLAUSIBLE * likeliest, worth, 0)).T)


def _worth(peaks: NDArray, guess: Guess, reach: float, likely: NDArray | None = None) -> NDArray[np.float32]:
    """[NK, M, K]: what each peak is worth to each of those who are expected, 0 where they do not go together."""
    near = nearness(peaks[..., :2], guess.places, reach * guess.sizes)
    worth = near * np.where(peaks[..., 2] >= LOWEST_PEAK, peaks[..., 2], 0)[:, None] * guess.centres[:, None]
    if likely is not None:
        worth = worth * likely
    return np.where(worth >= WORTHLESS, worth, np.float32(0))


def _people(peaks: NDArray, guess: Guess, taken: NDArray[np.int64]) -> People:
    """Those who were expected, with the peaks [M, NK] that they have taken, -1 for none."""
    keypoints = np.empty((*guess.places.shape[:2], 3), np.float32)
    keypoints[..., :2] = guess.places
    keypoints[..., 2] = PLACED * guess.centres[:, None]
    person, joint = np.nonzero(taken >= 0)
    keypoints[person, joint] = peaks[joint, taken[person, joint]]
    return People(_scores(guess.centres, keypoints, taken), keypoints, taken, guess.tags)


def complete(found: Detections, centred: People, skeleton: Skeleton) -> People:
    """With those whom only edges tell of, without scraps, the surest first."""
    sure = (centred.found & (centred.keypoints[..., 2] >= SURE_PEAK)).sum(axis=1)
    known = (centred.ids > 0) | (sure >= SURE_JOINTS)
    there = centred.chosen(known & (centred.found.sum(axis=1) >= FEWEST_JOINTS))
    people = joined(there, _along_edges(found, _free_peaks(found, there), skeleton))
    return _without_scraps(people.chosen(np.argsort(-people.scores, kind="stable")))


def _free_peaks(found: Detections, people: People) -> NDArray[np.bool_]:
    """[NK, K]: sure peaks that are nobody's."""
    free = found.peaks[..., 2] >= SURE_PEAK
    person, joint = np.nonzero(people.found)
    free[joint, people.peaks[person, joint]] = False
    return free


def nearness(points: NDArray, places: NDArray, reach: NDArray) -> NDArray[np.float32]:
    """[NK, M, K] in [0, 1]: how near points [NK, K, 2] are to people's joints at places [M, NK, 2], in reaches [M]."""
    # Axis by axis: sums over an axis of two take NumPy longer than all the rest.
    scale = (np.sqrt(2) / np.maximum(reach, 1e-3)).astype(np.float32)[:, None]
    x, y = (
        points[:, None, :, axis] * scale - (places[..., axis] * scale).T[:, :, None].astype(np.float32)
        for axis in (0, 1)
    )
    # In place: a new array each time takes as long as what is worked out.
    x *= x
    y *= y
    x += y
    return np.exp(np.negative(x, out=x), out=x)


def along(function: np.ufunc, values: NDArray, axis: int) -> NDArray:
    """``function.reduce`` of an array with three axes: NumPy goes along a short axis one by one, but with that in front
    it takes all the others at once, up to seven times as fast. (Sums are the same to the last bit.)"""
    others = [one for one in range(3) if one != axis]
    return function.reduce(values.transpose(axis, *others).copy(), axis=0)


def spans(places: NDArray) -> NDArray:
    """[M, 2]: width and height of people with joints at places [M, NK, 2]."""
    return along(np.maximum, places, 1) - along(np.minimum, places, 1)


def sizes(places: NDArray) -> NDArray[np.float32]:
    """[M]: the size of people with joints at places [M, NK, 2]: the side of a square as large as their extent."""
    width, height = spans(places).T
    return np.sqrt(np.maximum(width, height / 4) * np.maximum(height, width / 4))


def middles(places: NDArray) -> NDArray:
    """[M, 2]: of the joints at places [M, NK, 2]."""
    return along(np.add, places, 1) / places.shape[1]


def close_pairs(places: NDArray, reach: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of different people with joints at places [M, NK, 2] whose mean distance is less than ``reach`` [M, M]."""
    x, y = middles(places).T
    # The mean of the distances is at least the distance of the means: few pairs are left to be looked at.
    one, other = np.nonzero((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 < reach**2)
    different = one != other
    one, other = one[different], other[different]
    if not len(one):
        return one, other
    apart = np.linalg.norm(places[one] - places[other], axis=-1).mean(axis=-1)
    close = apart < reach[one, other]
    return one[close], other[close]


def _distinct(scores: NDArray, places: NDArray) -> NDArray[np.int64]:
    """Indices of centres, the surest first, without those that expect nearly the same person as a surer one.

    Args:
        scores: [P]
        places: [P, NK, 2] of the joints.
    """
    sure = np.flatnonzero(scores >= LOWEST_CENTRE)
    sure = sure[np.argsort(-scores[sure], kind="stable")]
    places = places[sure]
    size = sizes(places)
    same: dict[int, list[int]] = {}
    for surer, other in zip(
        *(side.tolist() for side in close_pairs(places, SAME_PERSON * np.maximum(size[:, None], size))), strict=True
    ):
        if surer < other:
            same.setdefault(other, []).append(surer)
    kept = np.ones(len(sure), bool)
    for other in sorted(same):
        kept[other] = not any(kept[surer] for surer in same[other])
    return sure[kept]


def _scores(centres: NDArray, keypoints: NDArray, peaks: NDArray) -> NDArray[np.float32]:
    """[M]: how sure people are, by their centre and their surest joints."""
    return (centres**CENTRE_POWER * _surest(keypoints, peaks >= 0)).astype(np.float32)


def centres_of(people: People) -> NDArray[np.float32]:
    """[M]: how sure the centres were that gave people their scores."""
    surest = np.maximum(_surest(people.keypoints, people.found), 1e-3)
    return np.minimum((people.scores / surest) ** (1 / CENTRE_POWER), 1).astype(np.float32)


def _surest(keypoints: NDArray, found: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[M]: mean score of the surest joints; those that were not found count as 0."""
    scores = np.where(found, keypoints[..., 2], 0)
    surest = np.sort(scores, axis=1)[:, -TELLING_JOINTS:]
    return surest.sum(axis=1, dtype=np.float32) / surest.shape[1]


def _along_edges(found: Detections, usable: NDArray[np.bool_], skeleton: Skeleton) -> People:
    """People without a centre: usable peaks [NK, K] that edges join, the surest edge first, unless somebody would have
    a joint twice (the greedy assembly of Cao et al., over all edges at once)."""
    joints = len(usable)
    if usable.sum() < FEWEST_JOINTS:
        return nobody(joints)
    (_, first), (_, second) = _ends(skeleton.edges, joints)
    scores = np.where(usable[first][:, :, None] & usable[second][:, None, :], found.edge_scores, 0)
    edges = np.nonzero(scores >= SURE_EDGE)
    order = np.argsort(-scores[edges], kind="stable")
    people: dict[tuple[int, int], dict[int, int]] = {}
    for edge, start, end in zip(*(index[order].tolist() for index in edges), strict=True):
        one, other = (int(first[edge]), start), (int(second[edge]), end)
        ours, theirs = people.setdefault(one, {one[0]: one[1]}), people.setdefault(other, {other[0]: other[1]})
        if ours.keys() & theirs.keys():  # also where both are the same person already
            continue
        ours |= theirs
        for joint, peak in theirs.items():
            people[joint, peak] = ours
    groups = list({id(group): group for group in people.values() if len(group) >= FEWEST_JOINTS}.values())
    peaks = np.full((len(groups), joints), -1, np.int64)
    for number, group in enumerate(groups):
        peaks[number, list(group)] = list(group.values())
    keypoints = np.zeros((*peaks.shape, 3), np.float32)
    person, joint = np.nonzero(peaks >= 0)
    keypoints[person, joint] = found.peaks[joint, peaks[person, joint]]
    centres = np.full(len(groups), UNSEEN_CENTRE if len(found.centres) else 1.0)
    return People(_scores(centres, keypoints, peaks), keypoints, peaks, np.zeros(len(groups), np.int64))


def _without_scraps(people: People) -> People:
    """Without what is much less sure than somebody in the same place."""
    places = _whole_places(people)
    reach = np.broadcast_to(SAME_PLACE * sizes(places), (len(places), len(places)))
    one, surer = close_pairs(places, reach)
    if not len(one):
        return people
    few = people.found[one].sum(axis=1) < SCRAP_JOINTS
    scraps = one[few & (people.scores[one] < SCRAP * people.scores[surer])]
    kept = np.ones(len(places), bool)
    kept[scraps] = False
    return people.chosen(kept)


def _whole_places(people: People) -> NDArray[np.float32]:
    """[M, NK, 2]: where joints are; those of which nothing is known in the middle of the others."""
    places, known = people.keypoints[..., :2], people.keypoints[..., 2:] > 0
    middles = (places * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known, places, middles[:, None])
