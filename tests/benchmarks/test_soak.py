"""The verdict of a soak test on synthetic series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import theilslopes

from benchmarks.run.soak import Soak, judge, theil_sen
from benchmarks.run.tail import MIN_FRAMES, tail_change

HOUR = 3600


def soak(
    hours: float = 2.0, rise_mb: float = 0.0, slower: float = 0.0, noise_mb: float = 0.2, frames: int = 20_000
) -> Soak:
    """A run whose memory and latency rise per hour. Memory noise is upwards, as in allocators; warm-up takes 30 MB."""
    random = np.random.default_rng(0)
    seconds = np.arange(0, hours * HOUR, 1.0)
    start = 30 * np.exp(-seconds / 10)
    resident = 250 - start + rise_mb * seconds / HOUR + noise_mb * random.random(len(seconds)) ** 2
    starts = np.linspace(0, hours * HOUR, frames, endpoint=False)
    latency = (1 + slower * starts / HOUR) * (40 + random.gamma(2, 2, frames))
    return judge(starts, latency, seconds, resident)


def test_a_flat_run_is_flat():
    found = soak()
    assert found.verdict == "flat", found.why
    assert found.memory_mb_an_hour is not None
    assert found.memory_mb_an_hour.high < 1
    assert found.latency_percent_an_hour is not None
    assert abs(found.latency_percent_an_hour.value) < 1
    assert found.minutes == pytest.approx(120, abs=0.1)


def test_leak_is_reported_with_its_size():
    found = soak(rise_mb=5)
    assert found.verdict == "not flat"
    assert "memory rises by 5." in found.why or "memory rises by 4.9" in found.why
    assert "p99" not in found.why


def test_rising_latency_is_reported():
    found = soak(slower=0.1)
    assert found.verdict == "not flat"
    assert "p99 changed by +" in found.why
    assert found.latency_percent_an_hour is not None
    assert 7 < found.latency_percent_an_hour.value < 11


def noisy_soak(slower: float, machine_slower: float, scatter: float, with_yardstick: bool = True) -> Soak:
    """Two hours in which frames become slower, on a machine that becomes slower too, with a heavy tail."""
    random = np.random.default_rng(0)
    seconds, frames = np.arange(0, 2 * HOUR, 1.0), 40_000
    starts = np.linspace(0, 2 * HOUR, frames, endpoint=False)
    # A disturbance of a minute affects frames and yardstick alike.
    minutes = 1 + scatter * np.repeat(random.random(200) ** 4, frames // 200)
    machine = (1 + machine_slower * starts / HOUR) * minutes
    latency, yardstick = (machine * (base + random.gamma(2, base / 100, frames)) for base in (40, 1))
    latency *= 1 + slower * starts / HOUR
    return judge(starts, latency, seconds, np.full(len(seconds), 200.0), yardstick if with_yardstick else None)


def test_slowdown_of_frames_and_yardstick_alike_is_flat():
    found = noisy_soak(slower=0, machine_slower=0.05, scatter=0)
    assert found.verdict == "flat", found.why
    assert found.p99 is not None
    assert found.p99.frames.percent.value > 5
    assert found.p99.relative_percent is not None
    assert abs(found.p99.relative_percent.value) < 2
    assert noisy_soak(slower=0, machine_slower=0.05, scatter=0, with_yardstick=False).verdict == "not flat"


def test_slowdown_relative_to_the_yardstick_is_reported():
    found = noisy_soak(slower=0.06, machine_slower=0, scatter=0)
    assert found.verdict == "not flat"
    assert "relative to the yardstick" in found.why


def test_noise_is_not_reported_as_a_change():
    found = noisy_soak(slower=0, machine_slower=0, scatter=1, with_yardstick=False)
    assert found.p99 is not None
    assert found.p99.frames.percent.low < -5 < 5 < found.p99.frames.percent.high
    assert found.verdict == "cannot tell"
    assert "too noisy to decide" in found.why
    relative = noisy_soak(slower=0, machine_slower=0, scatter=1)
    assert relative.verdict == "flat", relative.why


@settings(deadline=None, max_examples=20)
@given(st.floats(0.5, 2), st.integers(0, 2**31))
def test_interval_contains_the_applied_change(slower: float, seed: int):
    random = np.random.default_rng(seed)
    frames = MIN_FRAMES
    latency = 40 + random.gamma(2, 1, frames)
    latency[-frames // 10 :] *= slower
    found = tail_change(latency, np.ones(frames))
    assert found is not None
    assert found.relative_percent == found.frames.percent
    found = found.frames.percent
    wide = 1.5 * (found.high - found.low)
    assert found.low - wide <= 100 * (slower - 1) <= found.high + wide


def test_falling_latency_is_not_flat():
    assert soak(slower=-0.1).verdict == "not flat"


def test_falling_memory_is_no_leak():
    assert soak(rise_mb=-5).verdict == "flat"


@pytest.mark.parametrize(
    ("run", "why"),
    [
        ({"frames": MIN_FRAMES - 10}, "p99 of a tenth of them needs 6620"),
        ({"hours": 0.05}, "too few minutes"),
    ],
    ids=["few frames", "few minutes"],
)
def test_too_short_runs_get_no_verdict(run: dict, why: str):
    found = soak(**run)
    assert found.verdict == "cannot tell"
    assert why in found.why


def test_wandering_memory_in_a_short_run_gets_no_verdict():
    seconds = np.arange(0, 900, 1.0)
    wandering = 250 + np.repeat([0.0, 3, 1, 4, 0, 3, 1, 5, 2, 3, 0, 4, 1, 2, 3], 60)
    found = judge(np.linspace(0, 899, 8000), np.full(8000, 40.0), seconds, wandering)
    assert found.verdict == "cannot tell"
    assert "memory's slope is uncertain" in found.why


def test_clear_leak_is_reported_even_in_a_short_run():
    assert soak(rise_mb=500, frames=100).verdict == "not flat"


def test_run_without_memory_figures_is_not_called_flat():
    seconds = np.arange(0, HOUR, 1.0)
    found = judge(seconds, np.full(HOUR, 40.0), seconds, np.full(HOUR, np.nan))
    assert found.memory_mb_an_hour is None
    assert found.verdict == "cannot tell"


@given(st.lists(st.floats(-100, 100), min_size=8, max_size=40))
def test_slope_matches_scipy(values: list[float]):
    x, y = np.arange(len(values), dtype=float), np.array(values)
    ours = theil_sen(x, y)
    slope, _, low, high = map(float, theilslopes(y, x, 0.95))  # type: ignore[arg-type]
    assert ours is not None
    assert ours.value == pytest.approx(slope, abs=1e-9)
    assert ours.low <= low + 1e-9, "rounded outwards"
    assert ours.high >= high - 1e-9
