"""Grouping parts into people: properties of any scene, and some clear scenes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stm_skeletons.association import LOWEST_PEAK, find_people, reduce_axis
from stm_skeletons.detections import Detections
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17, POSETRACK15, Skeleton

WIDTH, HEIGHT = 448, 256
STANDING = {
    "nose": (0.5, 0.08), "left_eye": (0.53, 0.06), "right_eye": (0.47, 0.06), "left_ear": (0.56, 0.07),
    "right_ear": (0.44, 0.07), "left_shoulder": (0.66, 0.2), "right_shoulder": (0.34, 0.2), "left_elbow": (0.72, 0.36),
    "right_elbow": (0.28, 0.36), "left_wrist": (0.74, 0.5), "right_wrist": (0.26, 0.5), "left_hip": (0.6, 0.52),
    "right_hip": (0.4, 0.52), "left_knee": (0.62, 0.75), "right_knee": (0.38, 0.75), "left_ankle": (0.63, 0.97),
    "right_ankle": (0.37, 0.97),
}  # fmt: skip
POSE = np.array([STANDING[joint] for joint in COCO17.joints]) * (0.5, 1)
SEEDS = st.integers(0, 2**32 - 1)


def standing(mean_positions: list[tuple[float, float]], height: float = 80) -> NDArray:
    """[P, 17, 2]: upright people with the centre of their box at these positions."""
    return (POSE - (0.25, 0.5)) * height + np.array(mean_positions)[:, None]


def detections_of(
    poses: NDArray, random: np.random.Generator, dropped: float = 0.0, false_peaks: int = 0
) -> Detections:
    """Detections of people [P, 17, 2] by a fair network: jitter, dropped joints, false peaks for every joint."""
    people = len(poses)
    size = np.ptp(poses, axis=1).max(axis=1)[:, None, None]
    place = poses + random.normal(0, 0.02, poses.shape) * size
    score = random.uniform(0.4, 0.9, poses.shape[:2]) * (random.random(poses.shape[:2]) >= dropped)
    peaks = np.concatenate([place, score[..., None]], axis=-1).transpose(1, 0, 2)
    extent = poses.reshape(-1, 2).max(axis=0) if people else np.array([WIDTH, HEIGHT])
    clutter = np.concatenate(
        [random.uniform(0, extent, (17, false_peaks, 2)), random.uniform(0.1, 0.4, (17, false_peaks, 1))], axis=-1
    )
    peaks = np.concatenate([peaks, clutter], axis=1)
    count = people + false_peaks
    edges = random.uniform(0, 0.1, (19, count, count))
    own = np.arange(people)
    edges[:, own, own] = random.uniform(0.4, 0.9, (19, people))
    centres = np.column_stack([poses.mean(axis=1), random.uniform(0.5, 0.9, people)])
    joints = poses + random.normal(0, 0.03, poses.shape) * size
    found = Detections(*(array.astype(np.float32) for array in (peaks, edges, peaks[None, ..., :2], centres, joints)))
    by_score = np.argsort(-found.peaks[..., 2], axis=1, kind="stable")
    return permuted(found, by_score, np.argsort(-found.centres[:, 2], kind="stable"))


def random_detections(random: np.random.Generator) -> Detections:
    """Random values of the right shapes and order: positions far outside, all equal, duplicated or missing."""
    count, people = random.integers(1, 7), random.integers(0, 6)
    extent = random.choice([1e-3, 60, 448, 1e5])
    xy = random.uniform(-0.1, 1.1, (17, count, 2)) * extent
    if random.random() < 0.3:
        xy = np.rint(xy / extent * 3) * extent / 3
    score = random.choice([0, 0.05, 0.2, 0.5, 1], (17, count)) * random.choice([1, random.random()])
    centres = np.column_stack([random.uniform(0, extent, (people, 2)), random.choice([0, 0.1, 0.6, 1], people)])
    joints = random.uniform(0, extent, (people, 17, 2)) * random.choice([0, 1, 1, 1])
    if people > 1 and random.random() < 0.3:
        joints[1], centres[1] = joints[0], centres[0]
    if people and random.random() < 0.5:  # joints at peaks
        joints[0] = xy[:, 0]
    edges = random.uniform(0, 1, (19, count, count)) * random.choice([0, 1, 1])
    peaks = np.concatenate([xy, score[..., None]], axis=-1)
    found = Detections(*(a.astype(np.float32) for a in (peaks, edges, peaks[None, ..., :2], centres, joints)))
    return permuted(found, np.argsort(-score, axis=1), np.argsort(-centres[:, 2]))


def permuted(found: Detections, peaks: NDArray, centres: NDArray) -> Detections:
    """The same detections with the peaks of each joint in order [17, K] and the centres in order [P]."""
    first, second = np.array(COCO17.edges).T
    return Detections(
        np.take_along_axis(found.peaks, peaks[..., None], axis=1),
        found.edge_scores[np.arange(19)[:, None, None], peaks[first][:, :, None], peaks[second][:, None, :]],
        np.take_along_axis(found.previous, peaks[None, ..., None], axis=2),
        found.centres[centres],
        found.centre_joints[centres],
    )


def mirrored(found: Detections) -> Detections:
    """The scene with left and right swapped."""
    flip = list(COCO17.flip)

    def flip_x(array: NDArray) -> NDArray:
        return np.concatenate([WIDTH - array[..., :1], array[..., 1:]], axis=-1)

    edges = np.empty_like(found.edge_scores)
    for edge, (a, b) in enumerate(COCO17.edges):
        flipped = (flip[a], flip[b])
        if flipped in COCO17.edges:
            edges[COCO17.edges.index(flipped)] = found.edge_scores[edge]
        else:
            edges[COCO17.edges.index(flipped[::-1])] = found.edge_scores[edge].T
    return Detections(
        flip_x(found.peaks)[flip],
        edges,
        flip_x(found.previous)[:, flip],
        flip_x(found.centres),
        flip_x(found.centre_joints)[:, flip],
    )


def scaled(found: Detections, factor: float) -> Detections:
    """The same scene, larger or smaller."""
    factors = np.array([factor, factor, 1], np.float32)
    return Detections(
        found.peaks * factors,
        found.edge_scores,
        found.previous * factors[:2],
        found.centres * factors,
        found.centre_joints * factors[:2],
    )


def combined(one: Detections, other: Detections) -> Detections:
    """Both scenes in one image, without edges between them."""
    a, b = one.peaks.shape[1], other.peaks.shape[1]
    edges = np.zeros((19, a + b, a + b), np.float32)
    edges[:, :a, :a], edges[:, a:, a:] = one.edge_scores, other.edge_scores
    return Detections(
        np.concatenate([one.peaks, other.peaks], axis=1),
        edges,
        np.concatenate([one.previous, other.previous], axis=2),
        np.concatenate([one.centres, other.centres]),
        np.concatenate([one.centre_joints, other.centre_joints]),
    )


def sorted_rows(people: People) -> list[tuple]:
    """Rows of people in an order that depends only on their values, for comparison."""
    rows = [(round(float(s), 4), k.round(2).tolist()) for s, k in zip(people.scores, people.keypoints, strict=True)]
    return sorted(rows, key=repr)


def assert_same(one: People, other: People) -> None:
    """Assert that the people are the same, in any order."""
    assert len(one) == len(other)
    for (score, keypoints), (other_score, other_keypoints) in zip(sorted_rows(one), sorted_rows(other), strict=True):
        assert score == pytest.approx(other_score, abs=2e-4)
        np.testing.assert_allclose(keypoints, other_keypoints, atol=0.02)


def assert_valid(people: People, found: Detections, skeleton: Skeleton = COCO17) -> None:
    """Assert that no peak is in two people, every peak exists, and all values are finite and in order."""
    assert people.keypoints.shape == (len(people), len(skeleton.joints), 3)
    person, joint = np.nonzero(people.found)
    peaks = people.peaks[person, joint]
    assert len(set(zip(joint.tolist(), peaks.tolist(), strict=True))) == len(peaks)
    assert (found.peaks[joint, peaks, 2] > 0).all()
    np.testing.assert_array_equal(people.keypoints[person, joint], found.peaks[joint, peaks])
    assert np.isfinite(people.keypoints).all()
    assert ((people.scores >= 0) & (people.scores <= 1)).all()
    assert (np.diff(people.scores) <= 0).all()
    assert not people.ids.any()


def crowd(seed: int) -> Detections:
    """Up to eight people who overlap, with errors."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 9))
    mean_positions = list(zip(random.uniform(40, 400, count), random.uniform(60, 200, count), strict=True))
    poses = np.concatenate([standing([position], random.uniform(50, 150)) for position in mean_positions])
    return detections_of(poses, random, dropped=0.15, false_peaks=int(random.integers(0, 4)))


