import json
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import slowdown

from stm_skeletons.maps import SIGMA, render_maps
from stm_skeletons.skeleton import COCO17, POSETRACK15, SKELETONS, Skeleton

SIZE = (64, 96)


def people(skeleton: Skeleton, count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    random = np.random.default_rng(seed)
    xy = random.uniform(-10, 10, (count, len(skeleton.joints), 2)) + random.uniform(0, 1, (count, 1, 2)) * size[::-1]
    return np.concatenate([xy, random.integers(0, 3, (count, len(skeleton.joints), 1))], axis=-1)


def slow_maps(poses: np.ndarray, skeleton: Skeleton, size: tuple[int, int], sigma: float) -> np.ndarray:
    """The definition, cell by cell: exp(-d^2 / sigma^2), maximum over people."""
    height, width = size[0] // 4, size[1] // 4
    maps = np.zeros((len(skeleton.joints) + len(skeleton.edges), height, width))
    for row in range(height):
        for column in range(width):
            p = np.array([4 * column + 2, 4 * row + 2], float)
            for pose in poses:
                for i, (x, y, v) in enumerate(pose):
                    if v > 0:
                        value = np.exp(-((p - (x, y)) ** 2).sum() / sigma**2)
                        maps[i, row, column] = max(maps[i, row, column], value)
                for i, (a, b) in enumerate(skeleton.edges, start=len(skeleton.joints)):
                    if pose[a, 2] > 0 and pose[b, 2] > 0:
                        start, end = pose[a, :2], pose[b, :2]
                        t = np.clip((p - start) @ (end - start) / max(((end - start) ** 2).sum(), 1e-6), 0, 1)
                        value = np.exp(-((p - start - t * (end - start)) ** 2).sum() / sigma**2)
                        maps[i, row, column] = max(maps[i, row, column], value)
    return maps


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
def test_equals_the_definition(skeleton: Skeleton):
    poses = people(skeleton, 3)
    np.testing.assert_allclose(
        render_maps(poses, skeleton, SIZE)[1:], slow_maps(poses, skeleton, SIZE, SIGMA), atol=2e-4
    )


def test_value_one_at_the_joint_and_one_over_e_at_sigma():
    poses = np.zeros((1, 17, 3))
    poses[0, 0] = (42, 30, 2)
    nose = render_maps(poses, COCO17, SIZE, sigma=8)[1]
    assert nose[7, 10] == 1
    assert nose[7, 12] == pytest.approx(np.exp(-1), abs=1e-6)


def test_mask_covers_the_joints_of_every_edge():
    poses = people(POSETRACK15, 2, seed=3)
    poses[..., 2] = 2
    mask = render_maps(poses, POSETRACK15, SIZE)[0]
    assert set(np.unique(mask)) <= {0, 1}
    for x, y, _ in poses.reshape(-1, 3):
        row, column = int(y // 4), int(x // 4)
        if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
            assert mask[row, column] == 1


def test_maps_without_people_are_zero():
    assert not render_maps(np.zeros((0, 17, 3)), COCO17, SIZE).any()
    assert not render_maps(np.zeros((2, 17, 3)), COCO17, SIZE).any()


def test_non_finite_points_are_ignored():
    poses = people(COCO17, 1)
    poses[..., 2] = 2
    without = poses.copy()
    without[0, 5, 2] = 0
    poses[0, 5, 0] = np.nan
    np.testing.assert_array_equal(render_maps(poses, COCO17, SIZE), render_maps(without, COCO17, SIZE))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_order_of_people_does_not_matter_and_values_are_confidences(count, seed):
    poses = people(COCO17, count, seed)
    maps = render_maps(poses, COCO17, SIZE)
    assert maps.shape == (37, 16, 24)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1
    np.testing.assert_array_equal(maps, render_maps(poses[::-1], COCO17, SIZE))


def test_rendering_is_fast_enough_to_feed_training():
    poses = people(COCO17, 10, size=(256, 448))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        render_maps(poses, COCO17, (256, 448))
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02 * slowdown(), "10 people on 37 maps of 448x256"


@pytest.mark.slow
def test_all_maps_of_ten_people_take_under_5_ms(shared: Path):
    """At 448x256, real poses of COCO; the fastest of many runs, since other work on the machine only adds."""
    annotations = json.loads((shared / "coco" / "person_keypoints_train.json").read_text())["annotations"]
    people = [np.reshape(a["keypoints"], (17, 3)) for a in annotations if a["num_keypoints"] >= 12][:10]
    poses = np.array(people, float) * [448 / 640, 256 / 480, 1]
    assert len(poses) == 10
    seconds = []
    for _ in range(100):
        start = time.perf_counter()
        render_maps(poses, COCO17, (256, 448))
        seconds.append(time.perf_counter() - start)
    print(f"fastest {1e3 * min(seconds):.2f} ms, median {1e3 * statistics.median(seconds):.2f} ms")
    assert min(seconds) < 5e-3 * slowdown()
