"""COCO's average precision and recall out of matches, as COCOeval accumulates them, with sequences drawn any number of
times."""

import numpy as np
from numpy.typing import NDArray

from training.evaluation.oks import LEVELS

FIGURES = ("AP", "AP50", "AP75", "AR")
_RECALLS = np.linspace(0, 1, 101)


class Ranking:
    """D people of S sequences, the surest first, kept in the way in which they are counted fastest."""

    def __init__(
        self,
        sequence: NDArray[np.int64],
        right: NDArray[np.bool_],
        counted: NDArray[np.bool_],
        labelled: NDArray[np.int64],
    ) -> None:
        """
        Args:
            sequence: [D] whose each is.
            right: [LEVELS, D].
            counted: [LEVELS, D]: who is right or wrong.
            labelled: [S] people labelled in each sequence.
        """
        self._sequence, self._labelled = sequence, labelled
        self._right = [np.flatnonzero(at_level) for at_level in right]
        # Mostly the same people count at every level.
        self._counted, self._which = np.unique(counted, axis=0, return_inverse=True)

    def figures(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """[FIGURES] with each sequence taken as many times as ``times`` [S] says; NaN where nobody is labelled.

        AP is the precision at 101 recalls, averaged over these and over LEVELS; AP50 and AP75 are of one level each; AR
        is the recall of everybody who counts, averaged over LEVELS.
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
        right: of every right person, how many were right up to there.
        ranks: how many counted.
        total: how many are to be found.
    """
    if not len(right):
        return 0.0, 0.0
    # The best precision at this recall or a higher one, which lies where somebody is right.
    precision = np.maximum.accumulate((right / (ranks + np.spacing(1)))[::-1])[::-1]
    recall = right / total
    at = np.searchsorted(recall, _RECALLS, side="left")
    return float(precision[at[at < len(right)]].sum() / len(_RECALLS)), float(recall[-1])
