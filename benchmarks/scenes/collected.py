"""Collects the network's errors over all sequences."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.errors import HIDDEN_BINS, MANY_FOUND, STRAY_BINS, Residuals
from benchmarks.scenes.tracks import EDGES

_QUANTILES = np.linspace(0, 1, 33)


@dataclass
class Donor:
    """The frames of one donor so far (see errors)."""

    size: list = field(default_factory=list)
    close: list = field(default_factory=list)
    peaks: list = field(default_factory=list)
    centres: list = field(default_factory=list)
    expected: list = field(default_factory=list)
    edges: list = field(default_factory=list)


class Collected:
    """The errors of all sequences so far."""

    def __init__(self) -> None:
        self.people: list[Donor] = []
        self.seen: list[NDArray] = []
        self.near: list[tuple] = []
        self.extra: list[tuple] = []
        self.far: list[tuple] = []
        self.images = 0
        self.covered: list[tuple] = []
        self.centre_when_hidden: list[tuple] = []
        self.moved: list[tuple] = []
        self.came_back: list[NDArray] = []
        self.strays: list[list[tuple]] = [[] for _ in EDGES]

    def residuals(self, source: str) -> Residuals:
        """All errors as arrays; ``source``: description of the data and weights."""
        peaks = np.array([person.peaks for person in self.people])
        centres = np.array([person.centres for person in self.people])
        near, extra, far, covered = (
            np.array(rows, float).reshape(len(rows), width)
            for rows, width in ((self.near, 7), (self.extra, 31), (self.far, 3), (self.covered, 4))
        )
        return Residuals(
            donor_size=np.array([np.mean(person.size) for person in self.people]),
            close=np.array([person.close for person in self.people]),
            seen=np.array(self.seen),
            peak_at=peaks[..., :2],
            peak_score=peaks[..., 2],
            centre_at=centres[..., :2],
            centre_score=centres[..., 2],
            expected_at=np.array([person.expected for person in self.people]),
            edge_score=np.array([person.edges for person in self.people]),
            near=near[:, :4],
            near_at=near[:, 4:6],
            near_score=near[:, 6],
            extra=extra[:, :2],
            extra_at=extra[:, 2:4],
            extra_score=extra[:, 4],
            extra_expected_at=extra[:, 5:].reshape(-1, 13, 2),
            far=far[:, :2],
            far_score=far[:, 2],
            far_pictures=np.array(self.images),
            covered=covered[:, 0],
            covered_at=covered[:, 1:3],
            covered_score=covered[:, 3],
            hidden_centre=_by_share_hidden(np.array(self.centre_when_hidden)),
            moved=np.array([move for move, _ in self.moved]),
            moved_error=np.array([error for _, error in self.moved]),
            came_back_error=np.array(self.came_back),
            stray_score=np.array([_by_stray(np.array(rows)) for rows in self.strays]),
            source=np.array(source),
        )


def _by_share_hidden(rows: NDArray) -> NDArray:
    """Table [2, 4, 2] (see Residuals.hidden_centre) from rows [R, 3]: found joints, share of hidden joints, score of
    the centre (0: not found)."""
    table = np.zeros((2, len(HIDDEN_BINS) + 1, 2))
    bins, many = np.digitize(rows[:, 1], HIDDEN_BINS), rows[:, 0] >= MANY_FOUND
    for i, j in np.ndindex(table.shape[:2]):
        scores = rows[(many == i) & (bins == j), 2]
        if (scores > 0).any():
            table[i, j] = (scores > 0).mean(), scores[scores > 0].mean()
    return table


def _by_stray(rows: NDArray) -> NDArray:
    """Quantiles [7, 33] of scores from rows [R, 2]: stray in pixels, score. An empty bin copies the one before."""
    bins = np.digitize(rows[:, 0], STRAY_BINS)
    quantiles = np.zeros((len(STRAY_BINS) + 1, len(_QUANTILES)))
    for i in range(len(quantiles)):
        scores = rows[bins == i, 1]
        quantiles[i] = np.quantile(scores, _QUANTILES) if len(scores) else quantiles[max(i - 1, 0)]
    return quantiles
