"""Messages about a camera's images, from their times and contents alone."""

import numpy as np

from runtime.ages import Ages
from runtime.image_monitor import ImageMonitor


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(30, 255, (64, 96, 3), np.uint8)


def test_changed_frame_rate_is_reported_once():
    messages: list[str] = []
    monitor, now = ImageMonitor(5.0, messages.append), 0.0
    for number in range(300):
        now += 1 / 25 if number < 150 else 1 / 8
        monitor.check(noise(number), now)
    assert messages == ["frame rate changed from 25.0 to 8.0 per second"]


def test_still_or_dark_scene_is_not_reported_as_frozen_or_black():
    """Sensor noise distinguishes it from a frozen or black image."""
    messages: list[str] = []
    monitor, dice = ImageMonitor(1.0, messages.append), np.random.default_rng(0)
    scene = noise(0) // 8
    for number in range(100):
        monitor.check((scene + dice.integers(0, 3, scene.shape)).astype(np.uint8), number / 10)
    assert messages == []


def test_percentiles_of_many_ages_are_within_2_percent():
    ages, samples = Ages(), np.random.default_rng(0).gamma(3, 0.05, 20_000)
    for age in samples:
        ages.add(float(age))
    for percent in (50, 90, 99, 100):
        assert abs(ages.percentile(percent) / np.percentile(samples, percent) - 1) < 0.02
    ages.add(0.0)
    ages.add(1e6)
    assert ages.count == 20_002