def test_empty_frame_has_no_people():
    empty = Detections(*(np.zeros(s, np.float32) for s in ((17, 5, 3), (19, 5, 5), (6, 17, 5, 2), (3, 3), (3, 17, 2))))
    assert len(find_people(empty, COCO17)) == 0
    without_centres = replace(empty, centres=empty.centres[:0], centre_joints=empty.centre_joints[:0])
    assert len(find_people(without_centres, COCO17)) == 0


def test_separate_people_get_all_their_joints():
    random = np.random.default_rng(0)
    poses = standing([(60, 130), (200, 120), (350, 140)], 120)
    people = find_people(detections_of(poses, random), COCO17)
    assert len(people) == 3
    assert people.found.all()
    order = np.argsort(people.keypoints[:, 0, 0])
    np.testing.assert_allclose(people.keypoints[order, :, :2], poses, atol=12)


def test_people_without_detected_centres_are_found_by_edges():
    found = detections_of(standing([(100, 130), (300, 130)]), np.random.default_rng(1))
    found.centres[:, 2] = 0
    people = find_people(found, COCO17)
    assert len(people) == 2
    assert people.found.all()


def test_people_of_posetrack15_are_found_without_centres():
    random = np.random.default_rng(2)
    joints, edges = len(POSETRACK15.joints), len(POSETRACK15.edges)
    peaks = np.concatenate([random.uniform(0, 200, (joints, 2, 2)), np.full((joints, 2, 1), 0.8)], axis=-1)
    scores = np.zeros((edges, 2, 2))
    scores[:, [0, 1], [0, 1]] = 0.7
    found = Detections(
        *(
            array.astype(np.float32)
            for array in (peaks, scores, peaks[None, ..., :2], np.zeros((0, 3)), np.zeros((0, joints, 2)))
        )
    )
    people = find_people(found, POSETRACK15)
    assert_valid(people, found, POSETRACK15)
    assert sorted(people.peaks.tolist()) == [[0] * joints, [1] * joints]


