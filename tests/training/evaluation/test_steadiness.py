import math

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from stm_skeletons.maps import render_maps
from stm_skeletons.skeleton import COCO17
from training.data.sequence import Sequence, SequenceFrame
from training.evaluation.evaluate import evaluate
from training.evaluation.evaluation import Evaluation
from training.evaluation.steadiness import (
    Delays,
    Steadiness,
    SteadinessTally,
    WalkIn,
    compare_walk_ins,
    count_flicker,
    flicker_at_recall,
    found_at,
    median_delay,
)

T = np.array([0.3, 0.6])
NOSE, WRIST = 0, 9
EMPTY = np.zeros((2, 3, 3), np.float32)


def peaks(*parts: tuple[int, float, float, float]) -> NDArray[np.float32]:
    """[2, 3, 3]: peaks of two joints from parts (joint, x, y, score), filled up with empty ones."""
    found = EMPTY.copy()
    for joint in (0, 1):
        here = [part[1:] for part in parts if part[0] == joint]
        found[joint, : len(here)] = np.reshape(here, (-1, 3))
    return found


def flicker(*frames: NDArray) -> list[list[int]]:
    before, middle, after = frames
    return count_flicker(before, middle, after, T).tolist()


PART = (0, 100.0, 50.0, 0.9)


def test_part_in_one_frame_appears_and_part_missing_in_one_frame_vanishes():
    here = peaks(PART)
    assert flicker(here, here, here) == [[1, 1], [0, 0], [0, 0]]
    assert flicker(EMPTY, here, EMPTY) == [[1, 1], [1, 1], [0, 0]]
    assert flicker(here, EMPTY, here) == [[0, 0], [0, 0], [1, 1]]
    assert flicker(EMPTY, here, here) == flicker(here, here, EMPTY) == [[1, 1], [0, 0], [0, 0]], "enters, leaves"
    assert flicker(here, EMPTY, EMPTY) == flicker(EMPTY, EMPTY, here) == [[0, 0]] * 3


def test_parts_of_the_same_joint_match_within_10_px():
    here, within, beyond = peaks(PART), peaks((0, 106.0, 58.0, 0.9)), peaks((0, 106.0, 58.1, 0.9))
    assert flicker(here, within, EMPTY) == [[1, 1], [0, 0], [0, 0]]
    assert flicker(EMPTY, within, here)[1] == [0, 0]
    assert flicker(here, beyond, EMPTY) == [[1, 1], [1, 1], [0, 0]]
    assert flicker(here, beyond, here) == [[1, 1]] * 3, "jumps away and back"
    other = peaks((1, 100.0, 50.0, 0.9))
    assert flicker(here, other, here) == [[1, 1]] * 3


def test_thresholds_are_counted_independently():
    strong, weak = peaks(PART), peaks((0, 100.0, 50.0, 0.4))
    # The weak part is below 0.6.
    assert flicker(strong, weak, strong) == [[1, 0], [0, 0], [0, 1]]
    assert flicker(weak, strong, weak) == [[1, 1], [0, 1], [0, 0]]
    crowd = [peaks(PART, (0, 104.0, 50.0, 0.4), (1, 9.0, 9.0, 0.5)), weak, peaks((0, 98.0, 52.0, 0.7))]
    for i in range(2):
        alone = count_flicker(crowd[0], crowd[1], crowd[2], T[i : i + 1])
        assert alone[:, 0].tolist() == [row[i] for row in flicker(*crowd)]


