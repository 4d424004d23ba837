"""Sequences: keypoints move with the image, and everything depends only on the seed."""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from stm_skeletons.errors import DataError
from stm_skeletons.geometry import Letterbox
from stm_skeletons.skeleton import COCO17
from training.data.affine import Motion, move_points, random_step
from training.data.images import read_image
from training.data.labels import DataSet, ImageFile, LabelledImage, Regions, Video
from training.data.open import open_data
from training.data.samples import Augmentation, InterleavedSamples, SampleOptions, SampleOrder, Samples, prepare_worker
from training.data.sequence import SequenceFrame
from training.data.sequences import SequenceOptions, real_sequence, synthetic_sequence
from training.recipe import load_recipe
from training.recipe_files import shipped_recipes
from training.recipe_run import open_split

SIZE = (256, 160)


def marked_image(folder: Path, points: np.ndarray, size: tuple[int, int]) -> LabelledImage:
    """A black image with a round white mark at every joint of one person."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    image = np.zeros((size[1], size[0]), np.float64)
    for px, py in points:
        image = np.maximum(image, np.exp(-((x - px) ** 2 + (y - py) ** 2) / 2 / 3**2))
    path = folder / "marks.png"
    cv2.imwrite(str(path), np.repeat((image * 255).round().astype(np.uint8)[..., None], 3, axis=2))
    pose = np.column_stack([points, np.ones(len(points))]).astype(np.float32)
    box = np.array([[*points.min(0), *points.max(0)]], np.float32)
    return LabelledImage(ImageFile(path), size, pose[None], box, np.array([-1]))


def data_of(*images: LabelledImage) -> DataSet:
    return DataSet("marks", COCO17, np.ones(17, bool), images)


def centre_of_mark(image: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Centroid of the brightness around a point, in pixels from the image's corner."""
    reach = 12
    left, top = (near - reach).astype(int)
    window = image[top : top + 2 * reach, left : left + 2 * reach, 0].astype(float)
    y, x = np.mgrid[: window.shape[0], : window.shape[1]] + 0.5
    return np.array([(window * x).sum(), (window * y).sum()]) / window.sum() + [left, top]


# 17 marks, far enough apart to be distinguished
GRID = np.array([[x, y] for y in (60, 130, 200, 270) for x in (70, 150, 230, 310, 390)], float)[:17]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rotation=st.floats(0, 20),
    scale=st.floats(0, 0.15),
    shear=st.floats(0, 0.1),
    flip=st.booleans(),
)
def test_transformed_keypoints_follow_their_marks(
    tmp_path_factory, seed: int, rotation: float, scale: float, shear: float, flip: bool
):
    """They agree within half a pixel for any chain of transformations, including letterbox and mirroring."""
    labelled = marked_image(tmp_path_factory.mktemp("marks"), GRID, (460, 330))
    motion = Motion(rotation=rotation, scale=scale, shear=shear, shift_x=10, shift_y=10)
    options = SequenceOptions(kind="synthetic", frames=6, motion=motion, flip=flip)
    data = data_of(labelled)
    sequence = synthetic_sequence(labelled, data, (448, 320), options, np.random.default_rng(seed))
    checked = 0
    for frame in sequence.frames:
        height, width = frame.image.shape[:2]
        image = frame.image.copy()
        image[(image == 114).all(-1)] = 0  # the padding's grey
        for (x, y, _), inside in zip(frame.poses[0], frame.inside[0], strict=True):
            isolated = all(
                np.hypot(x - other[0], y - other[1]) > 26 for other in frame.poses[0] if (other[:2] != (x, y)).any()
            )
            if inside and isolated and 24 < x < width - 24 and 24 < y < height - 24 and _no_padding(frame.image, x, y):
                found = centre_of_mark(image, np.array([x, y]))
                assert np.hypot(*(found - [x, y])) < 0.5
                checked += 1
    assert checked > 0


def _no_padding(image: np.ndarray, x: float, y: float) -> bool:
    window = image[int(y) - 14 : int(y) + 14, int(x) - 14 : int(x) + 14]
    return not (window == 114).all(-1).any()


