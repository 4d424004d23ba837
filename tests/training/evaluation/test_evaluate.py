import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from export.synthetic_frames import synthetic_frames
from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.errors import DataError, WeightsError
from stm_skeletons.geometry import STRIDE
from stm_skeletons.maps import SKELETON_CHANNEL, render_maps, select_channels
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17
from training.data.labels import LABELLED, UNLABELLED
from training.data.sequence import Sequence, SequenceFrame
from training.evaluation.conditions import Start
from training.evaluation.evaluate import evaluate, evaluate_together
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import BODY_JOINTS, MATCHINGS, THRESHOLDS, Matching
from training.model.session import TorchSession
from training.model.weights import load_weights

WIDTH, HEIGHT = 448, 256
NOSE = COCO17.joints.index("nose")
# Joints 40 px apart, five in a row. No joint is near the same joint of another person.
POSE = np.array([(60 + 40 * (i % 5), 60 + 40 * (i // 5), LABELLED) for i in range(17)], np.float32)


def frame(poses: NDArray, image: NDArray | None = None, hidden: NDArray | None = None, **more) -> SequenceFrame:
    """A frame with these people [P, 17, 3]; their visibility marks the labelled joints."""
    poses = np.asarray(poses, np.float32).reshape(-1, 17, 3)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8) if image is None else image
    height, width = image.shape[:2]
    within = (poses[..., :2] >= 0).all(-1) & (poses[..., 0] < width) & (poses[..., 1] < height)
    inside = within & (poses[..., 2] == LABELLED)
    low, high = poses[..., :2].min(1), poses[..., :2].max(1)
    corners = np.stack([low, np.stack([high[:, 0], low[:, 1]], 1), high, np.stack([low[:, 0], high[:, 1]], 1)], 1)
    known = {"mask": None, "ignored": np.zeros((height // STRIDE, width // STRIDE), bool), **more}
    hidden = np.zeros(inside.shape, bool) if hidden is None else hidden
    return SequenceFrame(image=image, poses=poses, inside=inside, hidden=hidden, boxes=corners, **known)


def moved(x: float) -> NDArray:
    return POSE + np.array([x, 0, 0], np.float32)


def sequence(*frames: SequenceFrame, name: str = "walk", sourced: NDArray | None = None) -> Sequence:
    return Sequence(name, frames, np.ones(17, bool) if sourced is None else sourced)


class ScriptedTracker:
    """A tracker that returns the given maps and people, and records the calls."""

    def __init__(self, *maps: NDArray, people: list[People] | None = None) -> None:
        self._given = list(maps)
        self._people = people
        self.calls: list[str] = []
        self.seeds: list[NDArray] = []
        self._number = -1

    def reset(self) -> None:
        self.calls.append("reset")

    def seed(self, poses: NDArray) -> None:
        self.calls.append("seed")
        self.seeds.append(poses)

    def step(self, frame: NDArray[np.uint8]) -> None:
        self.calls.append("step")
        self._number += len(frame) > 0

    def maps(self) -> NDArray[np.float32]:
        return self._given[self._number]

    def people(self) -> People | None:
        return None if self._people is None else self._people[self._number]


def labelled_people(frame: SequenceFrame, ids: list[int]) -> People:
    """All labelled people of a frame, with all joints and a score of 0.9."""
    count = len(frame.poses)
    peaks = np.broadcast_to(np.arange(count)[:, None], (count, 17))
    return People(np.full(count, 0.9, np.float32), frame.poses, peaks, np.array(ids, int))


def label_tracker(
    *frames: SequenceFrame, delay: int = 0, channels=COCO17.channels, people: Any = None
) -> ScriptedTracker:
    """A tracker whose maps are rendered from the labels, ``delay`` frames late."""
    shown = [frames[max(i - delay, 0)] for i in range(len(frames))]
    maps = (select_channels(render_maps(f.poses, COCO17, (HEIGHT, WIDTH)), COCO17, channels) for f in shown)
    return ScriptedTracker(*maps, people=people)


def run(tracker, *sequences: Sequence, start: Start = "cold", channels=COCO17.channels, threshold=None) -> Evaluation:
    return evaluate(tracker, sequences, COCO17, channels, start, threshold)


WALK = [frame(moved(12 * i)) for i in range(4)]


@pytest.mark.parametrize("matching", MATCHINGS)
def test_ground_truth_maps_score_perfectly(matching: Matching):
    evaluation = run(label_tracker(*WALK), sequence(*WALK))
    assert evaluation.at(0.5, matching).f1 == 1
    assert evaluation.best(matching).f1 == 1
    assert all(score.f1 == 1 for score in evaluation.pixel_scores().values())
    assert all(score.recall == 1 for score in evaluation.joint_scores(0.5, matching).values())
    assert evaluation.hits_over_time(0.5, matching) == [(i, 13, 13) for i in range(4)]


@pytest.mark.parametrize(
    ("shifts", "expected"),
    [([0, 9, 18, 27], [13, 13, 13, 13]), ([0, 11, 22, 33], [13, 0, 0, 0]), ([0, 9, 20, 29], [13, 13, 0, 13])],
)
@pytest.mark.parametrize("start", ["seed", "cold"])
def test_delayed_maps_find_joints_that_moved_less_than_the_radius(shifts, expected, start):
    frames = [frame(moved(shift)) for shift in shifts]
    evaluation = run(label_tracker(*frames, delay=1), sequence(*frames), start=start)
    first = 1 if start == "seed" else 0
    for matching in MATCHINGS:
        over_time = evaluation.hits_over_time(0.5, matching)
        assert over_time == [(i, 13, expected[i]) for i in range(first, 4)]
        score = evaluation.at(0.5, matching)
        assert score.recall == sum(expected[first:]) / (13 * (4 - first))
        assert score.precision == score.recall


def test_seed_is_the_labelled_people_and_its_frame_is_not_counted():
    half, unlabelled = POSE.copy(), POSE.copy()
    half[:8] = (7, 7, UNLABELLED)
    unlabelled[:] = UNLABELLED
    frames = [frame(np.stack([half, unlabelled])), frame(np.stack([half, unlabelled]))]
    tracker = label_tracker(*frames)
    evaluation = run(tracker, sequence(*frames), start="seed")
    assert tracker.calls == ["seed", "step", "step"]
    (seed,) = tracker.seeds
    assert seed.shape == (1, 17, 3)
    np.testing.assert_array_equal(seed[0, 8:], POSE[8:])
    assert (seed[0, :8] == 0).all()
    assert evaluation.frames == 1
    assert evaluation.sequences[0].seeded


def test_sequence_starts_cold_if_its_first_frame_has_no_people():
    frames = [frame(np.zeros((0, 17, 3))), WALK[0]]
    tracker = label_tracker(*frames)
    evaluation = run(tracker, sequence(*frames), start="seed")
    assert tracker.calls == ["reset", "step", "step"]
    assert (evaluation.frames, evaluation.sequences[0].seeded) == (2, False)
    assert evaluation.hits_over_time(0.5, "closest") == [(1, 13, 13)]


def test_joints_outside_the_frame_or_in_ignored_regions_do_not_count():
    frames = [frame(moved(-70))]  # the first column is outside
    outside = sum(COCO17.joints[i] in BODY_JOINTS for i in range(17) if POSE[i, 0] < 70)
    evaluation = run(label_tracker(*frames), sequence(*frames))
    assert evaluation.hits_over_time(0.5, "closest") == [(0, 13 - outside, 13 - outside)]

    seen = np.stack([POSE, moved(150)])
    ignored = np.zeros((HEIGHT // STRIDE, WIDTH // STRIDE), bool)
    ignored[:, 63:] = True  # the second person's joints from x = 252 on
    tracker = ScriptedTracker(render_maps(seen, COCO17, (HEIGHT, WIDTH)))
    score = run(tracker, sequence(frame(POSE, ignored=ignored))).at(0.5, "closest")
    wrong = sum(COCO17.joints[i] in BODY_JOINTS for i in range(17) if POSE[i, 0] + 150 < 252)
    assert (score.recall, score.precision) == (1, 13 / (13 + wrong))


def test_joints_that_the_data_never_label_do_not_count():
    sourced = np.ones(17, bool)
    sourced[NOSE] = False
    pose = POSE.copy()
    pose[NOSE] = 0
    evaluation = run(label_tracker(frame(POSE)), sequence(frame(pose), sourced=sourced))
    assert evaluation.at(0.5, "closest").precision == 1
    assert "nose" not in evaluation.overall_joints
    assert "nose" not in evaluation.joint_scores(0.5, "closest")
    assert len(evaluation.overall_joints) == 12
    assert math.isnan(evaluation.channel_scores()["nose"].f1)


def test_hidden_recall_counts_only_hidden_labels():
    hidden = np.zeros((1, 17), bool)
    hidden[0, [5, 6, 7, 8]] = True
    late = POSE.copy()
    late[[5, 6, 7], 0] += 20
    tracker = ScriptedTracker(render_maps(late, COCO17, (HEIGHT, WIDTH)))
    evaluation = run(tracker, sequence(frame(POSE, hidden=hidden)))
    assert evaluation.hidden_recall(0.5, "one_to_one") == 1 / 4
    assert evaluation.at(0.5, "one_to_one").recall == 10 / 13
    assert math.isnan(run(label_tracker(*WALK), sequence(*WALK)).hidden_recall(0.5, "closest"))


def evaluate_peaks(labelled: tuple[NDArray, ...], *shown: tuple[NDArray, float]) -> Evaluation:
    """Evaluate a frame with the people ``labelled`` and with peaks of the given heights for the people ``shown``."""
    heights = [render_maps(pose, COCO17, (HEIGHT, WIDTH)) * np.float32(height) for pose, height in shown]
    return run(ScriptedTracker(np.max(heights, axis=0)), sequence(frame(np.stack(labelled))))


@pytest.mark.parametrize("matching", MATCHINGS)
def test_lowest_threshold_that_reaches_the_precision_is_chosen(matching: Matching):
    """Up to about 0.5, two people and a false one are found; above, only the first."""
    evaluation = evaluate_peaks((POSE, moved(100)), (POSE, 0.95), (moved(100), 0.5), (moved(200), 0.5))
    low, high = evaluation.at(0.05, matching), evaluation.at(0.6, matching)
    assert (low.precision, low.recall) == (pytest.approx(2 / 3), 1)
    assert (high.precision, high.recall) == (1, 0.5)
    assert evaluation.chosen(matching) == evaluation.best(matching) == low
    for precision in (0.01, 0.5, 0.66):
        assert evaluation.chosen(matching, precision) == low
    first_alone = next(score for score in evaluation.scores(matching) if score.recall == 0.5)
    assert 0.4 < first_alone.threshold <= 0.55
    for precision in (0.67, 0.9, 1):
        assert evaluation.chosen(matching, precision) == first_alone


def test_most_precise_threshold_is_chosen_if_none_is_precise_enough():
    """Precision is 1/3, from about 0.3 on 1/2, and from about 0.6 on 0: the false person has the highest score."""
    evaluation = evaluate_peaks((POSE,), (POSE, 0.6), (moved(100), 0.3), (moved(200), 0.9))
    assert evaluation.at(0.05, "closest").precision == pytest.approx(1 / 3)
    assert evaluation.at(0.7, "closest").precision == 0
    found = evaluation.chosen("closest", 0.6)
    assert found.precision == 0.5
    assert 0.2 < found.threshold <= 0.35
    assert evaluation.chosen("closest", 0.5) == found
    assert evaluation.chosen("closest", 0.3) == evaluation.at(0.05, "closest")


def test_threshold_is_chosen_even_without_predictions():
    nothing = evaluate_peaks((POSE,), (POSE, 0))
    assert math.isnan(nothing.at(0.5, "closest").precision)
    assert nothing.chosen("closest", 0.5).threshold == THRESHOLDS[0]


@pytest.mark.parametrize("channels", [(SKELETON_CHANNEL,), ("mask", *COCO17.edge_names)])
def test_networks_without_keypoint_maps_have_pixel_figures_only(channels):
    evaluation = run(label_tracker(*WALK, channels=channels), sequence(*WALK), channels=channels)
    assert evaluation.keypoints is None
    assert {score.f1 for score in evaluation.pixel_scores().values()} == {1}
    with pytest.raises(DataError, match="pixel figures only"):
        evaluation.best("closest")
    with pytest.raises(DataError, match="pixel figures only"):
        evaluation.chosen("closest", 0.5)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()).keypoints is None
    assert len(evaluation.merged(evaluation).sequences) == 2


def test_correct_edge_pairs_are_counted_per_sequence():
    crowd = [frame(np.stack([moved(x), moved(x + 200)])) for x in (0, 12)]
    single = [frame(POSE)]
    shown = [render_maps(f.poses, COCO17, (HEIGHT, WIDTH)) for f in (*crowd, *single)]
    shown[1] = 1 - shown[1]
    evaluation = run(ScriptedTracker(*shown), sequence(*crowd), sequence(*single))
    assert evaluation.pairs is not None
    assert evaluation.pairs.tolist() == [[76, 38], [0, 0]]
    assert evaluation.right_pairs()[:2] == (76, 0.5)
    # Only one sequence has pairs, so resampling does not change the share.
    assert evaluation.right_pairs()[2] == (0.5, 0.5)
    seeded = run(ScriptedTracker(*shown[:2]), sequence(*crowd), start="seed")
    assert seeded.right_pairs() == (38, 0, None), "the seeded frame is not counted"
    assert math.isnan(run(ScriptedTracker(shown[2]), sequence(*single)).right_pairs()[1])


def test_networks_without_edge_maps_have_no_pairs():
    channels = COCO17.channels[:18]
    evaluation = run(label_tracker(*WALK, channels=channels), sequence(*WALK), channels=channels)
    assert evaluation.pairs is None
    with pytest.raises(DataError, match="without edge maps"):
        evaluation.right_pairs()
    assert Evaluation.model_validate_json(evaluation.model_dump_json()).pairs is None
    assert evaluation.merged(evaluation).pairs is None


def crowd_of_two() -> list[SequenceFrame]:
    return [frame(np.stack([moved(x), moved(x + 200)]), tracks=np.array([3, 4])) for x in (0, 12, 24)]


def test_people_and_their_tracks_are_counted():
    frames = crowd_of_two()
    people = [labelled_people(each, ids) for each, ids in zip(frames, ([0, 0], [1, 2], [1, 7]), strict=True)]
    evaluation = run(label_tracker(*frames, people=people), sequence(*frames), start="cold")
    assert evaluation.people is not None
    assert evaluation.people.figures()["AP"] == pytest.approx(1)
    assert evaluation.people.frames.tolist() == [3]
    assert (evaluation.people.reported_per_frame, evaluation.people.labelled_per_frame) == (2, 2)
    assert evaluation.tracking is not None
    assert evaluation.tracking.ap() == 1
    expected = {"labelled": 6, "found": 6, "without_id": 2, "switches": 1, "estimated_heads": 6}
    assert evaluation.tracking.person_counts() == expected
    assert evaluation.tracking.mota() == pytest.approx(1 - 1 / 6)
    seeded = run(label_tracker(*frames, people=people), sequence(*frames), start="seed")
    assert seeded.people is not None
    assert seeded.people.frames.tolist() == [2], "the seeded frame is not counted"


def test_person_threshold_applies_only_to_reported_people():
    frames = crowd_of_two()
    people = [labelled_people(each, [1, 2]) for each in frames]
    for threshold, reported in ((0.9, 2), (0.95, 0)):
        tracker = label_tracker(*frames, people=people)
        videos, channels = [sequence(*frames)], COCO17.channels
        evaluation = evaluate(tracker, videos, COCO17, channels, "cold", person_threshold=threshold)
        assert evaluation.people is not None
        assert evaluation.people.figures()["AP"] == pytest.approx(1)
        assert evaluation.people.reported_per_frame == reported


def test_people_and_tracking_need_people_and_tracks():
    people = [labelled_people(each, [1]) for each in WALK]
    evaluation = run(label_tracker(*WALK, people=people), sequence(*WALK))
    assert evaluation.people is not None
    assert evaluation.tracking is None
    frames = crowd_of_two()
    without_people = run(label_tracker(*frames), sequence(*frames))
    assert without_people.people is without_people.tracking is None
    older = evaluation.model_dump()
    for name in ("people", "tracking"):
        del older[name]
    assert Evaluation.model_validate(older).people is None, "older reports can still be read"


def two_sequences() -> tuple[ScriptedTracker, list[Sequence]]:
    """A sequence of four frames in which the person is found, and one of two frames in which it is not."""
    far = [frame(moved(100)), frame(moved(100), tracks=np.array([1]))]
    found = [render_maps(f.poses, COCO17, (HEIGHT, WIDTH)) for f in (*WALK, WALK[0], WALK[0])]
    good = [replace(each, tracks=np.array([1])) for each in WALK]
    people = [labelled_people(each, [number]) for number, each in enumerate((*WALK, *far))]
    return ScriptedTracker(*found, people=people), [sequence(*good, name="good"), sequence(*far, name="bad")]


def test_evaluations_merge_and_round_trip_through_json():
    tracker, sequences = two_sequences()
    together = run(tracker, *sequences)
    assert together.at(0.5, "closest").recall == 4 / 6
    tracker, sequences = two_sequences()
    one, two = run(tracker, sequences[0]), run(tracker, sequences[1])
    assert None not in (one.people, one.tracking, two.people, two.tracking)
    for merged in (one.merged(two), Evaluation.model_validate_json(together.model_dump_json())):
        assert merged.model_dump_json() == together.model_dump_json()
    with pytest.raises(DataError, match="different start"):
        one.merged(two.model_copy(update={"start": "seed"}))


def test_interval_resamples_the_sequences():
    tracker, sequences = two_sequences()
    evaluation = run(tracker, *sequences)
    # A resample may consist of either sequence twice, so F1 0 and 1 are both within the 95% interval.
    assert evaluation.interval(0.5, "closest") == (0, 1)
    low, high = evaluation.pixel_interval("keypoints") or (1, 0)
    assert (low, high) == (0, 1)
    same = [sequence(*WALK, name=str(i)) for i in range(5)]
    assert run(label_tracker(*(WALK * 5)), *same).interval(0.5, "closest") == (1, 1)
    assert run(label_tracker(*WALK), same[0]).interval(0.5, "closest") is None


def test_custom_threshold_is_counted_exactly():
    evaluation = run(label_tracker(*WALK), sequence(*WALK), threshold=0.123)
    assert evaluation.at(0.123, "closest").threshold == 0.123
    assert evaluation.thresholds == (*THRESHOLDS[:8], 0.123, *THRESHOLDS[8:])
    with pytest.raises(DataError, match=r"threshold 0\.321 was not counted"):
        evaluation.at(0.321, "closest")


@pytest.mark.parametrize("start", ["seed", "cold"])
def test_networks_evaluated_together_score_as_if_evaluated_alone(start: Start):
    """The sequences come from an iterator, so they can be read only once."""
    crowd = crowd_of_two()
    frames = [*WALK, *crowd]
    people = [labelled_people(each, list(range(1, 1 + len(each.poses)))) for each in frames]
    videos = [sequence(*WALK, name="one"), sequence(*crowd, name="two")]

    def trackers() -> dict[str, ScriptedTracker]:
        return {
            "true": label_tracker(*frames, people=people),
            "late": label_tracker(*frames, delay=1),
            "other": label_tracker(*frames[::-1]),
        }

    calls = []
    together = evaluate_together(
        trackers(), iter(videos), COCO17, COCO17.channels, start, 0.123, lambda: calls.append(1), True
    )
    assert list(together) == ["true", "late", "other"]
    assert len(calls) == 3 * len(frames)
    alone = {
        name: evaluate(tracker, videos, COCO17, COCO17.channels, start, 0.123, every_frame=True)
        for name, tracker in trackers().items()
    }
    for name, evaluation in alone.items():
        assert together[name].model_dump_json() == evaluation.model_dump_json(), name
    assert alone["true"].at(0.5, "closest").f1 > alone["late"].at(0.5, "closest").f1


def test_progress_is_called_after_every_frame():
    calls = []
    evaluate(label_tracker(*WALK), [sequence(*WALK)], COCO17, COCO17.channels, "seed", progress=lambda: calls.append(1))
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("sequences", "options", "expected"),
    [
        ([], {}, "no frame to count"),
        ([sequence(WALK[0])], {"start": "seed"}, "no frame to count"),
        ([sequence()], {}, "walk has no frames"),
        ([sequence(*WALK)], {"threshold": 0}, "threshold"),
        ([sequence(*WALK)], {"threshold": math.nan}, "threshold"),
        ([sequence(WALK[0], frame(POSE, np.zeros((96, 160, 3), np.uint8)))], {}, "use one size"),
        ([sequence(frame(POSE, np.zeros((96, 160, 3), np.uint8)))], {}, "of the network's size"),
    ],
)
def test_input_that_cannot_be_measured_is_refused_in_one_line(sequences, options, expected):
    with pytest.raises(DataError, match=expected) as error:
        run(label_tracker(*WALK), *sequences, **options)
    assert "\n" not in str(error.value)


def test_non_finite_maps_are_refused():
    with pytest.raises(WeightsError, match="NaN or infinite at frame 0 of sequence walk"):
        run(ScriptedTracker(np.full((37, 64, 112), np.nan, np.float32)), sequence(WALK[0]))


def small_sequences(images: list[NDArray[np.uint8]]) -> list[Sequence]:
    """Three sequences of the images, 160 x 96, with people at random positions."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(3):
        start = np.concatenate([rng.uniform((5, 5), (155, 91), (2, 17, 2)), np.ones((2, 17, 1))], axis=2)
        frames = [frame(start + np.array([n, 0, 0]), image) for n, image in enumerate(images[i::3])]
        found.append(sequence(*frames, name=str(i)))
    return found


def assert_same_from_torch_and_bundle(weights: Path, bundle: Path, sequences: list[Sequence], start) -> None:
    model, recipe = load_weights(weights)
    channels = recipe.config.channels
    eager = TorchSession(model, slots=4, every=3)
    from_torch = evaluate(eager, sequences, COCO17, channels, start)
    with Session.open(bundle, BackendOptions(threads=1)) as session:
        from_bundle = evaluate(session, sequences, COCO17, channels, start)
    assert from_torch.keypoints is not None
    assert from_bundle.keypoints is not None
    assert from_torch.sequences == from_bundle.sequences
    # The maps differ by rounding, 1e-6, so one cell in thousands may be on the other side of a threshold.
    cells = from_torch.pixels.sum()
    assert cells > 0
    assert np.abs(from_torch.pixels - from_bundle.pixels).sum() <= 1e-4 * cells
    assert from_torch.people is not None
    assert from_bundle.people is not None
    assert np.abs(from_torch.people.reported - from_bundle.people.reported).sum() <= 2
    for name in ("labels", "predictions", "hits", "right"):
        ours, theirs = (
            getattr(keypoints.by_joint, name) for keypoints in (from_torch.keypoints, from_bundle.keypoints)
        )
        assert ours.sum() > 0
        # A keypoint 10 px from a label may be on either side of the radius, and then is at every threshold.
        assert np.abs(ours - theirs).sum() <= max(1e-3 * ours.sum(), 3 * len(THRESHOLDS))
    for matching in MATCHINGS:
        for one, other in zip(from_torch.scores(matching), from_bundle.scores(matching), strict=True):
            np.testing.assert_allclose(other.f1, one.f1, atol=1e-2)


@pytest.mark.parametrize("start", ["seed", "cold"])
def test_torch_and_bundle_give_the_same_figures(edge_weights: Path, edge_bundle: Path, start):
    sequences = small_sequences(synthetic_frames(96, 160, 12))
    assert_same_from_torch_and_bundle(edge_weights, edge_bundle, sequences, start)


def test_torch_and_bundle_give_the_same_figures_on_real_images(edge_weights: Path, edge_bundle: Path, shared: Path):
    files = sorted((shared / "coco" / "images").iterdir())[:6]
    images = [np.asarray(cv2.resize(np.asarray(cv2.imread(str(file))), (160, 96)), np.uint8) for file in files]
    assert_same_from_torch_and_bundle(edge_weights, edge_bundle, small_sequences(images), "cold")
