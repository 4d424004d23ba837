"""Occluders, blur and colours: images change, labels do not."""

import cv2
import numpy as np
import pytest

from training.data.degrade import blur, occlude, recolour, soften
from training.data.sequence import Sequence, SequenceFrame

HEIGHT, WIDTH = 128, 192


def sequence(frames: int = 6) -> Sequence:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (16, 24, 3), np.uint8)
    image = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    poses = np.ones((1, 200, 3), np.float32)
    poses[0, :, :2] = random.uniform([0, 0], [WIDTH, HEIGHT], (200, 2))
    inside = np.ones((1, 200), bool)
    frame = SequenceFrame(
        image, poses, inside, ~inside, np.zeros((1, 4, 2), np.float32), None, np.zeros((HEIGHT // 4, WIDTH // 4), bool)
    )
    return Sequence("s", (frame,) * frames, np.ones(200, bool))


@pytest.mark.parametrize("seed", range(8))
def test_joints_under_the_occluder_are_hidden(seed: int):
    before = sequence()
    after = occlude(before, 2, np.random.default_rng(seed))
    for number, (old, new) in enumerate(zip(before.frames, after.frames, strict=True)):
        changed = (old.image != new.image).any(-1)
        if number < 2:
            assert not changed.any()
            assert not new.hidden.any()
            continue
        np.testing.assert_array_equal(new.poses, old.poses)
        np.testing.assert_array_equal(new.inside, old.inside)
        columns, rows = new.poses[0, :, 0].astype(int), new.poses[0, :, 1].astype(int)
        # Noise may equal the original pixel by chance, so look at the neighbourhood.
        covered = cv2.blur(changed.astype(np.float32), (3, 3))[rows, columns]
        assert (covered[new.hidden[0]] > 0.3).all()
        assert (covered[~new.hidden[0]] < 0.8).all()
    assert any(frame.hidden.any() for frame in after.frames)


def test_motion_blur_spreads_along_its_direction():
    frame = sequence().frames[0]
    dot = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    dot[60, 100] = 255
    level = blur(SequenceFrame(dot, frame.poses, frame.inside, frame.hidden, frame.boxes, None, frame.ignored), 12, 0.0)
    rows, columns = np.nonzero(level.image[..., 0] > 4)
    assert int(np.ptp(rows)) <= 2
    assert 10 <= np.ptp(columns) <= 15
    assert int(level.image[..., 0].sum()) == pytest.approx(255, rel=0.1)


def test_blurs_keep_the_mean_and_lose_detail():
    frame = sequence().frames[0]
    for softer in (blur(frame, 9, 1.0), soften(frame, 2.5)):
        assert softer.image.mean() == pytest.approx(frame.image.mean(), abs=1.5)
        assert softer.image.std() < frame.image.std()


def test_recolour_changes_more_with_higher_strength():
    before = sequence()
    same = recolour(before, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(same.frames[0].image, before.frames[0].image)
    differences = [
        [
            np.abs(
                recolour(before, strength, np.random.default_rng(seed)).frames[0].image.astype(int)
                - before.frames[0].image
            ).mean()
            for seed in range(10)
        ]
        for strength in (0.2, 1.0)
    ]
    assert 0 < np.mean(differences[0]) < np.mean(differences[1])
