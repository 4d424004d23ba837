"""Errors to draw: the measured ones, with what nobody measured filled in from others like it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.errors import HIDDEN_BINS, MANY_FOUND, Residuals
from benchmarks.scenes.tracks import JOINTS

_ALIKE = 15
"""Donors of about the right size that are drawn from."""


class Donors:
    """D measured people, each F frames long; see Residuals for the numbers."""

    def __init__(self, residuals: Residuals, random: np.random.Generator) -> None:
        self._r = residuals
        self._close = residuals.close.any(axis=1)
        # An unlabelled joint errs as the same joint of somebody else; so does one that is visible and should not be.
        self._visible = _filled(residuals, residuals.seen == 2, random)
        self._turned = _filled(residuals, residuals.seen == 1, random)
        self._edges = _filled_with_others(residuals.edge_score, random)
        self._expected = _filled_with_others(residuals.expected_at, random)
        self._second = _filled_with_others(residuals.extra_expected_at, random)
        self._moved_error = _filled_with_others(residuals.moved_error, random)
        self._near = _by_frame(residuals.near)
        self._extra = _by_frame(residuals.extra)
        self._far = [np.flatnonzero(residuals.far[:, 0] == i) for i in range(int(residuals.far_pictures))]
        self._covered = {int(since): np.flatnonzero(residuals.covered == since) for since in set(residuals.covered)}

    @property
    def frames(self) -> int:
        """F"""
        return self._r.close.shape[1]

    def choose(self, size: float, close: bool, random: np.random.Generator) -> int:
        """A donor about as large as ``size`` network pixels, one close to somebody if that is wanted."""
        among = np.flatnonzero(self._close == close)
        order = np.argsort(np.abs(np.log(self._r.donor_size[among] / size)))
        return int(among[random.choice(order[:_ALIKE])])

    def peaks(self, donor: int, at: int, turned: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
        """[13, 2] sizes off the true place, and [13] scores, 0 for what is not found."""
        chosen = np.where(turned[:, None], self._turned[donor, at], self._visible[donor, at])
        return chosen[:, :2], chosen[:, 2]

    def covered(self, since: int, random: np.random.Generator) -> tuple[NDArray, float]:
        """The same of one joint that has been covered for so many frames."""
        row = random.choice(self._covered[min(self._covered, key=lambda known: abs(known - since))])
        return self._r.covered_at[row], float(self._r.covered_score[row])

    def moved_error(self, move: NDArray, random: np.random.Generator) -> NDArray[np.float64]:
        """[13, 2] pixels that ``previous`` is wrong by for somebody whose mean movement back is ``move`` pixels."""
        # A movement and its mirror image are alike.
        distance = np.linalg.norm(np.abs(self._r.moved) - np.abs(move), axis=1)
        row = random.choice(np.argpartition(distance, _ALIKE)[:_ALIKE])
        mirrored = np.where(self._r.moved[row] * move < 0, -1, 1)
        return self._moved_error[row] * mirrored

    def came_back_error(self, random: np.random.Generator) -> NDArray[np.float64]:
        """[2] pixels, of a joint that was covered in the frame before."""
        return random.choice(self._r.came_back_error)

    def near(self, donor: int, at: int) -> Iterator[tuple[int, int, NDArray, float]]:
        """False peaks near a person: joint, the true joint next to it, sizes off that, score."""
        for row in self._near.get((donor, at), ()):
            yield int(self._r.near[row, 2]), int(self._r.near[row, 3]), self._r.near_at[row], self._r.near_score[row]

    def far(self, random: np.random.Generator) -> list[tuple[int, float]]:
        """False peaks of one picture far from people: joint, score."""
        rows = self._far[random.integers(len(self._far))]
        return [(int(self._r.far[row, 1]), float(self._r.far_score[row])) for row in rows]

    def centres(self, donor: int, at: int) -> Iterator[tuple[NDArray, float, NDArray]]:
        """A person's centres: sizes off the mean of the joints, score, and [13, 2] sizes off the true joints."""
        if self._r.centre_score[donor, at] > 0:
            yield self._r.centre_at[donor, at], self._r.centre_score[donor, at], self._expected[donor, at]
        for row in self._extra.get((donor, at), ()):
            yield self._r.extra_at[row], self._r.extra_score[row], self._second[row]

    def hidden_centre(self, hidden: float, found: int) -> tuple[float, float]:
        """How often centres of people are found of whom a share is hidden and so many joints are found, and how sure
        they are, both relative to those who are hardly hidden."""
        table = self._r.hidden_centre[int(found >= MANY_FOUND)]
        share, score = np.minimum(table[np.digitize(hidden, HIDDEN_BINS)] / table[0], 1)
        return float(share), float(score)

    def own_edges(self, kind: int, donor: NDArray, at: NDArray) -> NDArray[np.float64]:
        """Scores of edges within people."""
        return self._edges[donor, at, kind]

    def wrong_edges(self, kind: int, stray: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
        """Scores of edges between people, by the bin of how far they stray."""
        quantiles = self._r.stray_score[kind]
        place = random.uniform(0, quantiles.shape[1] - 1, stray.shape)
        low = place.astype(int)
        share = place - low
        return quantiles[stray, low] * (1 - share) + quantiles[stray, low + 1] * share


def _by_frame(rows: NDArray[np.int64]) -> dict[tuple[int, int], list[int]]:
    """Numbers of rows by their first two columns: donor and frame."""
    found: dict[tuple[int, int], list[int]] = {}
    for number, (donor, frame) in enumerate(rows[:, :2].tolist()):
        found.setdefault((donor, frame), []).append(number)
    return found


def _filled(residuals: Residuals, wanted: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float64]:
    """[D, F, 13, 3]: x and y off, score, of joints as ``wanted`` [D, 13]; of the others those of other donors."""
    peaks = np.concatenate([residuals.peak_at, residuals.peak_score[..., None]], axis=-1)
    usable = wanted & ~np.isnan(peaks[..., 2]).any(axis=1)
    logs = np.log(residuals.donor_size)
    # Whose centre is found has other joints found than whose is not: that weighs most.
    centred = (residuals.centre_score > 0).mean(axis=1)
    for joint in range(len(JOINTS)):
        having = np.flatnonzero(usable[:, joint])
        for donor in np.flatnonzero(~usable[:, joint]):
            unlike = np.abs(logs[having] - logs[donor]) + 3 * np.abs(centred[having] - centred[donor])
            peaks[donor, :, joint] = peaks[random.choice(having[np.argsort(unlike)[:_ALIKE]]), :, joint]
    return np.nan_to_num(peaks)


def _filled_with_others(array: NDArray, random: np.random.Generator) -> NDArray[np.float64]:
    """What is NaN in an array [R, ...] taken at random from the same place in other rows."""
    filled = array.copy().reshape(len(array), -1)
    for column in filled.T:
        unknown = np.isnan(column)
        if unknown.any():
            column[unknown] = random.choice(column[~unknown], unknown.sum()) if not unknown.all() else 0
    return filled.reshape(array.shape)
