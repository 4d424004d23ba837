"""Simulates the network on a composed scene: ``Detections`` with its measured errors."""

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
"""Numbers of peaks (K) and centres (P), as in the shipped bundle."""
NOBODY = -1


@dataclass(frozen=True)
class Frame:
    """The simulated detections of a frame, with the ground truth."""

    found: Detections
    owners: NDArray[np.int64]
    """[17, K, 2]: the person that each peak belongs to, and a second person whose suppressed peak is almost at the same
    position; NOBODY for false and missing peaks. A joint may have several peaks next to each other."""
    visible: NDArray[np.bool_]
    """[17, K]: peaks of visible joints."""
    centred: NDArray[np.bool_]
    """[M]: people whose centre is found and not suppressed by another one."""


class _Peak(NamedTuple):
    """A peak before non-maximum suppression."""

    at: NDArray
    """[2]"""
    score: float
    owner: int
    visible: bool
    before: NDArray
    """[2]: position according to ``previous``."""
    double: bool = False
    """A further peak next to the joint's own."""


class _Centre(NamedTuple):
    """A centre before non-maximum suppression."""

    at: NDArray
    """[2]"""
    score: float
    owner: int
    joints: NDArray
    """[13, 2]"""


class SimulatedNetwork:
    """Simulates the detections of a scene frame by frame."""

    def __init__(self, scene: Scene, donors: Donors, random: np.random.Generator) -> None:
        self._scene, self._donors, self._random = scene, donors, random
        self._sizes = scene.sizes()
        self._close = scene.overlaps() >= CLOSE
        people = self._close.shape[1]
        self._hidden_for = np.zeros((people, len(JOINTS)), int)
        self._donor, self._at = np.zeros(people, int), np.full(people, donors.frames)
        self._centre_draw = np.zeros(people)
        self._far: list[tuple] = []

    def frames(self) -> Iterator[Frame]:
        """The frames of the scene, in order."""
        for number in range(len(self._scene.xy)):
            self._choose_donors(number)
            was_hidden = self._hidden_for > 0
            self._hidden_for = np.where(self._scene.covered[number], self._hidden_for + 1, 0)
            before = self._scene.xy[max(number - 1, 0)]
            joints = self._peaks(number, before, was_hidden)
            yield self._frame(number, [_suppress(peaks) for peaks in joints])

    def _choose_donors(self, number: int) -> None:
        """Choose a new donor for people whose donor has no frames left, or who got close to another or left."""
        for person, close in enumerate(self._close[number]):
            changed = number and close != self._close[number - 1, person]
            self._at[person] += 1
            if changed or self._at[person] >= self._donors.frames:
                self._donor[person] = self._donors.choose(self._sizes[number, person], bool(close), self._random)
                self._at[person] = 0
                self._centre_draw[person] = self._random.random()
        if number % self._donors.frames == 0:
            self._far = [
                (joint, self._random.uniform((0, 0), (WIDTH, HEIGHT)), score)
                for joint, score in self._donors.far(self._random)
            ]

    def _peaks(self, number: int, before: NDArray, was_hidden: NDArray) -> list[list[_Peak]]:
        """All peaks of each joint before non-maximum suppression."""
        joints: list[list[_Peak]] = [[] for _ in JOINTS]
        for person in range(len(self._donor)):
            error = self._moved_error(number, person, before, was_hidden[person])
            for joint, peak in self._of_person(number, person, before[person] + error):
                joints[joint].append(peak)
        for joint, position, score in self._far:
            joints[joint].append(_Peak(position, score, NOBODY, False, position))
        return joints

    def _moved_error(self, number: int, person: int, before: NDArray, was_hidden: NDArray) -> NDArray[np.float64]:
        """[13, 2]: error of ``previous``, in addition to the peak's own error."""
        move = (before[person] - self._scene.xy[number, person]).mean(axis=0)
        error = self._donors.moved_error(move, self._random)
        for joint in np.flatnonzero(was_hidden & ~self._scene.covered[number, person]):
            error[joint] = self._donors.came_back_error(self._random)
        return error

    def _of_person(self, number: int, person: int, before: NDArray) -> Iterator[tuple[int, _Peak]]:
        """A person's peaks and nearby false peaks by joint; ``before`` [13, 2]: positions according to ``previous``."""
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
            for index, (peak, suppressed) in enumerate(rows[:PEAKS]):
                peaks[joint, index] = *peak.at, peak.score
                owners[joint, index] = peak.owner, suppressed
                visible[joint, index], double[joint, index] = peak.visible, peak.double
                previous[0, joint, index] = peak.before
        found = owners[..., 0][(peaks[..., 2] >= SURE_PEAK) & ~double]
        joints_found = np.bincount(found[found >= 0], minlength=len(self._donor))
        centres, expected, centred = self._centres(number, joints_found)
        edges = self._edges(number, peaks, np.where(double, NOBODY, owners[..., 0]))
        return Frame(Detections(peaks, edges, previous, centres, expected), owners, visible, centred)

    def _edges(self, number: int, peaks: NDArray, owners: NDArray) -> NDArray[np.float32]:
        """Scores [19, K, K]: within a person those of the donor's edges, otherwise drawn by the stray from limbs."""
        scene, donors = self._scene, self._donors
        scores = np.zeros((len(COCO17.edges), PEAKS, PEAKS), np.float32)
        for kind, edge in enumerate(EDGES):
            a, b = COCO17.edges[edge]
            starts, ends = (int((peaks[joint, :, 2] > 0).sum()) for joint in (a, b))
            pair = list(PAIRS[kind])
            limbs = scene.xy[number][~scene.covered[number][:, pair].any(axis=1)][:, pair]
            far = stray(peaks[a, :starts, :2], peaks[b, :ends, :2], limbs)
            scores[edge, :starts, :ends] = donors.wrong_edges(kind, np.digitize(far, STRAY_BINS), self._random)
            first, second = owners[a, :starts, None], owners[b, None, :ends]
            rows, columns = np.nonzero((first == second) & (first >= 0))
            person = owners[a, rows]
            scores[edge, rows, columns] = donors.own_edges(kind, self._donor[person], self._at[person])
        return scores

    def _centres(
        self, number: int, found: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Centres [P, 3], the joints they expect [P, 17, 2], and which people [M] have a centre.

        ``found`` [M]: number of each person's joints that were found.
        """
        scene, donors = self._scene, self._donors
        candidates = []
        for person, (donor, at) in enumerate(zip(self._donor, self._at, strict=True)):
            xy, size = scene.xy[number, person], self._sizes[number, person]
            share, factor = donors.hidden_centre(scene.covered[number, person].mean(), int(found[person]))
            if self._centre_draw[person] > share:
                continue
            for off, score, joints in donors.centres(donor, at):
                candidates.append(_Centre(xy.mean(axis=0) + off * size, score * factor, person, xy + joints * size))
        centres = np.zeros((CENTRES, 3), np.float32)
        expected = np.zeros((CENTRES, len(COCO17.joints), 2), np.float32)
        centred = np.zeros(len(self._donor), bool)
        for index, (centre, _) in enumerate(_suppress(candidates)[:CENTRES]):
            centres[index] = *centre.at, centre.score
            expected[index] = centre.joints[0]  # eyes and ears get the nose's position
            expected[index, list(JOINTS)] = centre.joints
            centred[centre.owner] = True
        return centres, expected, centred


_Candidate = TypeVar("_Candidate", _Peak, _Centre)


def _suppress(candidates: list[_Candidate]) -> list[tuple[_Candidate, int]]:
    """Non-maximum suppression in 3 x 3 cells: the candidates that remain, best first.

    Each comes with the owner of the best suppressed candidate that belongs to another person, or NOBODY.
    """
    kept: list[tuple[_Candidate, list[int]]] = []
    for candidate in sorted(candidates, key=lambda each: -each.score):
        if not ((candidate.at >= 0) & (candidate.at < (WIDTH, HEIGHT))).all():
            continue
        neighbour = next((better for better in kept if _neighbours(candidate, better[0])), None)
        if neighbour is None:
            kept.append((candidate, []))
        elif candidate.owner != neighbour[0].owner:
            neighbour[1].append(candidate.owner)
    return [(candidate, suppressed[0] if suppressed else NOBODY) for candidate, suppressed in kept]


def _neighbours(first: _Peak | _Centre, second: _Peak | _Centre) -> bool:
    return bool((np.abs(first.at // STRIDE - second.at // STRIDE) <= 1).all())
