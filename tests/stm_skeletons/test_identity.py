"""Ids from frame to frame: properties of any people, and some clear scenes."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stm_skeletons.detections import Detections
from stm_skeletons.identity import LOST_FRAMES, Identities
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17

SEEDS = st.integers(0, 2**32 - 1)
FAR = (9000.0, 9000.0)
PEAKS = 14
SHAPE = np.random.default_rng(0).uniform(-0.5, 0.5, (17, 2)) * (0.5, 1)


def detections_of(
    mean_positions: NDArray, before: NDArray | None = None, height: float = 80, joints: NDArray | None = None
) -> Detections:
    """Detections without errors, of people of one shape at mean positions [M, 2].

    Args:
        mean_positions: network pixels; the first person has the highest confidence.
        before: [M, 2], mean positions in the previous frame; None: the same.
        height: of every person in network pixels.
        joints: [M, 17], which joints are found; None: all.
    """
    count = len(mean_positions)
    joints = np.ones((count, 17), bool) if joints is None else joints
    before = mean_positions if before is None else before
    peaks, previous = np.zeros((17, PEAKS, 3)), np.zeros((1, 17, PEAKS, 2))
    places = SHAPE * height + np.reshape(mean_positions, (count, 1, 2))
    confidence = 0.9 - 0.02 * np.arange(count)
    peaks[:, :count, :2] = places.transpose(1, 0, 2)
    peaks[:, :count, 2] = joints.T * confidence
    previous[0, :, :count] = (places + np.reshape(before - mean_positions, (count, 1, 2))).transpose(1, 0, 2)
    centres, expected = np.zeros((PEAKS, 3)), np.zeros((PEAKS, 17, 2))
    centres[:count] = np.column_stack([mean_positions, confidence])
    expected[:count] = places
    edges = np.zeros((19, PEAKS, PEAKS))
    return Detections(*(array.astype(np.float32) for array in (peaks, edges, previous, centres, expected)))


def ids_of(people: People, mean_positions: NDArray, height: float = 80) -> list[int]:
    """The id of the person at each mean position, -1 without a person there."""
    found = people.keypoints[..., 2] > 0.05
    found_at = np.array(
        [(pose[known, :2] - SHAPE[known] * height).mean(0) for pose, known in zip(people.keypoints, found, strict=True)]
    )
    ids = []
    for position in np.reshape(mean_positions, (-1, 2)):
        distance = np.linalg.norm(found_at - position, axis=1) if len(found_at) else np.array([np.inf])
        ids.append(int(people.ids[distance.argmin()]) if distance.min() < 0.1 * height else -1)
    return ids


def step(identities: Identities, *mean_positions: tuple[float, float]) -> list[int]:
    """The ids of people who stand still at these mean positions."""
    places = np.reshape(mean_positions, (-1, 2))
    return ids_of(identities.update(detections_of(places), 0), places)


def random_people(random: np.random.Generator) -> Detections:
    """Up to 12 people anywhere, with missing joints and noise."""
    count = int(random.integers(0, 13))
    mean_positions = random.uniform(0, 448, (count, 2))
    joints = random.random((count, 17)) < random.choice([0.2, 0.7, 1.0])
    before = mean_positions + random.normal(0, 20, (count, 2))
    found = detections_of(mean_positions, before, float(random.choice([1e-2, 40, 80, 200])), joints)
    found.peaks[..., :2] += random.normal(0, 2, found.peaks[..., :2].shape)
    found.centres[:count, 2] *= random.random()
    return found


def test_person_gets_an_id_in_its_second_frame():
    identities = Identities(COCO17)
    assert step(identities, (50, 100), (200, 100)) == [0, 0]
    assert sorted(step(identities, (50, 100), (200, 100))) == [1, 2]
    assert step(identities, (50, 100), (200, 100), (350, 100))[2] == 0
    assert step(identities, (50, 100), (200, 100), (350, 100))[2] == 3


def test_person_seen_once_gets_no_id():
    identities = Identities(COCO17)
    step(identities, (50, 100))
    step(identities)
    assert step(identities, (350, 100)) == [0]
    assert step(identities, (350, 100)) == [1]


@pytest.mark.parametrize("with_motion", [True, False])
def test_crossing_people_keep_their_ids(with_motion: bool):
    identities = Identities(COCO17)
    ids = set()
    for frame in range(100):
        # They pass each other at 4 pixels per frame, one a little lower.
        mean_positions = np.array([[50 + 4 * frame, 100], [450 - 4 * frame, 118]])
        before = mean_positions - ([[4, 0], [-4, 0]] if with_motion else 0)
        ids.add(tuple(ids_of(identities.update(detections_of(mean_positions, before), 0), mean_positions)))
    assert ids in ({(0, 0), (1, 2)}, {(0, 0), (2, 1)})


def test_id_survives_a_short_absence_but_not_a_long_one():
    identities = Identities(COCO17)
    step(identities, (100, 100))
    assert step(identities, (100, 100)) == [1]
    for _ in range(LOST_FRAMES // 3):
        step(identities)
    assert step(identities, (100, 100)) == [1]
    for _ in range(LOST_FRAMES + 1):
        step(identities)
    assert step(identities, (100, 100)) == [0]
    assert step(identities, (100, 100)) == [2]


def test_reset_forgets_all_people_and_reuses_no_id():
    identities = Identities(COCO17)
    step(identities, (100, 100), (300, 100))
    assert sorted(step(identities, (100, 100), (300, 100))) == [1, 2]
    identities.reset()
    assert step(identities, (100, 100), (300, 100)) == [0, 0]
    assert sorted(step(identities, (100, 100), (300, 100))) == [3, 4]


def test_person_at_a_distant_position_is_a_new_one():
    identities = Identities(COCO17)
    step(identities, (50, 100))
    assert step(identities, (50, 100)) == [1]
    assert step(identities, (400, 100)) == [0]


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_no_id_is_used_twice(seed: int):
    random = np.random.default_rng(seed)
    identities = Identities(COCO17)
    last_seen: dict[int, int] = {}
    for frame in range(100):
        if random.random() < 0.05:
            identities.reset()
            last_seen = dict.fromkeys(last_seen, -1000)
        highest = max(last_seen, default=0)
        ids = [person_id for person_id in identities.update(random_people(random), 0).ids.tolist() if person_id]
        assert len(set(ids)) == len(ids)
        for person_id in ids:
            assert person_id > highest or frame - last_seen[person_id] <= LOST_FRAMES + 1
            last_seen[person_id] = frame
    assert sorted(last_seen) == list(range(1, len(last_seen) + 1))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_inputs_are_not_modified(seed: int):
    random = np.random.default_rng(seed)
    identities = Identities(COCO17)
    for _ in range(5):
        found = random_people(random)
        copies = [array.copy() for array in vars(found).values()]
        identities.update(found, 0)
        for array, copy in zip(vars(found).values(), copies, strict=True):
            np.testing.assert_array_equal(array, copy)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 20))
def test_ids_do_not_depend_on_later_frames(seed: int, frames: int):
    def ids_of_frames(count: int) -> list[list[int]]:
        random = np.random.default_rng(seed)
        identities, ids = Identities(COCO17), []
        for _ in range(count):
            found = random_people(random)
            ids.append(identities.update(found, 0).ids.tolist())
            for array in vars(found).values():
                array[:] = 0.5  # inputs are not read again
        return ids

    assert ids_of_frames(frames) == ids_of_frames(frames + 7)[:frames]


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from(["order", "mirror", "scale", "far"]))
def test_order_mirroring_scale_and_a_distant_person_change_no_id(seed: int, change: str):
    random = np.random.default_rng(seed)
    one, other = Identities(COCO17), Identities(COCO17)
    count = int(random.integers(1, 6))
    # Each person has a lane, so identities are unambiguous.
    mean_positions = np.column_stack([random.uniform(50, 400, count), 100.0 * np.arange(count)])
    speed = np.column_stack([random.normal(0, 3, count), np.zeros(count)])
    pairs: set[tuple[int, int]] = set()
    for _ in range(25):
        mean_positions = mean_positions + speed
        before = mean_positions - speed + random.normal(0, 2, (count, 2))
        joints = random.random((count, 17)) < 0.8
        ids = ids_of(one.update(detections_of(mean_positions, before, joints=joints), 0), mean_positions)
        if change == "order":
            order = random.permutation(count)
            others = ids_of(
                other.update(detections_of(mean_positions[order], before[order], joints=joints[order]), 0),
                mean_positions,
            )
        elif change == "mirror":
            others = _mirrored(other, mean_positions, before, joints)
        elif change == "scale":
            others = ids_of(
                other.update(detections_of(3 * mean_positions, 3 * before, 240, joints), 0), 3 * mean_positions, 240
            )
        else:
            all_joints = np.vstack([joints, np.ones((1, 17), bool)])
            with_far = detections_of(np.vstack([mean_positions, FAR]), np.vstack([before, FAR]), joints=all_joints)
            others = ids_of(other.update(with_far, 0), mean_positions)
        assert [person_id > 0 for person_id in ids] == [person_id > 0 for person_id in others]
        pairs |= {(a, b) for a, b in zip(ids, others, strict=True) if a > 0}
    # The ids may differ, but each corresponds to exactly one other.
    assert len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs})


def _mirrored(identities: Identities, mean_positions: NDArray, before: NDArray, joints: NDArray) -> list[int]:
    found = detections_of(mean_positions, before, joints=joints)
    flip = list(COCO17.flip)
    flip_x = np.array([-1, 1], np.float32)
    found.peaks[..., :2] *= flip_x
    found.centres[:, :2] *= flip_x
    people = identities.update(
        Detections(
            found.peaks[flip],
            found.edge_scores,
            (found.previous * flip_x)[:, flip],
            found.centres,
            (found.centre_joints * flip_x)[:, flip],
        ),
        0,
    )
    keypoints = people.keypoints[:, flip] * (-1, 1, 1)
    return ids_of(People(people.scores, keypoints, people.peaks[:, flip], people.ids), mean_positions)


def test_memory_stays_bounded_over_thousands_of_frames():
    random = np.random.default_rng(5)
    identities = Identities(COCO17)
    sizes = []
    for frame in range(5000):
        identities.update(random_people(random), 0)
        if frame % 100 == 99:
            sizes.append(len(pickle.dumps(vars(identities))))
    assert max(sizes) < 300_000
    assert np.mean(sizes[25:]) == pytest.approx(np.mean(sizes[5:25]), rel=0.3)
