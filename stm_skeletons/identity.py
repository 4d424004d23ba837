"""Tracks people from frame to frame: each person keeps an id.

Each track predicts where its joints are now in two ways: from the memory, which gives every peak's position in the
previous frame (``Detections.previous``), and from the track's speed. The better prediction counts. People are matched
to tracks after a greedy assignment; the matched identities then guide the exact assignment (see
stm_skeletons.association), also for people whose centre is not seen. Lost tracks move on at their last speed for a
while.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.assignment import best_assignment
from stm_skeletons.association import (
    Candidates,
    assign_greedily,
    candidates_from_centres,
    centre_scores,
    closeness,
    finish_people,
    mean_positions,
    reduce_axis,
    refine,
    sizes,
    spans,
    trim_peaks,
    usable_scores,
)
from stm_skeletons.detections import Detections
from stm_skeletons.people import People, concatenate
from stm_skeletons.skeleton import Skeleton

LOST_FRAMES = 30
"""Frames without a sighting after which a track ends. Its id is never used again."""
LOWEST_SCORE = 0.15
"""Lowest score of a person that starts a track."""
SPREAD = 0.2
"""Standard deviation of a joint's expected position, in sizes of the person."""
SPREAD_GROWTH = 0.02
"""Growth of SPREAD with each unseen frame."""
LIKENESS_DECAY = 0.8
"""Factor on a track's likeness for each unseen frame: tracks seen recently are matched first."""
SCORE_POWER = 0.5
"""Exponent of a person's score in the value of a match: fragments give way to complete people."""
MIN_LIKENESS = 0.03
"""Lowest likeness of two sightings of one person."""
MATCH_RANGE = 1.0
"""Largest distance between the means of two sightings of one person, in sizes of the person."""
MIN_COMMON_JOINTS = 3
"""With fewer common joints than this, predicted joints are compared as well."""
SPEED_DECAY = 0.9
"""Factor on a lost track's speed for each unseen frame."""
SPEED_UPDATE = 0.2
"""Share of the new measurement in the speed (exponential smoothing)."""
TRUSTED_JOINTS = 8
"""Common joints at which a measured movement is fully trusted."""
SEARCH_FRAMES = 3
"""A track is searched for without a centre for this many unseen frames."""
SEARCH_CONFIDENCE = 0.6
"""Factor on the last centre score of such a track."""
COMMON_REACH = 0.4
"""Reach, in sizes of the person, of the peaks that a centre could use, when it is matched to a track."""
HINT_REACH = 0.3
"""Reach, in sizes of the person, of the hints that tracks give for their joints."""
UNSEEN_JOINT_WEIGHT = 0.5
"""Factor on the hints for joints that the track has never shown."""
SCORE_DECAY = 0.9
"""Factor on a track's last score: a person's score never drops faster than this per frame."""
MAX_TRACKS = 100
"""Most tracks remembered; those unseen for longest are dropped first."""


