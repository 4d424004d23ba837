"""The paper's augmentations of memorised maps, one at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stm_skeletons.maps import render_maps
from stm_skeletons.skeleton import COCO17
from training.data.memory_maps import Mistakes, memory_maps, without_labels

SIZE = (128, 192)
JOINTS = 1 + len(COCO17.joints)


def person() -> np.ndarray:
    random = np.random.default_rng(0)
    xy = random.uniform([40, 30], [150, 100], (1, 17, 2))
    return np.concatenate([xy, np.ones((1, 17, 1))], axis=-1).astype(np.float32)


def augmented_maps(seed: int = 0, **mistakes: float) -> np.ndarray:
    return memory_maps(person(), COCO17, SIZE, Mistakes(**mistakes), np.random.default_rng(seed))


def test_maps_without_augmentation_equal_the_ground_truth():
    np.testing.assert_array_equal(augmented_maps(), render_maps(person(), COCO17, SIZE))


@given(
    seed=st.integers(0, 1000),
    jitter=st.floats(0, 20),
    rand=st.floats(0, 1),
    baits=st.floats(0, 20),
    dull_clouds=st.floats(0, 1),
)
def test_maps_stay_between_0_and_1_and_the_mask_is_unchanged(
    seed: int, jitter: float, rand: float, baits: float, dull_clouds: float
):
    maps = augmented_maps(seed, jitter=jitter, rand=rand, baits=baits, dull_clouds=dull_clouds)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1
    np.testing.assert_array_equal(maps[0], render_maps(person(), COCO17, SIZE)[0])
    np.testing.assert_array_equal(
        maps, augmented_maps(seed, jitter=jitter, rand=rand, baits=baits, dull_clouds=dull_clouds)
    )


def test_tiny_rand_is_close_to_the_ground_truth():
    np.testing.assert_allclose(augmented_maps(rand=1e-4), render_maps(person(), COCO17, SIZE), atol=2e-3)


def test_jitter_moves_peaks_by_its_strength():
    truth = person()[0, :, :2]
    distances = []
    for seed in range(30):
        maps = augmented_maps(seed, jitter=4.0)[1:JOINTS]
        for channel, (x, y) in enumerate(truth):
            row, column = np.unravel_index(maps[channel].argmax(), maps[channel].shape)
            distances.append(np.hypot(column * 4 + 2 - x, row * 4 + 2 - y))
    # Mean length of a normal displacement in two dimensions: sigma * sqrt(pi / 2); at 128 rows sigma is half as large.
    assert np.mean(distances) == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.25)


def test_baits_add_peaks_and_remove_none():
    truth = augmented_maps()
    maps = augmented_maps(1, baits=6.0)
    assert (maps >= truth - 1e-3).all()
    added = (maps - truth) > 0.5
    assert added[1:JOINTS].any()
    assert added[JOINTS:].any()


def test_dull_clouds_lower_peaks_by_up_to_their_strength():
    peaks = np.concatenate([augmented_maps(seed, dull_clouds=1.0)[1:JOINTS].max((1, 2)) for seed in range(40)])
    assert peaks.min() < 0.1
    assert peaks.max() > 0.85
    assert peaks.mean() == pytest.approx(0.47, abs=0.05)  # half of the peak's height in its nearest cell
    gentle = np.concatenate([augmented_maps(seed, dull_clouds=0.2)[1:JOINTS].max((1, 2)) for seed in range(10)])
    assert gentle.min() > 0.7


def test_rand_changes_size_and_shape():
    areas = np.concatenate([(augmented_maps(seed, rand=1.0)[1:JOINTS] > np.exp(-1)).sum((1, 2)) for seed in range(20)])
    round_area = (augmented_maps()[1:JOINTS] > np.exp(-1)).sum((1, 2)).mean()
    assert areas.min() < 0.6 * round_area
    assert areas.max() > 1.6 * round_area


def test_maps_are_empty_at_a_cold_start():
    assert not memory_maps(without_labels(person()), COCO17, SIZE, Mistakes(), np.random.default_rng(0)).any()
