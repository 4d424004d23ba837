"""Exact assignment of columns to rows, at most one each, without SciPy.

For each of N problems, finds the matching with the largest sum of values; rows and columns may stay unmatched. Uses the
Hungarian method by shortest augmenting paths (Crouse, On implementing 2D rectangular assignment algorithms, 2016), row
by row, over pairs with a positive value. Rows whose best column no other row wants need no search, which is the common
case.
"""

import numpy as np
from numpy.typing import NDArray


def best_assignment(values: NDArray) -> NDArray[np.int64]:
    """Return the column assigned to each row, -1 for none.

    Args:
        values: [N, R, C]; 0 or less means that the pair must not be matched.

    Returns:
        [N, R]
    """
    problems, rows, columns = values.shape
    if not values.size:
        return np.full((problems, rows), -1, np.int64)
    wanted = values.argmax(axis=2)
    most = values[np.arange(problems)[:, None], np.arange(rows), wanted]
    wants = most > 0
    chosen = np.where(wants, wanted, -1)
    # If all rows want different columns, the first choices are optimal.
    places = (wanted + columns * np.arange(problems)[:, None])[wants]
    taken = np.bincount(places, minlength=problems * columns).reshape(problems, columns)
    for problem in np.flatnonzero((taken > 1).any(axis=1)).tolist():
        alone = taken[problem][wanted[problem]] == 1
        undisputed = np.where(alone, chosen[problem], -1).tolist()
        matching = _Matching(values[problem].tolist(), most[problem].tolist(), undisputed)
        for row in np.flatnonzero(~alone & wants[problem]).tolist():
            matching.add(row)
        chosen[problem] = matching.column_of
    return chosen


class _Matching:
    """The best matching of the rows added so far, with the dual variables (prices) that prove it.

    A matched row's value equals its profit plus its column's price; no row has a higher profit at another column;
    unmatched rows have profit 0, unmatched columns price 0.
    """

    def __init__(self, values: list[list[float]], most: list[float], undisputed: list[int]) -> None:
        """
        Args:
            values: [R, C].
            most: [R]: upper bound of each row's values.
            undisputed: [R]: the column of each row that is alone in wanting it most, -1 for the other rows.
        """
        self.column_of = undisputed
        self._row_of = {column: row for row, column in enumerate(undisputed) if column >= 0}
        self._values = values
        self._profit = most
        self._price = [0.0] * len(values[0])
        self._candidate_cache: dict[int, list[tuple[int, float]]] = {}

    def add(self, row: int) -> None:
        """Add a row and rearrange the matching where that is better."""
        self._profit[row] = max([0.0, *(value - self._price[column] for column, value in self._candidates(row))])
        reached, crossed, via, end_row, end_column, length = self._search(row)
        for other, way in reached.items():
            if way < length:
                self._profit[other] -= length - way
        for column, way in crossed.items():
            self._price[column] += length - way
        if end_column < 0:
            if end_row == row:
                return
            end_column, self.column_of[end_row] = self.column_of[end_row], -1
        while True:
            other = via[end_column]
            before = self.column_of[other]
            self.column_of[other], self._row_of[end_column] = end_column, other
            if before < 0 or other == row:
                return
            end_column = before

    def _candidates(self, row: int) -> list[tuple[int, float]]:
        """Columns with a positive value for a row, and that value."""
        if row not in self._candidate_cache:
            self._candidate_cache[row] = [
                (column, value) for column, value in enumerate(self._values[row]) if value > 0
            ]
        return self._candidate_cache[row]

    def _search(self, row: int) -> tuple[dict, dict, dict, int, int, float]:
        """Find the cheapest way to place a row: at a free column, or by unmatching another row (Dijkstra).

        Returns:
            Rows reached and columns crossed, each with its path length; for each column the row it was reached from;
            the row at the end of the path; the free column at its end or -1; and the path length.
        """
        reached, crossed = {row: 0.0}, {}
        ways: dict[int, float] = {}
        via: dict[int, int] = {}
        current, end_row, shortest = row, row, self._profit[row]
        while True:
            start = reached[current] + self._profit[current]
            for column, value in self._candidates(current):
                way = start + self._price[column] - value
                if column not in crossed and way < ways.get(column, np.inf):
                    ways[column], via[column] = max(way, reached[current]), current
            column = min(ways, key=ways.__getitem__, default=-1)
            if column < 0 or ways[column] >= shortest:
                return reached, crossed, via, end_row, -1, shortest
            way = ways.pop(column)
            if column not in self._row_of:
                return reached, crossed, via, via[column], column, way
            crossed[column] = way
            current = self._row_of[column]
            reached[current] = way
            if way + self._profit[current] < shortest:
                end_row, shortest = current, way + self._profit[current]
