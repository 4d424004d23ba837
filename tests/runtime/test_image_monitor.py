"""What is said of a camera's pictures, from their times and contents alone."""

import numpy as np

from runtime.ages import Ages
from runtime.image_monitor import ImageMonitor


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(30, 255, (64, 96, 3), np.uint8)


def test_another_rate_is_said_once():
    said: list[str] = []
    watch, now = ImageMonitor(5.0, said.append), 0.0
    for number in range(300):
        now += 1 / 25 if number < 150 else 1 / 8
        watch.check(noise(number), now)
    assert said == ["frame rate changed from 25.0 to 8.0 per second"]


def test_a_still_or_dark_scene_is_neither_frozen_nor_black():
    """A sensor's noise tells them apart."""
    said: list[str] = []
    watch, dice = ImageMonitor(1.0, said.append), np.random.default_rng(0)
    scene = noise(0) // 8
    for number in range(100):
        watch.check((scene + dice.integers(0, 3, scene.shape)).astype(np.uint8), number / 10)
    assert said == []


def test_ages_are_within_a_hundredth_however_many_there_are():
    ages, all_of_them = Ages(), np.random.default_rng(0).gamma(3, 0.05, 20_000)
    for age in all_of_them:
        ages.add(float(age))
    for percent in (50, 90, 99, 100):
        assert abs(ages.percentile(percent) / np.percentile(all_of_them, percent) - 1) < 0.02
    ages.add(0.0)
    ages.add(1e6)
    assert ages.count == 20_002
