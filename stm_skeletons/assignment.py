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
    places = wanted + columns * np.arange(problems)[:, None]
    alone = np.bincount(places[wants], minlength=problems * columns)[places] == 1
    chosen = np.where(wants, wanted, -1)
    # If all rows of a problem want different columns, the first choices are optimal.
    waiting = wants & ~alone
    disputed = np.flatnonzero(waiting.any(axis=1))
    if len(disputed):
        undisputed = np.where(waiting, -1, chosen)
        chosen[disputed] = _settle(values[disputed], most[disputed], undisputed[disputed], waiting[disputed])
    return chosen


def _settle(
    values: NDArray, most: NDArray, undisputed: NDArray[np.int64], waiting: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """[N, R]: the best assignment of several problems, solved as one with N * R rows and N * C columns.

    Args:
        values: [N, R, C].
        most: [N, R]: each row's largest value.
        undisputed: [N, R]: the column of each row that is alone in wanting it most, -1 for the others.
        waiting: [N, R]: the other rows that want a column.
    """
    problems, rows, columns = values.shape
    problem, row, column = np.nonzero(values > 0)
    pairs = list(zip((problem * columns + column).tolist(), values[problem, row, column].tolist(), strict=True))
    ends = np.bincount(problem * rows + row, minlength=problems * rows).cumsum().tolist()
    first = columns * np.arange(problems)[:, None]
    matching = _Matching(
        [pairs[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)],
        problems * columns,
        most.ravel().tolist(),
        np.where(undisputed >= 0, undisputed + first, -1).ravel().tolist(),
    )
    for number in np.flatnonzero(waiting).tolist():
        matching.add(number)
    chosen = np.array(matching.column_of).reshape(problems, rows)
    return np.where(chosen >= 0, chosen - first, -1)


class _Matching:
    """The best matching of the rows added so far, with the dual variables (prices) that prove it.

    A matched row's value equals its profit plus its column's price; no row has a higher profit at another column;
    unmatched rows have profit 0, unmatched columns price 0.
    """

    def __init__(
        self, candidates: list[list[tuple[int, float]]], columns: int, most: list[float], undisputed: list[int]
    ) -> None:
        """
        Args:
            candidates: for each row the columns with a positive value, and that value.
            columns: number of columns.
            most: upper bound of each row's values.
            undisputed: the column of each row that is alone in wanting it most, -1 for the other rows.
        """
        self.column_of = undisputed
        self._row_of = {column: row for row, column in enumerate(undisputed) if column >= 0}
        self._candidates = candidates
        self._profit = most
        self._price = [0.0] * columns

    def add(self, row: int) -> None:
        """Add a row and rearrange the matching where that is better."""
        self._profit[row] = max([0.0, *(value - self._price[column] for column, value in self._candidates[row])])
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
            for column, value in self._candidates[current]:
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
