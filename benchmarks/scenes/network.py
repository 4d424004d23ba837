"""What the network would find in a composed scene: ``Detections`` with the errors that it really makes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.compose import HEIGHT, WIDTH, Scene
from benchmarks.scenes.donors import Donors
from benchmarks.scenes.errors import CLOSE, LONG_HIDDEN, STRAY_BINS, SURE_PEAK, own_reach
from benchmarks.scenes.geometry import PAIRS, stray
from benchmarks.scenes.tracks import EDGES, JOINTS
from stm_skeletons.detections import Detections
from stm_skeletons.geometry import STRIDE
from stm_skeletons.skeleton import COCO17

PEAKS, CENTRES = 30, 30
"""K and P, as in the shipped bundle."""
NOBODY = -1


@dataclass(frozen=True)
class Frame:
    """What was found in a frame, and what is true."""

    found: Detections
    owners: NDArray[np.int64]
    """[17, K, 2]: the person whose each peak is, and the person whose peak it hides, being nearly at the same place;
    NOBODY for false peaks and places without one. A joint may have several peaks beside each other."""
    visible: NDArray[np.bool_]
    """[17, K]: peaks of a joint that can be seen."""
    centred: NDArray[np.bool_]
    """[M]: people of whom a centre was found that is not hidden by another's."""


class _Peak(NamedTuple):
    """Before it meets others."""

    at: NDArray
    """[2]"""
    score: float
    owner: int
    visible: bool
    before: NDArray
    """[2]: where ``previous`` has it."""
    double: bool = False
    """A further peak beside the joint's own."""


class _Centre(NamedTuple):
    """Before it meets others."""

    at: NDArray
    """[2]"""
    score: float
    owner: int
    joints: NDArray
    """[13, 2]"""