def test_joints_that_leave_the_frame_are_marked_as_outside(tmp_path: Path):
    labelled = marked_image(tmp_path, GRID, (460, 330))
    motion = Motion(shift_x=120, shift_y=90)
    options = SequenceOptions(kind="synthetic", frames=12, motion=motion)
    sequence = synthetic_sequence(labelled, data_of(labelled), SIZE, options, np.random.default_rng(1))
    for frame in sequence.frames:
        xy = frame.poses[..., :2]
        expected = (xy >= 0).all(-1) & (xy < SIZE).all(-1)
        np.testing.assert_array_equal(frame.inside, expected)
        assert (frame.poses[..., 2] == 1).all(), "joints outside stay labelled"
    assert not all(frame.inside.all() for frame in sequence.frames)


def test_masks_and_ignored_regions_move_with_the_image(tmp_path: Path):
    labelled = marked_image(tmp_path, GRID, (460, 330))
    square = np.array([[100, 100], [300, 100], [300, 250], [100, 250]], np.float32)
    labelled = LabelledImage(
        labelled.file,
        labelled.size,
        labelled.poses,
        labelled.boxes,
        labelled.tracks,
        Regions((square,)),
        Regions((square,)),
    )
    options = SequenceOptions(kind="synthetic", frames=4)
    sequence = synthetic_sequence(labelled, data_of(labelled), (448, 320), options, np.random.default_rng(3))
    first, last = sequence.frames[0], sequence.frames[-1]
    for frame in (first, last):
        assert frame.mask is not None
        inner = frame.mask > 0.99
        assert inner.sum() > 1000
        assert (frame.ignored >= inner).all()
    assert first.mask is not None
    assert last.mask is not None
    assert abs(first.mask - last.mask).max() > 0.5, "the mask moves"


def test_areas_and_head_sizes_scale_with_the_image(tmp_path: Path):
    labelled = marked_image(tmp_path, GRID, (460, 330))
    left, top, right, bottom = labelled.boxes[0]
    measured = replace(
        labelled,
        areas=np.array([0.5 * (right - left) * (bottom - top)], np.float32),
        heads=np.sqrt(0.02 * (right - left) * (bottom - top)).reshape(1),
    )
    options = SequenceOptions(kind="synthetic", frames=6, motion=Motion(scale=0.2, rotation=20, shear=0.1), flip=True)
    sequence = synthetic_sequence(measured, data_of(measured), (448, 320), options, np.random.default_rng(3))
    boxes = []
    for frame in sequence.frames:
        assert frame.areas is not None
        assert frame.heads is not None
        edges = frame.boxes[0, 1] - frame.boxes[0, 0], frame.boxes[0, 3] - frame.boxes[0, 0]
        boxes.append(abs(np.linalg.det(np.array(edges))))
        np.testing.assert_allclose(frame.areas, 0.5 * boxes[-1], rtol=0.01)
        np.testing.assert_allclose(frame.heads**2, 0.02 * boxes[-1], rtol=0.01)
    assert max(boxes) > 1.2 * min(boxes)
    unknown = synthetic_sequence(labelled, data_of(labelled), (448, 320), options, np.random.default_rng(3))
    assert unknown.frames[0].areas is unknown.frames[0].heads is None


