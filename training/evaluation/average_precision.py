"""COCO's average precision and recall from matches, accumulated as in COCOeval, for any resampling of sequences."""

import numpy as np
from numpy.typing import NDArray

from training.evaluation.oks import LEVELS

FIGURES = ("AP", "AP50", "AP75", "AR")
_RECALLS = np.linspace(0, 1, 101)


class Ranking:
    """D detected people of S sequences in order of falling score, stored for fast accumulation."""

    def __init__(
        self,
        sequence: NDArray[np.int64],
        right: NDArray[np.bool_],
        counted: NDArray[np.bool_],
        labelled: NDArray[np.int64],
    ) -> None:
        """
        Args:
            sequence: [D] sequence of each person.
            right: [LEVELS, D] correct people.
            counted: [LEVELS, D] people who are correct or wrong, not ignored.
            labelled: [S] labelled people in each sequence.
        """
        self._sequence, self._labelled = sequence, labelled
        self._right = [np.flatnonzero(at_level) for at_level in right]
        # Usually the same people count at all levels.
        self._counted, self._which = np.unique(counted, axis=0, return_inverse=True)

    def figures(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """[FIGURES], with each sequence repeated ``times`` [S] times; NaN if nobody is labelled.

        AP is the precision averaged over 101 recalls and over LEVELS; AP50 and AP75 are of a single level; AR is the
        recall with all counted people, averaged over LEVELS.
        """
        total = int(times @ self._labelled)
        if not total:
            return np.full(len(FIGURES), np.nan)
        weight = times[self._sequence]
        ranks = [np.cumsum(np.where(counted, weight, 0)) for counted in self._counted]
        levels = [
            _average(np.cumsum(weight[right]), ranks[which][right], total)
            for right, which in zip(self._right, self._which.ravel(), strict=True)
        ]
        precision, recall = np.array(levels).T
        return np.array([precision.mean(), precision[LEVELS.index(0.5)], precision[LEVELS.index(0.75)], recall.mean()])


def _average(right: NDArray[np.int64], ranks: NDArray[np.int64], total: int) -> tuple[float, float]:
    """Average precision and final recall at a level.

    Args:
        right: for each correct person, the number of correct people up to there.
        ranks: for each correct person, the number of counted people up to there.
        total: number of labelled people.
    """
    if not len(right):
        return 0.0, 0.0
    # The best precision at this recall or a higher one; it always lies at a correct person.
    precision = np.maximum.accumulate((right / (ranks + np.spacing(1)))[::-1])[::-1]
    recall = right / total
    at = np.searchsorted(recall, _RECALLS, side="left")
    return float(precision[at[at < len(right)]].sum() / len(_RECALLS)), float(recall[-1])
