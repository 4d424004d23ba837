"""Latency statistics, and the number of samples that a percentile needs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.run.latency import CONFIDENCE, PERCENTILES, samples_needed, summarise
from stm_skeletons.errors import BenchmarkError


def test_samples_needed_for_common_percentiles():
    assert [samples_needed(percentile) for percentile in (*PERCENTILES, 99.9)] == [11, 64, 130, 662, 6636]


@given(st.floats(1, 99.9))
def test_samples_needed_is_the_smallest_count_with_two_samples_beyond(percentile: float):
    count = samples_needed(percentile)
    beyond = 1 - percentile / 100
    assert binom.sf(1, count, beyond) >= CONFIDENCE - 1e-9
    assert binom.sf(1, count - 1, beyond) < CONFIDENCE + 1e-9


@pytest.mark.parametrize("percentile", [0, 100, -1, 101])
def test_percentiles_outside_0_to_100_are_rejected(percentile: float):
    with pytest.raises(ValueError, match="must be between 0 and 100"):
        samples_needed(percentile)


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=800))
def test_percentiles_are_measured_values_and_need_enough_samples(times: list[float]):
    summary = summarise(times)
    for percentile in PERCENTILES:
        found = getattr(summary, f"p{percentile}")
        assert (found is None) == (len(times) < samples_needed(percentile))
        if found is not None:
            assert found in [round(one, 3) for one in times]
            assert np.mean(np.array(times) <= found + 1e-3) >= percentile / 100
    assert summary.count == len(times)
    assert summary.max == round(max(times), 3)


def test_jitter_is_the_mean_change_between_frames_not_drift():
    assert summarise([10, 12, 10, 12]).jitter == 2
    assert summarise(np.linspace(10, 20, 1001)).jitter == pytest.approx(0.01)
    assert summarise([10]).jitter is None


def test_only_times_above_the_deadline_are_misses():
    summary = summarise([39.9, 40.0, 40.1, 90.0], 40.0)
    assert (summary.misses, summary.miss_share) == (2, 0.5)
    assert summarise([1.0]).misses is None
    assert summarise([1.0]).miss_share is None


@pytest.mark.parametrize("times", [[], [1, float("nan")], [[1, 2]]])
def test_invalid_times_are_rejected(times: list):
    with pytest.raises(BenchmarkError, match="measure at least one frame"):
        summarise(times)