class Network:
    """Goes through a scene frame by frame."""

    def __init__(self, scene: Scene, donors: Donors, random: np.random.Generator) -> None:
        self._scene, self._donors, self._random = scene, donors, random
        self._sizes = scene.sizes()
        self._close = scene.overlaps() >= CLOSE
        people = self._close.shape[1]
        self._hidden_for = np.zeros((people, len(JOINTS)), int)
        self._donor, self._at = np.zeros(people, int), np.full(people, donors.frames)
        self._luck = np.zeros(people)
        self._far: list[tuple] = []

    def frames(self) -> Iterator[Frame]:
        """All of them, in order."""
        for number in range(len(self._scene.xy)):
            self._choose_donors(number)
            was_hidden = self._hidden_for > 0
            self._hidden_for = np.where(self._scene.covered[number], self._hidden_for + 1, 0)
            before = self._scene.xy[max(number - 1, 0)]
            joints = self._peaks(number, before, was_hidden)
            yield self._frame(number, [_apart(rows) for rows in joints])

    def _choose_donors(self, number: int) -> None:
        """A new one where the last one's frames are over, or somebody came close or went away."""
        for person, close in enumerate(self._close[number]):
            changed = number and close != self._close[number - 1, person]
            self._at[person] += 1
            if changed or self._at[person] >= self._donors.frames:
                self._donor[person] = self._donors.choose(self._sizes[number, person], bool(close), self._random)
                self._at[person] = 0
                self._luck[person] = self._random.random()
        if number % self._donors.frames == 0:
            self._far = [
                (joint, self._random.uniform((0, 0), (WIDTH, HEIGHT)), score)
                for joint, score in self._donors.far(self._random)
            ]

    def _peaks(self, number: int, before: NDArray, was_hidden: NDArray) -> list[list[_Peak]]:
        """For each joint all that would be found, had each peak its own map."""
        joints: list[list[_Peak]] = [[] for _ in JOINTS]
        for person in range(len(self._donor)):
            error = self._moved_error(number, person, before, was_hidden[person])
            for joint, peak in self._of_person(number, person, before[person] + error):
                joints[joint].append(peak)
        for joint, place, score in self._far:
            joints[joint].append(_Peak(place, score, NOBODY, False, place))
        return joints

    def _moved_error(self, number: int, person: int, before: NDArray, was_hidden: NDArray) -> NDArray[np.float64]:
        """[13, 2]: what ``previous`` is wrong by, but for the peak's own error."""
        move = (before[person] - self._scene.xy[number, person]).mean(axis=0)
        error = self._donors.moved_error(move, self._random)
        for joint in np.flatnonzero(was_hidden & ~self._scene.covered[number, person]):
            error[joint] = self._donors.came_back_error(self._random)
        return error

    def _of_person(self, number: int, person: int, before: NDArray) -> Iterator[tuple[int, _Peak]]:
        """A person's joint by joint, and false ones near; ``before`` [13, 2] is where ``previous`` has the joints."""
        scene, donors, donor, at = self._scene, self._donors, self._donor[person], self._at[person]
        xy, size, covered = scene.xy[number, person], self._sizes[number, person], scene.covered[number, person]
        where, score = donors.peaks(donor, at, scene.turned[number, person])
        for joint in np.flatnonzero(covered).tolist():
            since = min(int(self._hidden_for[person, joint]), LONG_HIDDEN)
            where[joint], score[joint] = donors.covered(since, self._random)
        visible = scene.visible[number, person]
        for joint in np.flatnonzero(score > 0).tolist():
            off = where[joint] * size
            yield joint, _Peak(xy[joint] + off, float(score[joint]), person, visible[joint], before[joint] + off)
        for joint, anchor, where_false, score_of_false in donors.near(donor, at):
            if covered[anchor]:
                continue
            off = where_false * size
            double = joint == anchor and bool(np.linalg.norm(off) <= own_reach(size))
            owner, seen = (person, visible[joint]) if double else (NOBODY, False)
            yield joint, _Peak(xy[anchor] + off, score_of_false, owner, seen, before[anchor] + off, double)

    def _frame(self, number: int, joints: list[list[tuple[_Peak, int]]]) -> Frame:
        names = len(COCO17.joints)
        peaks = np.zeros((names, PEAKS, 3), np.float32)
        previous = np.zeros((1, names, PEAKS, 2), np.float32)
        owners = np.full((names, PEAKS, 2), NOBODY)
        visible, double = np.zeros((2, names, PEAKS), bool)
        for joint, rows in zip(JOINTS, joints, strict=True):
            for place, (peak, hides) in enumerate(rows[:PEAKS]):
                peaks[joint, place] = *peak.at, peak.score
                owners[joint, place] = peak.owner, hides
                visible[joint, place], double[joint, place] = peak.visible, peak.double
                previous[0, joint, place] = peak.before
        sure = owners[..., 0][(peaks[..., 2] >= SURE_PEAK) & ~double]
        joints_of = np.bincount(sure[sure >= 0], minlength=len(self._donor))
        centres, expected, centred = self._centres(number, joints_of)
        edges = self._edges(number, peaks, np.where(double, NOBODY, owners[..., 0]))
        return Frame(Detections(peaks, edges, previous, centres, expected), owners, visible, centred)

    def _edges(self, number: int, peaks: NDArray, owners: NDArray) -> NDArray[np.float32]:
        """[19, K, K]: what the donor's edges scored within one person, else by how far a pair strays from limbs."""
        scene, donors = self._scene, self._donors
        scores = np.zeros((len(COCO17.edges), PEAKS, PEAKS), np.float32)
        for kind, edge in enumerate(EDGES):
            a, b = COCO17.edges[edge]
            starts, ends = (int((peaks[joint, :, 2] > 0).sum()) for joint in (a, b))
            pair = list(PAIRS[kind])
            limbs = scene.xy[number][~scene.covered[number][:, pair].any(axis=1)][:, pair]
            far = stray(peaks[a, :starts, :2], peaks[b, :ends, :2], limbs)
            scores[edge, :starts, :ends] = donors.wrong_edges(kind, np.digitize(far, STRAY_BINS), self._random)
            one, other = owners[a, :starts, None], owners[b, None, :ends]
            rows, columns = np.nonzero((one == other) & (one >= 0))
            person = owners[a, rows]
            scores[edge, rows, columns] = donors.own_edges(kind, self._donor[person], self._at[person])
        return scores

    def _centres(
        self, number: int, found: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """[P, 3] and [P, 17, 2]; and who [M] has one. ``found`` [M]: so many of each person's joints were."""
        scene, donors = self._scene, self._donors
        every = []
        for person, (donor, at) in enumerate(zip(self._donor, self._at, strict=True)):
            xy, size = scene.xy[number, person], self._sizes[number, person]
            share, factor = donors.hidden_centre(scene.covered[number, person].mean(), int(found[person]))
            if self._luck[person] > share:
                continue
            for off, score, joints in donors.centres(donor, at):
                every.append(_Centre(xy.mean(axis=0) + off * size, score * factor, person, xy + joints * size))
        centres = np.zeros((CENTRES, 3), np.float32)
        expected = np.zeros((CENTRES, len(COCO17.joints), 2), np.float32)
        centred = np.zeros(len(self._donor), bool)
        for place, (centre, _) in enumerate(_apart(every)[:CENTRES]):
            centres[place] = *centre.at, centre.score
            expected[place] = centre.joints[0]  # eyes and ears where the nose is
            expected[place, list(JOINTS)] = centre.joints
            centred[centre.owner] = True
        return centres, expected, centred


_Found = TypeVar("_Found", _Peak, _Centre)


def _apart(every: list[_Found]) -> list[tuple[_Found, int]]:
    """The best first, without those that are no local maxima of 3 x 3 cells beside a better one; and with each the
    owner of the best that it hides of another's, or NOBODY."""
    kept: list[tuple[_Found, list[int]]] = []
    for one in sorted(every, key=lambda one: -one.score):
        if not ((one.at >= 0) & (one.at < (WIDTH, HEIGHT))).all():
            continue
        beside = next((better for better in kept if _neighbours(one, better[0])), None)
        if beside is None:
            kept.append((one, []))
        elif one.owner != beside[0].owner:
            beside[1].append(one.owner)
    return [(one, hidden[0] if hidden else NOBODY) for one, hidden in kept]


def _neighbours(one: _Peak | _Centre, other: _Peak | _Centre) -> bool:
    return bool((np.abs(one.at // STRIDE - other.at // STRIDE) <= 1).all())