class Identities:
    """Assigns ids to people. Causal; bounded memory; an id is never given twice."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._last_id = 0
        self.reset()

    def reset(self) -> None:
        """Drop all tracks; ids already given are not given again."""
        joints = len(self._skeleton.joints)
        self._ids = np.zeros(0, np.int64)
        """[T]; 0 for tracks seen only once."""
        self._places = np.zeros((0, joints, 2), np.float32)
        """[T, NK, 2]: last seen joints, moved on since."""
        self._sizes = np.zeros(0, np.float32)
        """[T]: sizes of the people."""
        self._known = np.zeros((0, joints), bool)
        self._speed = np.zeros((0, 2), np.float32)
        """[T, 2]: network pixels per frame."""
        self._scores = np.zeros(0, np.float32)
        self._trust = np.zeros(0, np.float32)
        """[T]: last known centre scores."""
        self._unseen = np.zeros(0, np.int64)

    def update(self, found: Detections, newest: int) -> People:
        """Return all people in the next frame, in network pixels, with their ids.

        Args:
            found: detections in this frame.
            newest: slot of the previous frame; its ``Detections.previous`` is used.
        """
        found = trim_peaks(found)
        previous = found.previous[newest]
        near = self._nearness(found.peaks, previous)
        candidates = candidates_from_centres(found)
        first = assign_greedily(found.peaks, candidates)
        pairs = self._near(candidates.places, candidates.sizes)
        alike, agreement = self._alike(first, previous, *pairs), self._agreement(found.peaks, candidates, near, *pairs)
        followed = self._match(first, alike, agreement)
        candidates, first, followed = self._with_lost(candidates, first, followed)
        hints = np.where((followed >= 0)[:, None], near[:, followed], 0) if len(self._ids) else None
        again = refine(found, self._skeleton, replace(candidates, tags=followed + 1), first, hints)
        people = finish_people(found, again, self._skeleton)
        followed = self._match_rest(people, previous)
        trust = centre_scores(people)
        people = self._remembered(people, followed)
        self._confirm(followed)
        ids = np.where(followed >= 0, self._ids[followed], 0) if len(self._ids) else np.zeros(len(people), np.int64)
        self._follow(people, followed, ids, trust)
        return replace(people, ids=ids)

    def _match(self, people: People, *likeness: NDArray) -> NDArray[np.int64]:
        """[M]: the track of each person, -1 for a new person, by the mean of likenesses [M, T]."""
        alike = sum(likeness) / len(likeness)
        worth = np.where(alike >= MIN_LIKENESS, alike * LIKENESS_DECAY**self._unseen, 0)
        worth = worth * people.scores[:, None] ** SCORE_POWER
        return best_assignment(worth[None])[0]

    def _alike(
        self, people: People, previous: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """[M, T]: how well found joints fit the tracks, by the memory or by the speed; for the given pairs, 0 for
        others."""
        alike = np.zeros((len(people), len(self._ids)))
        here = people.keypoints[..., :2]
        if len(one):
            # Both predictions at once: [n, NK, 2] offsets from the expected positions.
            by_speed = (here[one] - self._places[other]) - self._speed[other][:, None]
            by_memory = _before(people, previous)[one] - self._places[other]
            # Use the longer side, so that posture does not matter; the track's is known completely.
            theirs = spans(self._places).max(axis=1)
            extents = np.sqrt(_extents(here, people.keypoints[..., 2] > 0)[one] * theirs[other])
            scale = (np.sqrt(0.5) / (extents * (SPREAD + SPREAD_GROWTH * self._unseen[other]))).astype(np.float32)
            weights = self._common(people, one, other)
            alike[one, other] = np.maximum(*(_likeness(off, scale, weights) for off in (by_speed, by_memory)))
        return alike

    def _common(self, people: People, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
        """[n, NK]: weight of each joint in comparing people with tracks: joints found in both. If there are too few,
        predicted joints count half."""
        both = (people.found[one] & self._known[other]).astype(np.float32)
        few = both.sum(axis=1, keepdims=True) < MIN_COMMON_JOINTS
        return np.where(few, np.float32(0.5) * (people.keypoints[one, :, 2] > 0), both)

    def _near(self, places: NDArray, extents: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of people (sizes [M], joints at places [M, NK, 2]) and tracks that are close enough to match."""
        (x, y), (their_x, their_y) = mean_positions(places).T, mean_positions(self._places).T
        reach = (extents[:, None] + self._sizes) * (MATCH_RANGE / 2) * np.sqrt(1 + self._unseen)
        one, other = np.nonzero((x[:, None] - their_x) ** 2 + (y[:, None] - their_y) ** 2 < reach**2)
        return one, other

    def _agreement(
        self, peaks: NDArray, candidates: Candidates, near: NDArray, one: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """[M, T] in [0, 1]: share of the peaks a centre could use that a track could use as well. Tells people apart
        that overlap, before the peaks are assigned."""
        agreement = np.zeros((len(candidates.places), len(self._ids)))
        if not len(one):
            return agreement
        theirs = usable_scores(peaks) * closeness(peaks[..., :2], candidates.places, COMMON_REACH * candidates.sizes)
        whole = reduce_axis(np.maximum, theirs, 2).sum(axis=0)
        shared = reduce_axis(np.maximum, theirs[:, one] * near[:, other], 2)
        agreement[one, other] = shared.sum(axis=0) / np.maximum(whole[one], 1e-6)
        return agreement

    def _match_rest(self, people: People, previous: NDArray[np.float32]) -> NDArray[np.int64]:
        """[M]: the track of each person: as tagged, or a free one for people found by their edges."""
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
        self, candidates: Candidates, first: People, followed: NDArray[np.int64]
    ) -> tuple[Candidates, People, NDArray[np.int64]]:
        """Add recently lost tracks whose centre is not seen, so that no other person gets their peaks."""
        missing = (self._ids > 0) & (self._unseen < SEARCH_FRAMES)
        missing[followed[followed >= 0]] = False
        lost = np.flatnonzero(missing)
        if not len(lost):
            return candidates, first, followed
        places = self._places[lost] + self._speed[lost][:, None]
        trust = self._trust[lost] * np.float32(SEARCH_CONFIDENCE)
        tags = np.zeros(len(lost), np.int64)
        nothing = People(
            np.zeros(len(lost), np.float32),
            np.concatenate([places, np.zeros((*places.shape[:2], 1))], axis=-1).astype(np.float32),
            np.full(places.shape[:2], -1),
            tags,
        )
        return (
            Candidates(
                np.concatenate([candidates.places, places]),
                np.concatenate([candidates.centres, trust]),
                np.concatenate([candidates.tags, tags]),
            ),
            concatenate(first, nothing),
            np.concatenate([followed, lost]),
        )

    def _nearness(self, peaks: NDArray, previous: NDArray[np.float32]) -> NDArray[np.float32]:
        """[NK, T, K] in [0, 1]: closeness of peaks to the expected joints of the tracks, by the memory or by the speed;
        less for joints that the track has not shown yet."""
        reach = HINT_REACH * self._sizes * np.sqrt(1 + self._unseen)
        by_speed = closeness(peaks[..., :2], self._places + self._speed[:, None], reach)
        by_memory = closeness(previous, self._places, reach)
        return np.maximum(by_speed, by_memory) * np.where(
            self._known.T[..., None], np.float32(1), np.float32(UNSEEN_JOINT_WEIGHT)
        )

    def _remembered(self, people: People, followed: NDArray[np.int64]) -> People:
        """Let people's scores fall only slowly, however little of them is seen now."""
        before = np.where(followed >= 0, self._scores[followed], 0) if len(self._ids) else 0
        return replace(people, scores=np.maximum(people.scores, np.float32(SCORE_DECAY) * before).astype(np.float32))

    def _confirm(self, followed: NDArray[np.int64]) -> None:
        """Give an id to people seen for the second time."""
        for number in followed[followed >= 0].tolist():
            if self._ids[number] == 0:
                self._last_id += 1
                self._ids[number] = self._last_id

    def _follow(self, people: People, followed: NDArray[np.int64], ids: NDArray[np.int64], trust: NDArray) -> None:
        """Update the tracks: people seen now, and lost ones that may come back."""
        kept = np.flatnonzero((followed >= 0) | (people.scores >= LOWEST_SCORE))
        followed, places, known = followed[kept], people.keypoints[kept, :, :2].copy(), people.found[kept].copy()
        speed = np.zeros((len(kept), 2), np.float32)
        old = followed >= 0
        was = followed[old]
        surprise, certain = self._surprise(places[old], known[old], was)
        speed[old] = self._speed[was] + SPEED_UPDATE * certain * surprise / (1 + self._unseen[was][:, None])
        # Joints that are hidden now moved like the visible ones.
        carried = self._places[was] + (self._speed[was] + surprise)[:, None]
        remembered = ~known[old] & self._known[was]
        places[old] = np.where(remembered[..., None], carried, places[old])
        known[old] |= remembered
        fresh = np.zeros(len(self._ids), bool)
        fresh[was] = True
        # A person seen only once may have been a false detection.
        lost = np.flatnonzero(~fresh & (self._ids > 0) & (self._unseen < LOST_FRAMES))
        lost = lost[np.argsort(self._unseen[lost], kind="stable")][: max(0, MAX_TRACKS - len(kept))]
        self._places = np.concatenate([places, self._places[lost] + self._speed[lost][:, None]])
        self._sizes = sizes(self._places)
        self._speed = np.concatenate([speed, self._speed[lost] * np.float32(SPEED_DECAY)])
        self._ids = np.concatenate([ids[kept], self._ids[lost]])
        self._known = np.concatenate([known, self._known[lost]])
        self._scores = np.concatenate([people.scores[kept], self._scores[lost]])
        self._trust = np.concatenate([trust[kept], self._trust[lost]])
        self._unseen = np.concatenate([np.zeros(len(kept), np.int64), self._unseen[lost] + 1])

    def _surprise(
        self, places: NDArray, known: NDArray, was: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[n, 2]: movement beyond the expected one, from the joints found then and now; and [n, 1] in [0, 1]: its
        reliability."""
        both = known & self._known[was]
        error = _mean_over(places - self._places[was] - self._speed[was][:, None], both)
        certain = np.minimum(1, both.sum(axis=1) / TRUSTED_JOINTS)[:, None]
        return error.astype(np.float32), certain.astype(np.float32)


def _likeness(
    off: NDArray[np.float32], scale: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[n] in [0, 1]: likeness of pairs whose joints are off by [n, NK, 2], in scales [n], with weights [n, NK]."""
    x, y = off[..., 0] * scale[:, None], off[..., 1] * scale[:, None]
    return (np.exp(-(x * x + y * y)) * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)


def _before(people: People, previous: NDArray[np.float32]) -> NDArray[np.float32]:
    """[M, NK, 2]: joint positions in the previous frame; joints that were not found moved like the others."""
    here, found = people.keypoints[..., :2], people.found
    person, joint = np.nonzero(found)
    before = here.copy()
    before[person, joint] = previous[joint, people.peaks[person, joint]]
    moved = _mean_over(here - before, found)
    return np.where(found[..., None], before, here - moved[:, None])


def _mean_over(vectors: NDArray, which: NDArray[np.bool_]) -> NDArray:
    """[M, 2]: mean of vectors [M, NK, 2] over the selected joints [M, NK]; 0 if none is selected."""
    count = np.maximum(which.sum(axis=1), 1)
    return reduce_axis(np.add, vectors * which[..., None], 1) / count[:, None]


def _extents(places: NDArray, known: NDArray[np.bool_]) -> NDArray:
    """[M]: longer side of the extent of the known joints [M, NK, 2]."""
    low = reduce_axis(np.minimum, np.where(known[..., None], places, np.inf), 1)
    high = reduce_axis(np.maximum, np.where(known[..., None], places, -np.inf), 1)
    return np.where(known.any(axis=1), np.maximum((high - low).max(axis=1, initial=0), 1e-3), 1)
