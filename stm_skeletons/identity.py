"""Who is who from frame to frame: people keep the number that they were given.

The memory says where every peak was in the frame before (``Detections.previous``), and everybody's speed says where the
joints should be by now; whichever fits better counts. People are matched after a first glance; then who they are helps
to share out the peaks (see stm_skeletons.association), also to those whose centre is not seen. Who is not found is
expected at the last speed for a while.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.assignment import best_assignment
from stm_skeletons.association import (
    CLOSER_REACH,
    LOWEST_PEAK,
    Guess,
    along,
    centres_of,
    complete,
    glance,
    guess_by_centres,
    look_again,
    middles,
    nearness,
    sizes,
    spans,
    without_blanks,
)
from stm_skeletons.detections import Detections
from stm_skeletons.people import People, joined
from stm_skeletons.skeleton import Skeleton

LOST_FRAMES = 30
"""Frames without a sighting after which a person is given up and the number is never used again."""
LOWEST_SCORE = 0.15
"""Of people who begin to be followed."""
SPREAD = 0.25
"""Standard deviation, in sizes of the person, of where a joint is expected."""
SPREAD_GROWS = 0.02
"""By how much it grows with each frame that a person is not seen."""
FADES = 0.9
"""What is left of the likeness of people who are not seen, from frame to frame: who is always seen comes first."""
TRUST = 0.5
"""Power of a person's score in what a match is worth: scraps give way to whole people."""
LEAST_ALIKE = 0.03
"""Likeness from which on two sightings may be of one person."""
NEAR = 0.7
"""Sizes of a person between the middles of two sightings that may be of one."""
FEW_JOINTS = 3
"""Joints in common below which they do not tell enough."""
SLOWS = 0.9
"""What is left of the speed of people who are not seen, from frame to frame."""
STEADY = 0.2
"""Share of what is new in the speed."""
ENOUGH = 8
"""Joints in common from which on a change of place is believed."""
LOOKED_FOR = 3
"""Frames without a sighting up to which somebody is looked for without a centre."""
LOOK_TRUST = 0.6
"""What such a person's centre counts of what it did before."""
HINT_REACH = 0.2
"""Sizes of a person within which the joints of somebody who is followed are expected."""
UNSHOWN = 0.5
"""What that counts for joints that were not found before."""
STAYS_SURE = 0.9
"""What is left of a person's score from frame to frame, where less is seen of him or her."""
MOST_FOLLOWED = 100
"""Largest number of people that are remembered; those longest unseen are forgotten first."""


