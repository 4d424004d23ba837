"""The verdict of a soak test on series whose course is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import theilslopes

from benchmarks.run.soak import ENOUGH_FRAMES, Soak, judge, theil_sen

HOUR = 3600


def soak(
    hours: float = 2.0, rise_mb: float = 0.0, slower: float = 0.0, noise_mb: float = 0.2, frames: int = 20_000
) -> Soak:
    """A run with so much more memory and latency an hour, jagged upwards as allocators are; warm-up costs 30 MB."""
    random = np.random.default_rng(0)
    seconds = np.arange(0, hours * HOUR, 1.0)
    start = 30 * np.exp(-seconds / 10)
    resident = 250 - start + rise_mb * seconds / HOUR + noise_mb * random.random(len(seconds)) ** 2
    began = np.linspace(0, hours * HOUR, frames, endpoint=False)
    latency = (1 + slower * began / HOUR) * (40 + random.gamma(2, 2, frames))
    return judge(began, latency, seconds, resident)


def test_a_flat_run_is_flat():
    found = soak()
    assert found.verdict == "flat", found.why
    assert found.memory_mb_an_hour is not None
    assert found.memory_mb_an_hour.high < 1
    assert found.latency_percent_an_hour is not None
    assert abs(found.latency_percent_an_hour.value) < 1
    assert found.minutes == pytest.approx(120, abs=0.1)


def test_a_leak_is_told_with_its_size():
    found = soak(rise_mb=5)
    assert found.verdict == "not flat"
    assert "memory rises by 5." in found.why or "memory rises by 4.9" in found.why
    assert "p99" not in found.why


def test_frames_that_grow_slower_are_told():
    found = soak(slower=0.1)
    assert found.verdict == "not flat"
    assert "p99 of the last tenth is +" in found.why
    assert found.latency_percent_an_hour is not None
    assert 7 < found.latency_percent_an_hour.value < 11


def test_a_machine_that_grew_faster_was_not_steady_either():
    assert soak(slower=-0.1).verdict == "not flat"


def test_falling_memory_is_no_leak():
    assert soak(rise_mb=-5).verdict == "flat"


@pytest.mark.parametrize(
    ("run", "why"),
    [
        ({"frames": ENOUGH_FRAMES - 10}, "p99 of a tenth needs 6620"),
        ({"hours": 0.05}, "too few minutes"),
    ],
    ids=["few frames", "few minutes"],
)
def test_what_is_too_short_is_neither(run: dict, why: str):
    found = soak(**run)
    assert found.verdict == "too short to tell"
    assert why in found.why


def test_memory_that_wanders_in_a_short_run_is_not_judged():
    seconds = np.arange(0, 900, 1.0)
    wandering = 250 + np.repeat([0.0, 3, 1, 4, 0, 3, 1, 5, 2, 3, 0, 4, 1, 2, 3], 60)
    found = judge(np.linspace(0, 899, 8000), np.full(8000, 40.0), seconds, wandering)
    assert found.verdict == "too short to tell"
    assert "only known to lie between" in found.why


def test_a_fault_that_is_seen_counts_in_a_short_run_too():
    assert soak(rise_mb=500, frames=100).verdict == "not flat"


def test_without_memory_figures_nothing_is_called_flat():
    seconds = np.arange(0, HOUR, 1.0)
    found = judge(seconds, np.full(HOUR, 40.0), seconds, np.full(HOUR, np.nan))
    assert found.memory_mb_an_hour is None
    assert found.verdict == "too short to tell"


@given(st.lists(st.floats(-100, 100), min_size=8, max_size=40))
def test_the_slope_is_scipys(values: list[float]):
    x, y = np.arange(len(values), dtype=float), np.array(values)
    ours = theil_sen(x, y)
    slope, _, low, high = map(float, theilslopes(y, x, 0.95))  # type: ignore[arg-type]
    assert ours is not None
    assert ours.value == pytest.approx(slope, abs=1e-9)
    assert ours.low <= low + 1e-9, "rounded outwards"
    assert ours.high >= high - 1e-9