def test_zoom_enlarges_part_of_the_image_up_to_its_factor(tmp_path: Path):
    size = (448, 320)
    marks = marked_image(tmp_path, GRID, size)
    labelled = replace(marks, boxes=np.array([[0, 0, *size]], np.float32), areas=np.array([1000], np.float32))

    def first_frame(zoom: float, seed: int) -> SequenceFrame:
        options = SequenceOptions(kind="synthetic", frames=2, zoom=zoom)
        return synthetic_sequence(labelled, data_of(labelled), size, options, np.random.default_rng(seed)).frames[0]

    scales = []
    for seed in range(20):
        frame = first_frame(3, seed)
        joints = frame.poses[0, :, :2]
        growth = np.hypot(*np.diff(joints, axis=0).T) / np.hypot(*np.diff(GRID, axis=0).T)
        scales.append(growth.mean())
        np.testing.assert_allclose(growth, scales[-1], rtol=1e-4)
        assert frame.areas is not None
        np.testing.assert_allclose(frame.areas, 1000 * scales[-1] ** 2, rtol=1e-4)
        # The box was the whole image: no point of the frame lies outside it.
        assert (frame.boxes[0, 0] <= 1e-3).all()
        assert (frame.boxes[0, 2] >= np.array(size) - 1e-3).all()
        for x, y in joints[frame.inside[0]].astype(int):
            assert frame.image[y, x, 0] > 200, "marks grow with their joints"
    assert 1 <= min(scales) < 1.3
    assert 2.3 < max(scales) <= 3


def test_sequence_without_zoom_starts_with_the_unchanged_image(tmp_path: Path):
    """Zoom 1 draws no random number, so sequences without zoom stay the same."""
    size = (448, 320)
    labelled = marked_image(tmp_path, GRID, size)
    options = SequenceOptions(kind="synthetic", frames=2, zoom=1)
    first, second = synthetic_sequence(labelled, data_of(), size, options, np.random.default_rng(0)).frames
    np.testing.assert_array_equal(first.image, read_image(labelled.file))
    np.testing.assert_array_equal(first.poses, labelled.poses)
    step = random_step(Motion(), size, np.random.default_rng(0))
    np.testing.assert_array_equal(second.poses[0, :, :2], move_points(step, GRID))


def crowd(folder: Path, counts: list[int]) -> list[LabelledImage]:
    """Noise images of different sizes, each with the given number of people at random positions."""
    random = np.random.default_rng(0)
    images = []
    for number, count in enumerate(counts):
        size = (120 + 20 * number, 90)
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), random.integers(0, 256, (size[1], size[0], 3), np.uint8))
        xy = random.uniform((1, 1), (size[0] - 1, size[1] - 1), (count, 17, 2)).astype(np.float32)
        poses = np.concatenate([xy, np.ones((count, 17, 1), np.float32)], axis=2)
        boxes = np.concatenate([xy.min(1), xy.max(1)], axis=1)
        images.append(LabelledImage(ImageFile(path), size, poses, boxes, np.full(count, -1)))
    return images


def first_frame_of(images: LabelledImage | list[LabelledImage], size: tuple[int, int] = SIZE) -> SequenceFrame:
    """The first frame of a sequence of an image or mosaic."""
    options = SequenceOptions(kind="synthetic", frames=2)
    return synthetic_sequence(images, data_of(), size, options, np.random.default_rng(0)).frames[0]


@pytest.mark.parametrize("counts", [[1, 0, 2, 3], [1, 2, 0, 1, 1, 2, 1, 0, 1]], ids=["4 images", "9 images"])
def test_mosaic_letterboxes_each_image_into_its_own_cell(tmp_path: Path, counts: list[int]):
    images = crowd(tmp_path, counts)
    frame = first_frame_of(images)
    assert len(frame.poses) == len(frame.boxes) == sum(counts)
    side = math.isqrt(len(counts))
    width, height = SIZE[0] // side, SIZE[1] // side
    for index, image in enumerate(images):
        corner = left, top = index % side * width, index // side * height
        letterbox = Letterbox(image.size, (width, height))
        cell = np.empty((height, width, 3), np.uint8)
        letterbox.apply(read_image(image.file), cell)
        np.testing.assert_array_equal(frame.image[top : top + height, left : left + width], cell)
        people = slice(sum(counts[:index]), sum(counts[: index + 1]))
        joints = frame.poses[people, :, :2]
        assert (joints > corner).all()
        assert (joints < (left + width, top + height)).all()
        np.testing.assert_allclose(joints, letterbox.to_network(image.poses[..., :2]) + np.array(corner), atol=1e-3)
        corners = frame.boxes[people][:, [0, 2]]
        np.testing.assert_allclose(corners, np.stack([joints.min(1), joints.max(1)], axis=1), atol=1e-3)


