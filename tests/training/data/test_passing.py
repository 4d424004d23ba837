"""People who enter or leave in front of a synthetic sequence."""

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from stm_skeletons.geometry import PADDING_GREY
from stm_skeletons.skeleton import COCO17
from training.data.labels import DataSet, ImageFile, LabelledImage, Regions
from training.data.open import open_data
from training.data.samples import SampleOptions, Samples
from training.data.sequence import Sequence
from training.data.sequences import SequenceOptions, synthetic_sequence

SIZE = (448, 256)
BEHIND, IN_FRONT = 60, 200
"""Brightness of the two images."""
BOX = np.array([[150, 40, 290, 230]], np.float32)


def labelled_image(folder: Path, brightness: int, box: np.ndarray = BOX) -> LabelledImage:
    """An image of one colour with one person that fills the box."""
    path = folder / f"{brightness}.png"
    cv2.imwrite(str(path), np.full((SIZE[1], SIZE[0], 3), brightness, np.uint8))
    xy = np.random.default_rng(0).uniform(box[0, :2] + 2, box[0, 2:] - 2, (1, 17, 2))
    poses = np.concatenate([xy, np.ones((1, 17, 1))], axis=2).astype(np.float32)
    return LabelledImage(ImageFile(path), SIZE, poses, box, np.array([-1]))


def sequence_of(
    behind: LabelledImage, passing: LabelledImage | None, seed: int = 0, frames: int = 24, zoom: float = 1.0
) -> Sequence:
    options = SequenceOptions(kind="synthetic", frames=frames, zoom=zoom)
    data = DataSet("two", COCO17, np.ones(17, bool), (behind,))
    return synthetic_sequence(behind, data, SIZE, options, np.random.default_rng(seed), passing)


def test_passing_people_either_enter_or_leave(tmp_path: Path):
    behind, front = labelled_image(tmp_path, BEHIND), labelled_image(tmp_path, IN_FRONT)
    entered = left = 0
    for seed in range(40):
        frames = sequence_of(behind, front, seed, frames=12).frames
        visible = [bool(frame.inside[1].any()) for frame in frames]
        entered += visible[-1] and not visible[0]
        left += visible[0] and not visible[-1]
        assert visible[0] or visible[-1], "visible in the first or last frame"
        # People enter or leave at most once per sequence.
        assert sum(one != after for one, after in itertools.pairwise(visible)) <= 1
    assert entered > 5
    assert left > 5


def test_background_is_unchanged_outside_passing_people(tmp_path: Path):
    behind, front = labelled_image(tmp_path, BEHIND), labelled_image(tmp_path, IN_FRONT)
    for seed in range(10):
        alone, with_passing = sequence_of(behind, None, seed).frames, sequence_of(behind, front, seed).frames
        for one, both in zip(alone, with_passing, strict=True):
            np.testing.assert_array_equal(both.poses[:1], one.poses)
            elsewhere = ~front_area(both.image)
            np.testing.assert_array_equal(both.image[elsewhere], one.image[elsewhere])


def front_area(image: np.ndarray) -> np.ndarray:
    """Mask of the pixels that the brighter image covers."""
    return image[..., 0] > (BEHIND + IN_FRONT) // 2


@pytest.mark.parametrize("zoom", [1.0, 2.5])
def test_passing_people_cover_their_joints_and_hide_those_behind(tmp_path: Path, zoom: float):
    """Without segmentation, people are cut out by their boxes."""
    behind, front = labelled_image(tmp_path, BEHIND), labelled_image(tmp_path, IN_FRONT)
    hidden = 0
    for seed in range(10):
        for frame in sequence_of(behind, front, seed, frames=8, zoom=zoom).frames:
            covered = front_area(frame.image)
            for person, joints in ((1, frame.inside), (0, frame.hidden)):
                for x, y in frame.poses[person][joints[person], :2].astype(int):
                    near = covered[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                    assert near.any()
            hidden += int(frame.hidden[0].sum())
            assert not frame.hidden[1].any()
            assert not (frame.hidden & ~frame.inside).any()
    assert hidden > 100


def test_passing_people_are_cut_out_by_their_segmentation(tmp_path: Path):
    behind = replace(labelled_image(tmp_path, BEHIND), masks=Regions())
    left, top, right, bottom = BOX[0]
    half = np.array([[left, top], [right, top], [right, (top + bottom) / 2], [left, (top + bottom) / 2]], np.float32)
    front = replace(labelled_image(tmp_path, IN_FRONT), masks=Regions((half,)))
    last = sequence_of(behind, front, seed=next(s for s in range(99) if ends_inside(behind, front, s))).frames[-1]
    whole = (right - left) * (bottom - top)
    assert front_area(last.image).sum() == pytest.approx(whole / 2, rel=0.35)
    assert last.mask is not None
    assert last.mask.sum() * 16 == pytest.approx(front_area(last.image).sum(), rel=0.1)


def ends_inside(behind: LabelledImage, front: LabelledImage, seed: int) -> bool:
    return bool(sequence_of(behind, front, seed).frames[-1].inside[1].all())


def test_each_image_contributes_its_own_ignored_regions(tmp_path: Path):
    everywhere = Regions((np.array([[0, 0], [448, 0], [448, 256], [0, 256]], np.float32),))
    behind, front = replace(labelled_image(tmp_path, BEHIND), ignored=everywhere), labelled_image(tmp_path, IN_FRONT)
    seed = next(s for s in range(99) if ends_inside(behind, front, s))
    frame = sequence_of(behind, front, seed).frames[-1]
    known = cv2.resize((~frame.ignored).astype(np.uint8), SIZE, interpolation=cv2.INTER_NEAREST).astype(bool)
    assert known.sum() > 10_000
    inner = cv2.erode(known.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    padding = frame.image[..., 0] == PADDING_GREY
    assert (front_area(frame.image) | padding)[inner].all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_passing_people_are_as_frequent_as_configured(small_coco: Path, share: float):
    data = open_data("coco", small_coco, "train", COCO17)
    sequence = SequenceOptions(kind="synthetic", frames=3, passing=share)
    samples = Samples(data, COCO17.channels, (96, 64), sequence, SampleOptions(), seed=5)
    people = [len(samples.sequence(epoch, n).frames[0].poses) for epoch in range(6) for n in range(len(samples))]
    assert np.mean(np.array(people) == 2) == pytest.approx(share, abs=0.2)
    again = Samples(data, COCO17.channels, (96, 64), sequence, SampleOptions(), seed=5)
    assert (samples[2, 1]["frames"] == again[2, 1]["frames"]).all()
