import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from stm_skeletons.assignment import best_assignment


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.booleans())
def test_total_equals_that_of_scipy(seed: int, rows: int, columns: int, share: float, ties: bool):
    """Also where most pairs have no value, and where many have the same."""
    random = np.random.default_rng(seed)
    values = random.random((3, rows, columns)) * (random.random((3, rows, columns)) < share)
    values = values.round(1) if ties else values
    for matrix, chosen in zip(values, best_assignment(values), strict=True):
        matched = np.flatnonzero(chosen >= 0)
        assert len(set(chosen[matched])) == len(matched), "each column at most once"
        assert (matrix[matched, chosen[matched]] > 0).all()
        row, column = linear_sum_assignment(-matrix)
        assert matrix[matched, chosen[matched]].sum() == pytest.approx(matrix[row, column].sum())


def test_highest_value_is_not_always_chosen():
    """The second row has no other column, and 0.8 + 0.7 is more than 0.9."""
    assert best_assignment(np.array([[[0.9, 0.8], [0.7, 0.0]]])).tolist() == [[1, 0]]


def test_nothing_is_assigned_without_rows_columns_or_values():
    assert best_assignment(np.zeros((2, 0, 5))).shape == (2, 0)
    assert best_assignment(np.zeros((2, 3, 0))).tolist() == [[-1] * 3] * 2
    assert best_assignment(np.zeros((1, 2, 2))).tolist() == [[-1, -1]]
