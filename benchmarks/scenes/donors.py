"""Draws errors from the measured ones. Missing measurements are filled in from similar donors."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.errors import HIDDEN_BINS, MANY_FOUND, Residuals
from benchmarks.scenes.tracks import JOINTS

_ALIKE = 15
"""Number of most similar donors or movements to draw from."""


class Donors:
    """D measured people over F frames each; see Residuals for the arrays."""

    def __init__(self, residuals: Residuals, random: np.random.Generator) -> None:
        self._r = residuals
        self._close = residuals.close.any(axis=1)
        # A joint without measurements gets those of the same joint of another donor.
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
        """F: number of frames of each donor."""
        return self._r.close.shape[1]

    def choose(self, size: float, close: bool, random: np.random.Generator) -> int:
        """A random donor of about ``size`` network pixels that is, or is not, close to another person."""
        candidates = np.flatnonzero(self._close == close)
        order = np.argsort(np.abs(np.log(self._r.donor_size[candidates] / size)))
        return int(candidates[random.choice(order[:_ALIKE])])

    def peaks(self, donor: int, at: int, turned: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
        """Offsets [13, 2] from the true positions in sizes, and scores [13], which are 0 for joints not found."""
        chosen = np.where(turned[:, None], self._turned[donor, at], self._visible[donor, at])
        return chosen[:, :2], chosen[:, 2]

    def covered(self, since: int, random: np.random.Generator) -> tuple[NDArray, float]:
        """Offset [2] and score of a joint that has been covered for ``since`` frames."""
        row = random.choice(self._covered[min(self._covered, key=lambda known: abs(known - since))])
        return self._r.covered_at[row], float(self._r.covered_score[row])

    def moved_error(self, move: NDArray, random: np.random.Generator) -> NDArray[np.float64]:
        """Errors [13, 2] of ``previous`` in pixels, for a person whose mean movement back is ``move`` pixels."""
        # A movement and its mirror image have similar errors.
        distance = np.linalg.norm(np.abs(self._r.moved) - np.abs(move), axis=1)
        row = random.choice(np.argpartition(distance, _ALIKE)[:_ALIKE])
        mirrored = np.where(self._r.moved[row] * move < 0, -1, 1)
        return self._moved_error[row] * mirrored

    def came_back_error(self, random: np.random.Generator) -> NDArray[np.float64]:
        """Error [2] of ``previous`` in pixels, for a joint that was covered in the frame before."""
        return random.choice(self._r.came_back_error)

    def near(self, donor: int, at: int) -> Iterator[tuple[int, int, NDArray, float]]:
        """False peaks near a person: joint, nearest true joint, offset from that in sizes, score."""
        for row in self._near.get((donor, at), ()):
            yield int(self._r.near[row, 2]), int(self._r.near[row, 3]), self._r.near_at[row], self._r.near_score[row]

    def far(self, random: np.random.Generator) -> list[tuple[int, float]]:
        """False peaks of one image far from people: joint, score."""
        rows = self._far[random.integers(len(self._far))]
        return [(int(self._r.far[row, 1]), float(self._r.far_score[row])) for row in rows]

    def centres(self, donor: int, at: int) -> Iterator[tuple[NDArray, float, NDArray]]:
        """A person's centres: offset from the mean of the joints, score, and offsets [13, 2] from the true joints."""
        if self._r.centre_score[donor, at] > 0:
            yield self._r.centre_at[donor, at], self._r.centre_score[donor, at], self._expected[donor, at]
        for row in self._extra.get((donor, at), ()):
            yield self._r.extra_at[row], self._r.extra_score[row], self._second[row]

    def hidden_centre(self, hidden: float, found: int) -> tuple[float, float]:
        """How often a person's centre is found, and its score, both relative to people who are hardly hidden.

        Args:
            hidden: share of the person's joints that are hidden.
            found: number of the person's joints that are found.
        """
        table = self._r.hidden_centre[int(found >= MANY_FOUND)]
        share, score = np.minimum(table[np.digitize(hidden, HIDDEN_BINS)] / table[0], 1)
        return float(share), float(score)

    def own_edges(self, kind: int, donor: NDArray, at: NDArray) -> NDArray[np.float64]:
        """Scores of edges within people."""
        return self._edges[donor, at, kind]

    def wrong_edges(self, kind: int, stray: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
        """Scores of edges between different people, by the bin of their stray."""
        quantiles = self._r.stray_score[kind]
        position = random.uniform(0, quantiles.shape[1] - 1, stray.shape)
        low = position.astype(int)
        share = position - low
        return quantiles[stray, low] * (1 - share) + quantiles[stray, low + 1] * share


def _by_frame(rows: NDArray[np.int64]) -> dict[tuple[int, int], list[int]]:
    """Row numbers by the first two columns: donor and frame."""
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, (donor, frame) in enumerate(rows[:, :2].tolist()):
        numbers.setdefault((donor, frame), []).append(number)
    return numbers


def _filled(residuals: Residuals, wanted: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float64]:
    """[D, F, 13, 3]: offset x, y and score of the ``wanted`` [D, 13] joints; others are copied from other donors."""
    peaks = np.concatenate([residuals.peak_at, residuals.peak_score[..., None]], axis=-1)
    usable = wanted & ~np.isnan(peaks[..., 2]).any(axis=1)
    logs = np.log(residuals.donor_size)
    # Finding the centre goes with finding the joints, so it has the largest weight.
    centred = (residuals.centre_score > 0).mean(axis=1)
    for joint in range(len(JOINTS)):
        sources = np.flatnonzero(usable[:, joint])
        for donor in np.flatnonzero(~usable[:, joint]):
            difference = np.abs(logs[sources] - logs[donor]) + 3 * np.abs(centred[sources] - centred[donor])
            peaks[donor, :, joint] = peaks[random.choice(sources[np.argsort(difference)[:_ALIKE]]), :, joint]
    return np.nan_to_num(peaks)


def _filled_with_others(array: NDArray, random: np.random.Generator) -> NDArray[np.float64]:
    """An array [R, ...] with its NaN replaced by random values of the same column in other rows."""
    filled = array.copy().reshape(len(array), -1)
    for column in filled.T:
        unknown = np.isnan(column)
        if unknown.any():
            column[unknown] = random.choice(column[~unknown], unknown.sum()) if not unknown.all() else 0
    return filled.reshape(array.shape)
