import io
import json
import math
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stm_skeletons.errors import DataError
from stm_skeletons.people import People, no_people
from stm_skeletons.skeleton import COCO17, Skeleton
from training.data.sequence import SequenceFrame
from training.evaluation.oks import AREA_OF_BOX, LEVELS, MOST, match_people
from training.evaluation.people_scores import PeopleEvaluation, PeopleTally, compare_people

WIDTH, HEIGHT = 448, 256
# For a person of 1,000 square pixels, these sigmas give a joint that is d pixels off a similarity of exp(-d^2 / 20).
PAIR = Skeleton(name="pair", joints=("nose", "left_wrist"), edges=((0, 1),), sigmas=(0.05, 0.05))
BOTH_JOINTS = np.ones(2, bool)


def distance_at(similarity: float) -> float:
    """Distance in pixels at which a joint of a person of 1,000 square pixels has this similarity."""
    return math.sqrt(-20 * math.log(similarity))


def labels(poses: Any, areas: Any = None, boxes: Any = None, ignored: NDArray | None = None) -> SequenceFrame:
    """A frame with these people [P, NK, 2 or 3], each of 1,000 square pixels; visibility marks the labelled joints."""
    poses = np.asarray(poses, np.float32)
    if poses.shape[-1] == 2:
        poses = np.concatenate([poses, np.ones((*poses.shape[:-1], 1), np.float32)], axis=-1)
    inside = (poses[..., 2] == 1) & (poses[..., :2] >= 0).all(-1) & (poses[..., :2] < [WIDTH, HEIGHT]).all(-1)
    if boxes is None:
        boxes = np.column_stack([poses[..., :2].min(1) - 5, poses[..., :2].max(1) + 5])
    left, top, right, bottom = np.asarray(boxes, np.float32).reshape(-1, 4).T
    corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=-1).reshape(-1, 4, 2)
    cells = np.zeros((HEIGHT // 4, WIDTH // 4), bool) if ignored is None else ignored
    areas = np.full(len(poses), 1000.0, np.float32) if areas is None else np.asarray(areas, np.float32)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return SequenceFrame(image, poses, inside, np.zeros_like(inside), corners, None, cells, areas=areas)


def found(poses: Any, scores: Any) -> People:
    """People with these joints [M, NK, 2], all found."""
    poses = np.asarray(poses, np.float32)
    keypoints = np.concatenate([poses, np.full((*poses.shape[:-1], 1), 0.5, np.float32)], axis=-1)
    peaks = np.broadcast_to(np.arange(len(poses))[:, None], poses.shape[:2])
    return People(np.asarray(scores, np.float32), keypoints, peaks, np.zeros(len(poses), int))


def count(*frames: tuple[SequenceFrame, People], skeleton: Skeleton = PAIR, **options: Any) -> PeopleEvaluation:
    """Count the frames, each as a separate sequence."""
    tally = PeopleTally(skeleton, **options)
    for frame, people in frames:
        tally.begin(np.ones(len(skeleton.joints), bool))
        tally.count(frame, people)
    return tally.result()


A, B, FAR = [[50, 50], [80, 50]], [[200, 100], [230, 100]], [[400, 200], [430, 200]]


def test_figures_worked_out_by_hand():
    # Two people are labelled. The prediction with the highest score has one joint of A exactly; the other joint has a
    # similarity of 0.44, so its OKS is (1 + 0.44) / 2 = 0.72. The next one is false. The last is B exactly: OKS 1.
    # At the 5 levels from 0.50 to 0.70: correct, wrong, correct. Precision is 1 up to a recall of 1/2, 2/3 up to 1. Of
    # the 101 recalls, 51 are up to 0.5 and 50 above: AP = (51 + 50 * 2/3) / 101.
    # At the 5 levels from 0.75 to 0.95: wrong, wrong, correct. Precision is 1/3 up to a recall of 1/2: AP = 51/3 / 101.
    shifted = [A[0], [80 + distance_at(0.44), 50]]
    evaluation = count((labels([A, B]), found([shifted, FAR, B], [0.9, 0.8, 0.7])))
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 3 / 101
    expected = {"AP": (5 * low + 5 * high) / 10, "AP50": low, "AP75": high, "AR": (5 * 1 + 5 * 0.5) / 10}
    assert evaluation.figures() == pytest.approx(expected)
    assert evaluation.right.tolist() == [0b11111, 0, 0b1111111111]
    assert (evaluation.labelled_per_frame, evaluation.reported_per_frame) == (2, 3)


def random_frames(count: int, seed: int) -> list[tuple[SequenceFrame, People]]:
    """Frames with joints outside the frame, unlabelled joints, people without joints, and false predictions."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        people = int(random.integers(0, 9))
        size = random.uniform(15, 240, (people, 1, 1))
        middle = random.uniform((0, 0), (WIDTH, HEIGHT), (people, 1, 2))
        xy = middle + size * random.uniform(-0.5, 0.5, (people, 17, 2))
        visible = (random.random((people, 17, 1)) < 0.7) & (random.random((people, 1, 1)) < 0.85)
        poses = np.concatenate([np.where(visible, xy, 0), visible], axis=-1)
        boxes = np.column_stack([(middle - size * 0.5)[:, 0], (middle + size * 0.5)[:, 0]])
        frame = labels(poses, areas=0.4 * size.reshape(-1) ** 2, boxes=boxes)
        noise = size * random.uniform(0, 0.06, (people, 1, 1)) * random.normal(size=(people, 17, 2))
        wrong = random.uniform((0, 0), (WIDTH, HEIGHT), (int(random.integers(0, 4)), 17, 2))
        again = xy[:2] + size[:2] * 0.05
        guessed = np.concatenate([(xy + noise)[random.random(people) < 0.9], wrong, again])
        people = found(guessed, random.uniform(0.02, 1, len(guessed)))
        people.keypoints[random.random(people.keypoints.shape[:2]) < 0.1] = 0
        frames.append((frame, people))
    return frames


def plain_cocoeval(frames: list[tuple[SequenceFrame, People]], folder: Path) -> list[float]:
    """AP, AP50, AP75, AR, and AP and AR of medium and large people from pycocotools' usual sequence: two JSON files,
    loadRes, evaluate, accumulate, summarize."""
    entries: list[dict] = []
    results: list[dict] = []
    for number, (frame, people) in enumerate(frames, start=1):
        assert frame.areas is not None
        for pose, inside, box, area in zip(frame.poses, frame.inside, frame.boxes, frame.areas, strict=True):
            keypoints = np.where(inside[:, None], pose * [1, 1, 2], 0).astype(float)
            (left, top), (right, bottom) = box.min(0).tolist(), box.max(0).tolist()
            entry = {"id": len(entries) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "area": float(area)}
            entry |= {"bbox": [left, top, right - left, bottom - top], "num_keypoints": int(inside.sum())}
            entries.append(entry | {"keypoints": keypoints.ravel().tolist()})
        for score, keypoints in zip(people.scores.astype(float), people.keypoints.astype(float), strict=True):
            if score >= 0.05:
                result = {"image_id": number, "category_id": 1, "score": score}
                results.append(result | {"keypoints": keypoints.ravel().tolist()})
    images = [{"id": i + 1, "file_name": "", "width": WIDTH, "height": HEIGHT} for i in range(len(frames))]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.joints), "skeleton": []}
    truth, guesses = folder / "truth.json", folder / "results.json"
    content = {"info": {}, "images": images, "annotations": entries, "categories": [category]}
    truth.write_text(json.dumps(content))
    guesses.write_text(json.dumps(results))
    with redirect_stdout(io.StringIO()):
        coco: Any = COCO(str(truth))
        evaluation: Any = COCOeval(coco, coco.loadRes(str(guesses)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(evaluation.stats[i]) for i in (0, 1, 2, 5, 3, 8, 4, 9)]


@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_those_of_cocoeval_on_json(tmp_path: Path, seed: int):
    frames = random_frames(25, seed)
    evaluation = count(*frames, skeleton=COCO17)
    expected = plain_cocoeval(frames, tmp_path)
    assert 0.1 < expected[0] < 0.9
    by_size = [evaluation.by_size[size].figures() for size in ("medium", "large")]
    assert all(0 < figures["AP"] < 0.9 for figures in by_size)
    ours = [*evaluation.figures().values(), *(figures[name] for figures in by_size for name in ("AP", "AR"))]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_a_frame_drawn_twice_counts_like_two_frames(tmp_path: Path):
    frames = random_frames(12, 7)
    times = np.array([0, 2, 1, 3, 0, 1, 1, 2, 0, 1, 1, 0])
    evaluation = count(*frames, skeleton=COCO17)
    drawn = [frame for frame, often in zip(frames, times, strict=True) for _ in range(often)]
    again = evaluation.ranking.figures(times)
    np.testing.assert_allclose(again, plain_cocoeval(drawn, tmp_path)[: len(again)], atol=1e-12)
    intervals = evaluation.intervals()
    for name, value in evaluation.figures().items():
        low, high = intervals[name] or (1, 0)
        assert low < value < high
    assert evaluation.intervals() == count(*frames, skeleton=COCO17).intervals(), "always the same"


def test_twenty_most_confident_people_from_the_lowest_score_count():
    many = [[[10 * i, 100 + j] for j in range(2)] for i in range(30)]
    scores = np.linspace(0.9, 0.01, 30)
    matches = match_people(found(many, scores), labels([many[0]]), PAIR, BOTH_JOINTS)["any"]
    assert len(matches.scores) == MOST
    np.testing.assert_allclose(matches.scores, scores[:MOST], rtol=1e-6)
    few = match_people(found(many[:3], [0.9, 0.05, 0.049]), labels([many[0]]), PAIR, BOTH_JOINTS)["any"]
    np.testing.assert_allclose(few.scores, [0.9, 0.05], rtol=1e-6)


def test_unlabelled_joints_do_not_count():
    half = [[50, 50, 1], [0, 0, 0]]
    outside = [[50, 50, 1], [-30, 50, 1]]
    right = found([[[50, 50], [300, 200]]], [0.9])
    for pose in (half, outside):
        matches = match_people(right, labels([pose]), PAIR, BOTH_JOINTS)["any"]
        assert matches.right.all()
        assert matches.labelled == 1
    # The same holds if the data never label the joint, whatever its column holds.
    nose_only = match_people(right, labels([[[50, 50], [80, 50]]]), PAIR, np.array([True, False]))["any"]
    assert nose_only.right.all()
    assert not match_people(right, labels([[[50, 50], [80, 50]]]), PAIR, BOTH_JOINTS)["any"].right[:, 1:].any()


def test_missing_area_is_estimated_from_the_box():
    # A box of 40 x 50 has 2,000 square pixels.
    box, shifted = [[40, 30, 80, 80]], [[[50, 50], [80, 50 + distance_at(0.44)]]]
    frame = labels([A], areas=[np.nan], boxes=box)
    given = labels([A], areas=[AREA_OF_BOX * 2000], boxes=box)
    one, other = (match_people(found(shifted, [0.9]), each, PAIR, BOTH_JOINTS)["any"].right for each in (frame, given))
    np.testing.assert_array_equal(one, other)
    small = match_people(found(shifted, [0.9]), labels([A], areas=[400], boxes=box), PAIR, BOTH_JOINTS)["any"].right
    assert small.sum() < one.sum() < len(LEVELS)


def test_predictions_in_unknown_areas_are_ignored():
    unlabelled = [[0, 0, 0], [0, 0, 0]]
    boxes = [[45, 45, 85, 55], [395, 195, 435, 205]]
    frame = labels([[[*point, 1] for point in A], unlabelled], boxes=boxes)
    of_box = match_people(found([FAR, B], [0.9, 0.8]), frame, PAIR, BOTH_JOINTS)["any"]
    assert of_box.ignored.tolist() == [[True] * 10, [False] * 10], "the first matches a person without joints"
    assert of_box.labelled == 1
    ignored = np.zeros((HEIGHT // 4, WIDTH // 4), bool)
    ignored[:, 90:] = True
    frame = labels([A], ignored=ignored)
    partly_inside = [[300, 200], [430, 200]]
    evaluation = count((frame, found([FAR, partly_inside, A], [0.9, 0.8, 0.7])))
    assert evaluation.ignored.tolist() == [0b1111111111, 0, 0], "half of the area is not enough"
    assert evaluation.figures()["AP"] == pytest.approx(0.5)
    assert evaluation.reported.tolist() == [2]
    within = count((labels([FAR], ignored=ignored), found([FAR], [0.9])))
    assert within.figures()["AP"] == pytest.approx(1), "a correct person in an ignored region is correct"


def test_reported_people_from_the_threshold_and_labels_are_counted():
    evaluation = count(
        (labels([A, B, FAR]), found([A, B, FAR], [0.9, 0.4, 0.39])),
        (labels(np.zeros((0, 2, 2))), found([A], [0.5])),
        (labels([A]), no_people(2)),
        person_threshold=0.4,
    )
    assert evaluation.reported.tolist() == [2, 1, 0]
    assert evaluation.labelled.tolist() == [3, 0, 1]
    assert evaluation.reported_per_frame == 1
    assert evaluation.labelled_per_frame == pytest.approx(4 / 3)


def test_figures_are_nan_without_labels_and_zero_without_predictions():
    none = count((labels(np.zeros((0, 2, 2))), no_people(2)))
    assert all(math.isnan(value) for value in none.figures().values())
    assert set(none.intervals().values()) == {None}
    assert set(count((labels([A]), no_people(2))).figures().values()) == {0}


def test_the_order_of_people_changes_nothing():
    frame, people = random_frames(1, 11)[0]
    order = np.random.default_rng(0).permutation(len(people))
    both = people, people.chosen(order)
    one, other = (match_people(each, frame, COCO17, np.ones(17, bool))["any"] for each in both)
    for name in ("scores", "right", "ignored"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_evaluations_merge_and_round_trip_through_json():
    frames = random_frames(6, 3)
    together = count(*frames, skeleton=COCO17)
    parts = count(*frames[:2], skeleton=COCO17), count(*frames[2:], skeleton=COCO17)
    for same in (parts[0].merged(parts[1]), PeopleEvaluation.model_validate_json(together.model_dump_json())):
        assert same.model_dump_json() == together.model_dump_json()
        assert same.figures() == together.figures()
    with pytest.raises(DataError, match="different person_threshold"):
        together.merged(count(*frames, skeleton=COCO17, person_threshold=0.7))
    for damage in ({"scores": [0.5]}, {"labelled": [1]}, {"right": together.right[:-1]}):
        with pytest.raises(ValueError, match="people"):
            PeopleEvaluation.model_validate(together.model_dump() | damage)


def test_frames_with_few_and_many_people_have_separate_figures():
    crowd = [[[20 * i, 100], [20 * i + 10, 100]] for i in range(8)]
    few, many = (labels([A]), found([A], [0.9])), (labels(crowd), found(crowd[:2], [0.9, 0.8]))
    evaluation = count(few, many, few)
    groups = evaluation.groups
    assert list(groups) == ["any", "at most 6", "more than 6"]
    assert [len(group.labelled) for group in groups.values()] == [3, 2, 1]
    assert groups["at most 6"].figures()["AP"] == 1
    assert groups["more than 6"].figures()["AR"] == pytest.approx(2 / 8)
    assert groups["more than 6"].intervals()["AP"] is None, "a single sequence"
    assert list(count(few).groups) == ["any"]
    # A sequence with frames of both groups is resampled as a whole.
    tally = PeopleTally(PAIR)
    tally.begin(BOTH_JOINTS)
    for frame, people in (few, many, few):
        tally.count(frame, people)
    assert tally.result().with_labelled(at_most=6).frames.tolist() == [2]


def test_two_networks_are_compared_on_the_same_draws():
    random = np.random.default_rng(2)
    frames = [labels([A, B]) for _ in range(40)]
    # Theirs misses B in half of the frames; ours misses B in most of these frames.
    missed = random.random(40) < 0.5
    fewer = missed & (random.random(40) < 0.6)

    def finding(missing: NDArray) -> PeopleEvaluation:
        people = (found([A] if miss else [A, B], [0.9, 0.8][: 2 - miss]) for miss in missing.astype(int))
        return count(*zip(frames, people, strict=True))

    ours, theirs = finding(fewer), finding(missed)
    compared = compare_people(ours, theirs)
    assert compared.ap == ours.figures()["AP"]
    assert compared.difference == compared.ap - compared.other_ap > 0
    assert compared.ratio == compared.ap / compared.other_ap
    low, high = compared.difference_interval or (0, 0)
    ratio_low, _ = compared.ratio_interval or (0, 0)
    assert 0 < low < compared.difference < high
    assert ratio_low > 1
    apart = (ours.intervals()["AP"] or (0, 0))[0] - (theirs.intervals()["AP"] or (0, 0))[1]
    assert low > apart, "the paired interval is narrower than the networks' own intervals suggest"
    with pytest.raises(DataError, match="different frames"):
        compare_people(ours, count((labels([A]), no_people(2))))
    nothing = compare_people(ours, count(*((frame, no_people(2)) for frame in frames)))
    assert math.isnan(nothing.ratio)