def person(*joints: int, shift: float = 0.0) -> tuple[NDArray, NDArray]:
    """Pose [17, 3] and whether each joint is labelled [17]. Joints are 30 px apart, so none is near another."""
    pose = np.array([(20 + 30 * (i % 6) + shift, 40 + 30 * (i // 6), 1) for i in range(17)], np.float32)
    return pose, np.isin(range(17), joints)


def frame(*people: tuple[NDArray, NDArray], tracks: list[int] | None = None) -> SequenceFrame:
    poses = np.array([pose for pose, _ in people], np.float32).reshape(-1, 17, 3)
    inside = np.array([labelled for _, labelled in people], bool).reshape(-1, 17)
    return SequenceFrame(
        np.zeros((256, 448, 3), np.uint8),
        poses,
        inside,
        np.zeros_like(inside),
        np.zeros((len(people), 4, 2), np.float32),
        None,
        np.zeros((64, 112), bool),
        None if tracks is None else np.array(tracks),
    )


def peaks_at(pose: NDArray, joints: list[int], score: float = 0.9, off: float = 0.0) -> NDArray[np.float32]:
    found = np.zeros((17, 2, 3), np.float32)
    found[joints, 0] = pose[joints] * [1, 1, 0] + [off, 0, score]
    return found


BODY = [0, *range(5, 17)]


@pytest.mark.parametrize(("labelled", "needed"), [(13, 3), (7, 3), (6, 3), (5, 3), (4, 2), (3, 2), (2, 1), (1, 1)])
def test_person_is_found_by_three_joints_or_half_of_fewer_than_six(labelled, needed):
    joints = BODY[:labelled]
    pose, _ = labels = person(*joints)

    def found(peaks: NDArray) -> list[bool]:
        return found_at(frame(labels), 0, BODY, peaks[BODY], T).tolist()

    assert found(peaks_at(pose, joints[:needed])) == [True, True]
    assert found(peaks_at(pose, joints[: needed - 1])) == [False, False]
    assert found(peaks_at(pose, joints[:needed], 0.4, 9.9)) == [True, False]
    assert found(peaks_at(pose, joints[:needed], 0.9, 10.1)) == [False, False]


def test_unlabelled_joints_do_not_find_a_person():
    partly_labelled = person(0, 5, 6)
    unlabelled = [9, 10, 11, 12]
    assert not found_at(frame(partly_labelled), 0, BODY, peaks_at(partly_labelled[0], unlabelled)[BODY], T).any()
    without_labels = person()
    assert not found_at(frame(without_labels), 0, BODY, peaks_at(without_labels[0], BODY)[BODY], T).any()


def tally(frames: list[SequenceFrame], found: dict[int, NDArray], counted_from: int = 0) -> Steadiness:
    """Count the frames with the peaks ``found`` by frame number."""
    counts = SteadinessTally((0.3, 0.6), BODY)
    sequence = Sequence("walk", tuple(frames), np.ones(17, bool))
    counts.begin(sequence)
    for number in range(counted_from, len(frames)):
        counts.count(number, frames[number], found.get(number, np.zeros((17, 2, 3), np.float32)))
    counts.end()
    return counts.result()


PERSON, OTHER_PERSON = person(*BODY), person(*BODY, shift=200)


def test_delay_is_counted_from_the_first_labelled_frame():
    empty = frame(tracks=[])
    both = frame(PERSON, OTHER_PERSON, tracks=[4, 7])
    frames = [*[frame(OTHER_PERSON, tracks=[7])] * 2, *[empty] * 4, *[both] * 4]
    weak, strong = peaks_at(PERSON[0], BODY, 0.5), peaks_at(PERSON[0], BODY)
    (found,) = tally(frames, {7: weak, 9: strong}).walk_ins
    assert (found.track, found.first, found.delays) == (4, 6, (1, 3))
    (never,) = tally(frames, {7: weak}).walk_ins
    assert never.delays == (1, None)
    (too_soon,) = tally(frames, {3: strong}).walk_ins
    assert too_soon.delays == (None, None)
    (missed,) = tally(frames, {8: peaks_at(OTHER_PERSON[0], BODY)}).walk_ins
    assert missed.delays == (None, None), "another person's parts"


@pytest.mark.parametrize(("first", "walks_in"), [(0, False), (5, False), (6, True)])
def test_people_in_the_first_frames_do_not_walk_in(first, walks_in):
    empty, occupied = frame(tracks=[]), frame(PERSON, tracks=[1])
    frames = [occupied if number == first or number > 6 else empty for number in range(9)]
    for counted_from in (0, 1):
        assert len(tally(frames, {}, counted_from).walk_ins) == walks_in


def test_walk_in_needs_a_track_and_a_labelled_body_joint():
    eyes = person(1, 2)
    for later in (frame(PERSON, tracks=[-1]), frame(PERSON), frame(eyes, tracks=[3])):
        assert not tally([frame(tracks=[])] * 7 + [later] * 2, {}).walk_ins


def test_flicker_needs_three_consecutive_counted_frames():
    frames = [frame(PERSON, tracks=[1])] * 5
    found = {i: peaks_at(PERSON[0], BODY) for i in (0, 1, 3, 4)}
    whole = tally(frames, found)
    assert (whole.parts.tolist(), whole.vanishing.tolist()) == ([[26, 26]], [[13, 13]])
    assert whole.flicker().tolist() == [0.5, 0.5]
    # From frame 2 on there is one triple, 2 to 4, in which parts come and stay.
    assert tally(frames, found, 2).parts.tolist() == [[13, 13]]
    assert tally(frames, found, 2).flicker().tolist() == [0, 0]
    assert np.isnan(tally(frames[:2], found).flicker()).all()


def test_flicker_does_not_span_sequences():
    counts = SteadinessTally((0.3, 0.6), BODY)
    frames = (frame(PERSON, tracks=[1]),) * 2
    for _ in range(2):
        counts.begin(Sequence("short", frames, np.ones(17, bool)))
        for number in range(2):
            counts.count(number, frames[number], peaks_at(PERSON[0], BODY))
        counts.end()
    assert counts.result().parts.tolist() == [[0, 0], [0, 0]]


def test_flicker_at_a_recall_is_interpolated_and_never_extrapolated():
    recalls, values = [0.8, 0.6, 0.4, 0.4, 0.0], np.array([0.20, 0.10, 0.06, 0.04, np.nan])
    assert flicker_at_recall(recalls, values, 0.8) == 0.2
    assert flicker_at_recall(recalls, values, 0.7) == pytest.approx(0.15)
    assert flicker_at_recall(recalls, values, 0.5) == pytest.approx(0.07), "the higher of two thresholds"
    assert math.isnan(flicker_at_recall(recalls, values, 0.81))
    assert math.isnan(flicker_at_recall(recalls, values, 0.39)), "unknown without parts"
    assert math.isnan(flicker_at_recall([0.0], np.array([np.nan]), 0.0))


def with_delays(*delays: int | None) -> Steadiness:
    walk_ins = tuple(WalkIn(sequence=0, track=i, first=9, delays=(0, delay)) for i, delay in enumerate(delays))
    zeros = np.zeros((1, 2), int)
    return Steadiness(parts=zeros, appearing=zeros, vanishing=zeros, walk_ins=walk_ins)


def test_delays_are_compared_over_walk_ins_that_either_network_finds():
    ours, alone = with_delays(0, 4, 2, None, None, 6), with_delays(1, 4, None, 3, None, 4)
    compared = compare_walk_ins(ours, 1, alone, 1)
    # -1, 0, -inf, +inf, (neither), 2
    assert compared == Delays(walk_ins=6, found=5, never=1, never_other=1, median=0, no_later=3 / 5)
    assert compare_walk_ins(ours, 0, alone, 0).no_later == 1
    assert compare_walk_ins(with_delays(None), 1, with_delays(2), 1).median == math.inf
    assert compare_walk_ins(with_delays(1, 3), 1, with_delays(1, 1), 1).median == 2, "the later of two"
    assert math.isnan(compare_walk_ins(with_delays(None), 1, with_delays(None), 1).median)
    assert median_delay(ours, 1) == 6
    assert median_delay(with_delays(0, 5, 2), 1) == 2


def test_steadiness_merges_and_round_trips_through_json():
    empty, occupied = frame(tracks=[]), frame(PERSON, tracks=[1])
    one = tally([empty] * 6 + [occupied] * 3, {7: peaks_at(PERSON[0], BODY)})
    both = one.merged(with_delays(3))
    assert both.parts.tolist() == [[13, 13], [0, 0]]
    assert [(walk_in.sequence, walk_in.delays) for walk_in in both.walk_ins] == [(0, (1, 1)), (1, (0, 3))]
    again = Steadiness.model_validate_json(both.model_dump_json())
    assert again.model_dump_json() == both.model_dump_json()
    with pytest.raises(ValidationError):
        Steadiness.model_validate({**both.model_dump(mode="json"), "parts": [[0, 0]]})


class Detector:
    """Returns Gaussians at the labels, except in the frames ``blind``."""

    def __init__(self, frames: list[SequenceFrame], blind: set[int]) -> None:
        self._frames, self._blind, self._number = frames, blind, -1

    def reset(self) -> None: ...

    def seed(self, poses: NDArray) -> None:
        raise AssertionError(f"started cold, not with {len(poses)} people")

    def step(self, frame: NDArray[np.uint8]) -> None:
        self._number += len(frame) > 0

    def maps(self) -> NDArray[np.float32]:
        poses = self._frames[self._number].poses
        return render_maps(poses[:0] if self._number in self._blind else poses, COCO17, (256, 448))

    def people(self) -> None: ...


def run(frames: list[SequenceFrame], blind: set[int], every_frame: bool = True) -> Evaluation:
    sequence = Sequence("walk", tuple(frames), np.ones(17, bool))
    tracker, channels = Detector(frames, blind), COCO17.channels
    return evaluate(tracker, [sequence], COCO17, channels, "cold", every_frame=every_frame)


def test_only_evaluations_of_every_frame_have_steadiness():
    frames = [frame(tracks=[])] * 6 + [frame(PERSON, tracks=[3])] * 8
    evaluation = run(frames, {6, 7, 10})
    assert evaluation.steadiness is not None
    i = evaluation.threshold_index(0.5)
    # Parts are counted in frames 8, 9, 11 and 12; they are missing in frame 10.
    assert evaluation.steadiness.flicker()[i] == 13 / (4 * 13)
    assert [(one.first, one.delays[i]) for one in evaluation.steadiness.walk_ins] == [(6, 2)]
    assert run(frames, set(), every_frame=False).steadiness is None
    again = Evaluation.model_validate_json(evaluation.model_dump_json())
    assert again.model_dump_json() == evaluation.model_dump_json()
    assert evaluation.pairs is not None
    merged = evaluation.merged(evaluation)
    assert merged.steadiness is not None
    assert [one.sequence for one in merged.steadiness.walk_ins] == [0, 1]
    assert evaluation.merged(run(frames, set(), every_frame=False)).steadiness is None