def test_mosaic_keeps_masks_areas_head_sizes_and_ignored_regions(tmp_path: Path):
    counts = [1, 0, 2, 3]
    square = Regions((np.array([[20, 20], [90, 20], [90, 70], [20, 70]], np.float32),))
    images = [
        replace(image, masks=square, areas=np.full(count, 600, np.float32), heads=np.full(count, 9, np.float32))
        for image, count in zip(crowd(tmp_path, counts), counts, strict=True)
    ]
    images[3] = replace(images[3], ignored=square)
    frame = first_frame_of(images)
    cells = [first_frame_of(image, (SIZE[0] // 2, SIZE[1] // 2)) for image in images]
    assert frame.mask is not None
    for name in ("mask", "ignored"):
        upper, lower = (np.hstack([getattr(cell, name) for cell in row]) for row in (cells[:2], cells[2:]))
        np.testing.assert_array_equal(getattr(frame, name), np.vstack([upper, lower]))
    assert not frame.ignored[:20].any()
    assert frame.ignored[20:, 32:].any()
    for name in ("areas", "heads"):
        np.testing.assert_array_equal(getattr(frame, name), np.concatenate([getattr(cell, name) for cell in cells]))


@pytest.mark.parametrize(("image_field", "frame_field"), [("masks", "mask"), ("areas", "areas"), ("heads", "heads")])
def test_mosaic_lacks_each_label_that_one_of_its_images_lacks(tmp_path: Path, image_field: str, frame_field: str):
    square = Regions((np.array([[20, 20], [90, 20], [90, 70], [20, 70]], np.float32),))
    one = np.ones(1, np.float32)
    images = [replace(image, masks=square, areas=one, heads=one) for image in crowd(tmp_path, [1, 1, 1, 1])]
    assert getattr(first_frame_of(images), frame_field) is not None
    images[2] = replace(images[2], **{image_field: None})
    assert getattr(first_frame_of(images), frame_field) is None


def test_image_size_that_contradicts_the_labels_is_refused(tmp_path: Path):
    labelled = marked_image(tmp_path, GRID, (460, 330))
    wrong = LabelledImage(labelled.file, (330, 460), labelled.poses, labelled.boxes, labelled.tracks)
    with pytest.raises(DataError, match="460x330 pixels, but its labels are for 330x460"):
        synthetic_sequence(wrong, data_of(wrong), SIZE, SequenceOptions(kind="synthetic"), np.random.default_rng(0))


def moving_video(folder: Path, frames: int) -> Video:
    images = []
    for number in range(frames):
        frame_folder = folder / str(number)
        frame_folder.mkdir()
        images.append(marked_image(frame_folder, GRID + np.array([number, 0]), (460, 330)))
    return Video("video", tuple(images), tuple(range(frames)))


def test_real_sequences_keep_their_order_and_gaps_grow(tmp_path: Path):
    video = moving_video(tmp_path, 30)
    data = data_of()
    options = SequenceOptions(kind="real", frames=4, gap_step=2, gap_epochs=10, gap_max=5)
    assert [options.largest_gap(epoch) for epoch in (0, 9, 10, 19, 20, 30, 100)] == [0, 0, 2, 2, 4, 5, 5]
    gaps: dict[int, set[int]] = {0: set(), 20: set()}
    for epoch, found in gaps.items():
        for seed in range(12):
            sequence = real_sequence(video, data, (460, 320), options, epoch, np.random.default_rng(seed))
            x = np.array([frame.poses[0, 0, 0] for frame in sequence.frames]) / (320 / 330)
            found.update((np.diff(x).round().astype(int) - 1).tolist())
    assert gaps[0] == {0}
    assert gaps[20] <= {0, 1, 2, 3, 4}
    assert max(gaps[20]) == 4
    assert min(gaps[20]) == 0


def test_short_video_repeats_its_last_frame(tmp_path: Path):
    video = moving_video(tmp_path, 2)
    options = SequenceOptions(kind="real", frames=4)
    sequence = real_sequence(video, data_of(), SIZE, options, 0, np.random.default_rng(0))
    assert len(sequence.frames) == 4
    np.testing.assert_array_equal(sequence.frames[1].image, sequence.frames[3].image)


def samples_of(root: Path) -> Samples:
    data = open_data("coco", root, "train", COCO17)
    augmentation = Augmentation(occluders=0.5, motion_blur=0.5, photometric=0.5, cold_start=0.3, drop_memory=0.2)
    augmentation = augmentation.model_copy(update={"memory": load_recipe("table3-6").samples.augmentation.memory})
    options = SampleOptions(cyclic=True, given=2, augmentation=augmentation)
    sequence = SequenceOptions(kind="synthetic", frames=4, flip=True)
    return Samples(data, COCO17.channels, (96, 64), sequence, options, seed=5)


def test_degradations_change_only_predicted_frames(small_coco: Path):
    data = open_data("coco", small_coco, "train", COCO17)
    sequence = SequenceOptions(kind="synthetic", frames=4)

    def frames_with(augmentation: Augmentation) -> Tensor:
        options = SampleOptions(cyclic=True, given=2, augmentation=augmentation)
        return Samples(data, COCO17.channels, (96, 64), sequence, options, seed=5)[0, 0]["frames"]

    plain = frames_with(Augmentation())
    for augmentation in (Augmentation(occluders=1), Augmentation(motion_blur=1), Augmentation(defocus=1)):
        degraded = frames_with(augmentation)
        assert torch.equal(degraded[:2], plain[:2])
        assert not torch.equal(degraded[2:], plain[2:])
    softened = frames_with(Augmentation(defocus=1))[3].float()
    assert softened.diff(dim=0).abs().mean() < plain[3].float().diff(dim=0).abs().mean()


def test_joints_under_occluders_weigh_more(small_coco: Path):
    data = open_data("coco", small_coco, "train", COCO17)
    sequence = SequenceOptions(kind="synthetic", frames=4)

    def samples_with(hidden: float) -> Samples:
        options = SampleOptions(cyclic=True, given=1, hidden=hidden, augmentation=Augmentation(occluders=1))
        return Samples(data, COCO17.channels, (96, 64), sequence, options, seed=5)

    covered = 0
    for number in range(len(samples_with(1))):
        plain, weighted = samples_with(1)[0, number]["weights"], samples_with(4)[0, number]["weights"]
        assert set(plain.unique().tolist()) <= {0, 1}
        assert torch.equal(weighted > 0, plain > 0), "unknown cells stay unknown"
        assert (weighted >= plain).all()
        assert weighted.max() <= 4
        covered += int((weighted > 3).sum())
    assert covered, "occluders of up to a third of the height hide some joint"


def test_samples_do_not_depend_on_the_number_of_workers(small_coco: Path):
    samples = samples_of(small_coco)
    batches = []
    for workers in (0, 2):
        loader = DataLoader(
            samples,
            batch_size=2,
            sampler=SampleOrder(len(samples), 5, 0),
            num_workers=workers,
            worker_init_fn=prepare_worker,
        )
        iterator = iter(loader)
        batches.append([next(iterator) for _ in range(6)])
        del iterator
    for one, two in zip(*batches, strict=True):
        for key in one:
            assert torch.equal(one[key], two[key]), key


def mosaics_of(root: Path, share: float) -> Samples:
    """Mosaics of images with one person each."""
    data = open_data("coco", root, "train", COCO17)
    sequence = SequenceOptions(kind="synthetic", frames=2, mosaic=share)
    return Samples(data, COCO17.channels, (96, 64), sequence, SampleOptions(), seed=5)


@pytest.mark.parametrize(("share", "expected"), [(0.0, {1}), (0.5, {1, 4, 9}), (1.0, {4, 9})])
def test_mosaic_samples_have_the_people_of_4_or_9_images(small_coco: Path, share: float, expected: set[int]):
    """Mosaics are as frequent as configured. Their first cell shows the requested image."""
    samples = mosaics_of(small_coco, share)
    images = open_data("coco", small_coco, "train", COCO17).images
    people = []
    for epoch in range(3):
        for number in range(len(samples)):
            sequence = samples.sequence(epoch, number)
            assert sequence.name == str(images[number].file)
            people.append(len(sequence.frames[0].poses))
    assert set(people) == expected
    assert np.mean(np.array(people) > 1) == pytest.approx(share, abs=0.2)


def test_mosaic_depends_only_on_seed_epoch_and_index(small_coco: Path):
    first, again = (mosaics_of(small_coco, 1.0)[4, 3] for _ in range(2))
    for key in first:
        assert torch.equal(first[key], again[key]), key
    assert not torch.equal(first["frames"], mosaics_of(small_coco, 1.0)[5, 3]["frames"])


def test_interleaving_covers_the_first_source_and_repeats_the_second(small_coco: Path, small_footage: Path):
    first, channels = samples_of(small_coco), COCO17.channels
    videos = open_data("footage", small_footage, "train", COCO17)
    options = SequenceOptions(kind="real", frames=4)
    second = Samples(videos, channels, (96, 64), options, SampleOptions(), seed=5)
    interleaved = InterleavedSamples(first, second)
    assert len(interleaved) == 2 * len(first) == 16
    for epoch in range(2):
        for number in range(8):
            assert torch.equal(interleaved[epoch, 2 * number]["maps"], first[epoch, number]["maps"])
            # The second source has one video, so each of its samples is the next pass over it.
            expected = second[8 * epoch + number, 0]
            assert torch.equal(interleaved[epoch, 2 * number + 1]["frames"], expected["frames"])


def test_order_covers_every_epoch_and_resumes_anywhere():
    def take(start: int, count: int, rank: int = 0, processes: int = 1) -> list[tuple[int, int]]:
        order = iter(SampleOrder(7, 1, start, rank, processes))
        return [next(order) for _ in range(count)]

    whole = take(0, 21)
    for epoch in range(3):
        assert sorted(number for e, number in whole if e == epoch) == list(range(7))
    assert take(10, 11) == whole[10:]
    together = [pair for pairs in zip(take(0, 8, 0, 2), take(0, 8, 1, 2), strict=True) for pair in pairs]
    assert together == whole[:16]


def test_unreadable_image_is_replaced_and_logged(small_coco: Path, tmp_path: Path, caplog):
    data = open_data("coco", small_coco, "train", COCO17)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no image")
    first = data.images[0]
    bad = LabelledImage(ImageFile(broken), first.size, first.poses, first.boxes, first.tracks)
    mixed = DataSet("mixed", COCO17, data.sourced, (bad, *data.images[1:]))
    samples = Samples(mixed, COCO17.channels, (96, 64), SequenceOptions(kind="synthetic", frames=2), SampleOptions(), 0)
    assert samples[0, 0]["frames"].shape == (2, 64, 96, 3)
    assert "skipped" in caplog.text
    assert str(broken) in caplog.text
    only = DataSet("broken", COCO17, data.sourced, (bad,))
    samples = Samples(only, COCO17.channels, (96, 64), SequenceOptions(kind="synthetic", frames=2), SampleOptions(), 0)
    with pytest.raises(DataError, match="in a row cannot be used"):
        samples[0, 0]


def test_every_shipped_recipe_on_coco_makes_samples(shared: Path):
    for name in shipped_recipes():
        recipe = load_recipe(name)
        if recipe.data.kind != "coco" or not name.endswith("-small"):
            continue
        data = open_split(recipe, shared / "coco", "train")
        channels = recipe.model.config.channels
        sample = Samples(data, channels, recipe.size, recipe.sequence, recipe.samples, 0)[0, 0]
        width, height = recipe.size
        assert sample["maps"].shape == (recipe.sequence.frames, len(channels), height // 4, width // 4)
        assert sample["given"].sum() == (
            2 if recipe.samples.cyclic and recipe.samples.given == 2 else sample["given"].sum()
        )
        assert float(sample["maps"].min()) >= 0
        assert float(sample["maps"].max()) <= 1