def test_two_joints_are_not_a_person():
    found = detections_of(standing([(100, 130)]), np.random.default_rng(3))
    found.peaks[2:, :, 2] = 0
    for centres in (found.centres, found.centres[:0]):
        fragment = replace(found, centres=centres, centre_joints=found.centre_joints[: len(centres)])
        assert len(find_people(fragment, COCO17)) == 0


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_order_of_peaks_and_centres_changes_nothing(seed: int):
    found, random = crowd(seed), np.random.default_rng(seed)
    peaks = random.permuted(np.tile(np.arange(found.peaks.shape[1]), (17, 1)), axis=1)
    shuffled = permuted(found, peaks, random.permutation(len(found.centres)))
    people, others = find_people(found, COCO17), find_people(shuffled, COCO17)
    assert_valid(others, shuffled)
    assert_same(people, others)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_distant_person_does_not_change_the_others(seed: int):
    found, random = crowd(seed), np.random.default_rng(seed)
    far = detections_of(standing([(5000, 3000)], random.uniform(50, 150)), random)
    both = find_people(combined(found, far), COCO17)
    near = both.keypoints[:, :, 0].max(axis=1) < 2000
    assert (~near).sum() == 1
    assert_same(find_people(found, COCO17), both.chosen(near))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_mirrored_scene_has_the_same_people_mirrored(seed: int):
    found = crowd(seed)
    people, others = find_people(found, COCO17), find_people(mirrored(found), COCO17)
    keypoints = others.keypoints[:, list(COCO17.flip)]
    keypoints[..., 0] = np.where(keypoints[..., 2] > 0, WIDTH - keypoints[..., 0], 0)
    assert_same(people, replace(others, keypoints=keypoints))


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([0.25, 0.7, 3.0]))
def test_a_scaled_scene_has_the_same_people_scaled(seed: int, factor: float):
    found = crowd(seed)
    people, others = find_people(found, COCO17), find_people(scaled(found, factor), COCO17)
    assert_same(people, others.placed(others.keypoints[..., :2] / np.float32(factor)))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_peaks_below_the_lowest_score_change_nothing(seed: int):
    found, blanks = crowd(seed), random_detections(np.random.default_rng(seed))
    blanks.peaks[..., 2] = np.minimum(blanks.peaks[..., 2], LOWEST_PEAK / 2)
    blanks = replace(blanks, centres=blanks.centres[:0], centre_joints=blanks.centre_joints[:0])
    people, others = find_people(found, COCO17), find_people(combined(found, blanks), COCO17)
    for name, array in vars(people).items():
        np.testing.assert_array_equal(array, vars(others)[name], strict=True)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 40), st.integers(1, 40), st.sampled_from([np.add, np.maximum, np.minimum]))
def test_reduce_axis_equals_numpy_bit_for_bit(seed: int, people: int, joints: int, function):
    places = np.random.default_rng(seed).normal(100, 60, (people, joints, 3)).astype(np.float32)[..., :2]
    np.testing.assert_array_equal(reduce_axis(function, places, 1), function.reduce(places, axis=1), strict=True)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_inputs_are_not_modified(seed: int):
    found = crowd(seed)
    before = [array.copy() for array in vars(found).values()]
    find_people(found, COCO17)
    for array, copy in zip(vars(found).values(), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_10000_random_scenes_give_valid_people():
    random = np.random.default_rng(4)
    for _ in range(10_000):
        found = random_detections(random)
        assert_valid(find_people(found, COCO17), found)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_scene_that_fills_all_peaks_and_centres_gives_valid_people(seed: int):
    random = np.random.default_rng(seed)
    mean_positions = list(zip(random.uniform(20, 430, 30), random.uniform(40, 220, 30), strict=True))
    found = detections_of(standing(mean_positions, 70), random)
    assert_valid(find_people(found, COCO17), found)