class Identities:
    """Numbers people and keeps the numbers. Causal; bounded memory; a number is never given twice."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._last_id = 0
        self.reset()

    def reset(self) -> None:
        """Follow nobody any more; numbers given are still not given again."""
        joints = len(self._skeleton.joints)
        self._ids = np.zeros(0, np.int64)
        """[T], 0: seen once."""
        self._places = np.zeros((0, joints, 2), np.float32)
        """[T, NK, 2]: when last seen, moved on since."""
        self._sizes = np.zeros(0, np.float32)
        """[T]: of the people at these places."""
        self._known = np.zeros((0, joints), bool)
        self._speed = np.zeros((0, 2), np.float32)
        """[T, 2]: network pixels a frame."""
        self._scores = np.zeros(0, np.float32)
        self._trust = np.zeros(0, np.float32)
        """[T]: their centres, as far as they are known."""
        self._unseen = np.zeros(0, np.int64)

    def update(self, found: Detections, newest: int) -> People:
        """Everybody in the next frame, network pixels, with their ids.

        Args:
            found: in this frame.
            newest: the slot of the frame before, whose ``Detections.previous`` counts.
        """
        found = without_blanks(found)
        previous = found.previous[newest]
        near = self._nearness(found.peaks, previous)
        guess = guess_by_centres(found)
        first = glance(found.peaks, guess)
        pairs = self._near(guess.places, guess.sizes)
        alike, agreement = self._alike(first, previous, *pairs), self._agreement(found.peaks, guess, near, *pairs)
        followed = self._match(first, alike, agreement)
        guess, first, followed = self._with_lost(guess, first, followed)
        hints = np.where((followed >= 0)[:, None], near[:, followed], 0) if len(self._ids) else None
        again = look_again(found, self._skeleton, replace(guess, tags=followed + 1), first, hints)
        people = complete(found, again, self._skeleton)
        followed = self._match_rest(people, previous)
        trust = centres_of(people)
        people = self._remembered(people, followed)
        self._confirm(followed)
        ids = np.where(followed >= 0, self._ids[followed], 0) if len(self._ids) else np.zeros(len(people), np.int64)
        self._follow(people, followed, ids, trust)
        return replace(people, ids=ids)

    def _match(self, people: People, *likeness: NDArray) -> NDArray[np.int64]:
        """[M]: which of those followed each of the people is, -1 for somebody new, by the mean of likenesses [M, T]."""
        alike = sum(likeness) / len(likeness) * FADES**self._unseen
        worth = np.where(alike >= LEAST_ALIKE, alike, 0) * people.scores[:, None] ** TRUST
        return best_assignment(worth[None])[0]

    def _alike(
        self, people: People, previous: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """[M, T]: how well what was found of people fits those who are followed, by the memory or by their speed; of
        the pairs given, 0 for others."""
        alike = np.zeros((len(people), len(self._ids)))
        here = people.keypoints[..., :2]
        if len(one):
            # Of both kinds at once: [n, NK, 2] from where they should be.
            by_speed = (here[one] - self._places[other]) - self._speed[other][:, None]
            by_memory = _before(people, previous)[one] - self._places[other]
            # The longer side, whoever lies or stands; of who is followed it is known whole.
            theirs = spans(self._places).max(axis=1)
            extents = np.sqrt(_extents(here, people.keypoints[..., 2] > 0)[one] * theirs[other])
            scale = (np.sqrt(0.5) / (extents * (SPREAD + SPREAD_GROWS * self._unseen[other]))).astype(np.float32)
            weights = self._common(people, one, other)
            alike[one, other] = np.maximum(*(_likeness(off, scale, weights) for off in (by_speed, by_memory)))
        return alike

    def _common(self, people: People, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
        """[n, NK]: how much each joint counts for pairs of people and those followed: those found both now and then;
        where these are hardly any, what was only placed has to do."""
        both = (people.found[one] & self._known[other]).astype(np.float32)
        few = both.sum(axis=1, keepdims=True) < FEW_JOINTS
        return np.where(few, np.float32(0.5) * (people.keypoints[one, :, 2] > 0), both)

    def _near(self, places: NDArray, extents: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of people of sizes [M] with joints at places [M, NK, 2] and of those followed who are near enough to be
        the same."""
        (x, y), (their_x, their_y) = middles(places).T, middles(self._places).T
        reach = (extents[:, None] + self._sizes) * (NEAR / 2) * np.sqrt(1 + self._unseen)
        one, other = np.nonzero((x[:, None] - their_x) ** 2 + (y[:, None] - their_y) ** 2 < reach**2)
        return one, other

    def _agreement(
        self, peaks: NDArray, guess: Guess, near: NDArray, one: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """[M, T] in [0, 1]: for how much of what a centre could have there are peaks that somebody who is followed
        could have too: who is who where people stand before each other, before the peaks are shared out."""
        agreement = np.zeros((len(guess.places), len(self._ids)))
        if not len(one):
            return agreement
        scores = np.where(peaks[..., 2] >= LOWEST_PEAK, peaks[..., 2], 0)[:, None]
        theirs = scores * nearness(peaks[..., :2], guess.places, CLOSER_REACH * guess.sizes)
        whole = along(np.maximum, theirs, 2).sum(axis=0)
        shared = along(np.maximum, theirs[:, one] * near[:, other], 2)
        agreement[one, other] = shared.sum(axis=0) / np.maximum(whole[one], 1e-6)
        return agreement

    def _match_rest(self, people: People, previous: NDArray[np.float32]) -> NDArray[np.int64]:
        """[M]: which of those followed everybody is: as tagged, or who is left for those found by their edges."""
        followed = people.ids - 1
        new = np.flatnonzero(followed < 0)
        free = np.ones(len(self._ids), bool)
        free[followed[followed >= 0]] = False
        if len(new) and free.any():
            rest = people.chosen(new)
            pairs = self._near(rest.keypoints[..., :2], sizes(rest.keypoints[..., :2]))
            followed[new] = self._match(rest, self._alike(rest, previous, *pairs) * free)
        return followed

    def _with_lost(
        self, guess: Guess, first: People, followed: NDArray[np.int64]
    ) -> tuple[Guess, People, NDArray[np.int64]]:
        """With those who were there a moment ago, whose centre nobody saw: nobody else is to get their peaks."""
        missing = (self._ids > 0) & (self._unseen < LOOKED_FOR)
        missing[followed[followed >= 0]] = False
        lost = np.flatnonzero(missing)
        if not len(lost):
            return guess, first, followed
        places = self._places[lost] + self._speed[lost][:, None]
        trust = self._trust[lost] * np.float32(LOOK_TRUST)
        tags = np.zeros(len(lost), np.int64)
        nothing = People(
            np.zeros(len(lost), np.float32),
            np.concatenate([places, np.zeros((*places.shape[:2], 1))], axis=-1).astype(np.float32),
            np.full(places.shape[:2], -1),
            tags,
        )
        return (
            Guess(
                np.concatenate([guess.places, places]),
                np.concatenate([guess.centres, trust]),
                np.concatenate([guess.tags, tags]),
            ),
            joined(first, nothing),
            np.concatenate([followed, lost]),
        )

    def _nearness(self, peaks: NDArray, previous: NDArray[np.float32]) -> NDArray[np.float32]:
        """[NK, T, K] in [0, 1]: how near peaks are to where the joints of those who are followed should be, by the
        memory or by their speed; less for joints that they have not shown yet."""
        reach = HINT_REACH * self._sizes * np.sqrt(1 + self._unseen)
        by_speed = nearness(peaks[..., :2], self._places + self._speed[:, None], reach)
        by_memory = nearness(previous, self._places, reach)
        return np.maximum(by_speed, by_memory) * np.where(self._known.T[..., None], np.float32(1), np.float32(UNSHOWN))

    def _remembered(self, people: People, followed: NDArray[np.int64]) -> People:
        """Who was surely somebody a moment ago is still somebody, however little is seen now."""
        before = np.where(followed >= 0, self._scores[followed], 0) if len(self._ids) else 0
        return replace(people, scores=np.maximum(people.scores, np.float32(STAYS_SURE) * before).astype(np.float32))

    def _confirm(self, followed: NDArray[np.int64]) -> None:
        """Number those who are seen for the second time."""
        for number in followed[followed >= 0].tolist():
            if self._ids[number] == 0:
                self._last_id += 1
                self._ids[number] = self._last_id

    def _follow(self, people: People, followed: NDArray[np.int64], ids: NDArray[np.int64], trust: NDArray) -> None:
        """Go on with those who were seen and those who may come back."""
        kept = np.flatnonzero((followed >= 0) | (people.scores >= LOWEST_SCORE))
        followed, places, known = followed[kept], people.keypoints[kept, :, :2].copy(), people.found[kept].copy()
        speed = np.zeros((len(kept), 2), np.float32)
        old = followed >= 0
        was = followed[old]
        surprise, certain = self._surprise(places[old], known[old], was)
        speed[old] = self._speed[was] + STEADY * certain * surprise / (1 + self._unseen[was][:, None])
        # Joints that are hidden now went where the others went.
        carried = self._places[was] + (self._speed[was] + surprise)[:, None]
        remembered = ~known[old] & self._known[was]
        places[old] = np.where(remembered[..., None], carried, places[old])
        known[old] |= remembered
        fresh = np.zeros(len(self._ids), bool)
        fresh[was] = True
        # Who has been seen once only may have been a mistake.
        lost = np.flatnonzero(~fresh & (self._ids > 0) & (self._unseen < LOST_FRAMES))
        lost = lost[np.argsort(self._unseen[lost], kind="stable")][: max(0, MOST_FOLLOWED - len(kept))]
        self._places = np.concatenate([places, self._places[lost] + self._speed[lost][:, None]])
        self._sizes = sizes(self._places)
        self._speed = np.concatenate([speed, self._speed[lost] * np.float32(SLOWS)])
        self._ids = np.concatenate([ids[kept], self._ids[lost]])
        self._known = np.concatenate([known, self._known[lost]])
        self._scores = np.concatenate([people.scores[kept], self._scores[lost]])
        self._trust = np.concatenate([trust[kept], self._trust[lost]])
        self._unseen = np.concatenate([np.zeros(len(kept), np.int64), self._unseen[lost] + 1])

    def _surprise(
        self, places: NDArray, known: NDArray, was: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[n, 2]: by how much people have moved farther than at their speed, by the joints found then and now; and
        [n, 1], in [0, 1]: how far that is to be believed."""
        both = known & self._known[was]
        error = _mean_over(places - self._places[was] - self._speed[was][:, None], both)
        certain = np.minimum(1, both.sum(axis=1) / ENOUGH)[:, None]
        return error.astype(np.float32), certain.astype(np.float32)


def _likeness(
    off: NDArray[np.float32], scale: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[n] in [0, 1]: of pairs whose joints are off by [n, NK, 2], in scales [n], by weights [n, NK]."""
    x, y = off[..., 0] * scale[:, None], off[..., 1] * scale[:, None]
    return (np.exp(-(x * x + y * y)) * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)


def _before(people: People, previous: NDArray[np.float32]) -> NDArray[np.float32]:
    """[M, NK, 2]: where the joints were in the frame before; those that were not found moved as the others did."""
    here, found = people.keypoints[..., :2], people.found
    person, joint = np.nonzero(found)
    before = here.copy()
    before[person, joint] = previous[joint, people.peaks[person, joint]]
    moved = _mean_over(here - before, found)
    return np.where(found[..., None], before, here - moved[:, None])


def _mean_over(vectors: NDArray, which: NDArray[np.bool_]) -> NDArray:
    """[M, 2]: mean of vectors [M, NK, 2] over the joints [M, NK] that count; 0 where none does."""
    count = np.maximum(which.sum(axis=1), 1)
    return along(np.add, vectors * which[..., None], 1) / count[:, None]


def _extents(places: NDArray, known: NDArray[np.bool_]) -> NDArray:
    """[M]: the longer side of the extent of the joints [M, NK, 2] that are known."""
    low = along(np.minimum, np.where(known[..., None], places, np.inf), 1)
    high = along(np.maximum, np.where(known[..., None], places, -np.inf), 1)
    return np.where(known.any(axis=1), np.maximum((high - low).max(axis=1, initial=0), 1e-3), 1)
