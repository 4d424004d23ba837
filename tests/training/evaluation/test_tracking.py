import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from stm_skeletons.people import People, no_people
from training.data.sequence import Sequence, SequenceFrame
from training.evaluation.head_sizes import HEAD_OF_BOX, head_sizes, match_poses
from training.evaluation.tracking import TrackingEvaluation, TrackingTally, has_tracks
from training.evaluation.tracks import Tracks

WIDTH, HEIGHT = 448, 256
BOTH_JOINTS = np.ones(2, bool)
HEAD = 20.0  # so a joint is correct within 10 pixels
A, B, FAR = [[50, 50], [80, 50]], [[200, 100], [230, 100]], [[400, 200], [430, 200]]


def shifted(pose: Any, x: float) -> list:
    return [[px + x, py] for px, py in pose]


def labels(poses: Any, tracks: Any, heads: Any = HEAD, ignored: NDArray | None = None) -> SequenceFrame:
    """A frame with these people [P, 2, 2 or 3]; their visibility marks the labelled joints."""
    poses = np.asarray(poses, np.float32)
    if poses.shape[-1] != 3:
        poses = np.concatenate([poses[..., :2], np.ones((len(poses), 2, 1), np.float32)], axis=-1)
    inside = poses[..., 2] == 1
    (left, top), (right, bottom) = poses[..., :2].min(1).T, poses[..., :2].max(1).T + 40
    corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=-1).reshape(-1, 4, 2)
    cells = np.zeros((HEIGHT // 4, WIDTH // 4), bool) if ignored is None else ignored
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    sizes = np.full(len(poses), heads, np.float32)
    return SequenceFrame(
        image, poses, inside, np.zeros_like(inside), corners, None, cells, np.array(tracks, int), heads=sizes
    )


def found(poses: Any, ids: Any, scores: Any = 0.9, joint_scores: Any = 0.5) -> People:
    """People with these joints [M, 2, 2]; joints with a score of 0 are not found."""
    poses = np.asarray(poses, np.float32)
    of_joints = np.broadcast_to(np.asarray(joint_scores, np.float32), poses.shape[:2])[..., None]
    keypoints = np.concatenate([np.where(of_joints > 0, poses, 0), of_joints], axis=-1)
    peaks = np.where(keypoints[..., 2] > 0, np.arange(len(poses))[:, None], -1)
    return People(np.full(len(poses), scores, np.float32), keypoints, peaks, np.array(ids, int))


def count(*videos: list[tuple[SequenceFrame, People]], threshold: float = 0.3, sourced: Any = BOTH_JOINTS) -> Any:
    tally = TrackingTally(2, threshold)
    for video in videos:
        tally.begin(sourced)
        for frame, people in video:
            tally.count(frame, people)
    return tally.result()


def test_average_precision_worked_by_hand():
    # Two people are labelled, three found. The first found one has A's first joint correct (score 0.9), the second 11
    # pixels off (0.8). The second has both joints of B correct, 9 and 0 pixels off (0.5 and 0.6). The third also has
    # A's first joint correct (0.7), the second far off (0.3). Both have half of A, so the first keeps A, and the third
    # matches no label: both its joints are wrong.
    # First joint: correct 0.9, wrong 0.7, correct 0.5, for 2 labels. Precision is 1 up to a recall of 1/2, 2/3 up to 1:
    # AP = 1/2 * 1 + 1/2 * 2/3 = 5/6.
    # Second joint: wrong 0.8, correct 0.6, wrong 0.3. Precision is 1/2 up to a recall of 1/2: AP = 1/4.
    first, second, third = [A[0], [91, 50]], [[209, 100], B[1]], [A[0], FAR[1]]
    people = found([first, second, third], [1, 2, 3], joint_scores=[[0.9, 0.8], [0.5, 0.6], [0.7, 0.3]])
    tracking = count([(labels([A, B], [1, 2]), people)])
    assert tracking.labels.tolist() == [2, 2]
    np.testing.assert_allclose(tracking.joint_ap(), [5 / 6, 1 / 4])
    assert tracking.ap() == pytest.approx(13 / 24)


def test_mota_and_switches_worked_by_hand():
    # Two people, each of two joints, over four frames: 8 labels of each joint.
    video = [
        # Both are found, with ids 5 and 6.
        (labels([A, B], [1, 2]), found([A, B], [5, 6])),
        # B is missed, and a person is found where there is none: 1 miss, 1 false positive.
        (labels([A, B], [1, 2]), found([A, FAR], [5, 7])),
        # Their ids are swapped: 2 switches.
        (labels([A, B], [1, 2]), found([A, B], [6, 5])),
        # A has no id, so it is found without a switch. B keeps id 5.
        (labels([A, B], [1, 2]), found([A, B], [0, 5])),
    ]
    tracking = count(video)
    # MOTA = 1 - (1 + 1 + 2) / 8.
    np.testing.assert_allclose(tracking.joint_mota(), [0.5, 0.5])
    assert tracking.mota() == 0.5
    assert tracking.joint_counts() == {"objects": 16, "misses": 2, "false_positives": 2, "switches": 4}
    expected = {"labelled": 8, "found": 7, "without_id": 1, "switches": 2, "estimated_heads": 0}
    assert tracking.person_counts() == expected


def update(tracks: Tracks, tracked: list[int], ids: list[int], distances: list[list[float]]) -> tuple:
    shape = len(tracked), len(ids)
    return tracks.update(np.array(tracked, int), np.array(ids, int), np.array(distances, float).reshape(shape))


def test_person_keeps_its_id_while_within_reach():
    tracks, none = Tracks(), math.inf
    assert update(tracks, [1], [5], [[0.1]]) == (0, 0, 0)
    assert update(tracks, [1], [9, 5], [[0.01, 0.4]]) == (0, 1, 0), "9 is closer, but was not there before"
    assert update(tracks, [1], [], []) == (1, 0, 0)
    assert update(tracks, [1], [9, 5], [[0.01, none]]) == (0, 1, 1), "5 is out of reach"
    assert update(tracks, [1], [5], [[0.1]]) == (0, 0, 1), "found again with its last id"
    # Both can be matched only if one of them does not take its closest label.
    assert update(Tracks(), [1, 2], [7, 8], [[0.1, 0.4], [0.2, none]]) == (0, 0, 0)
    assert update(tracks, [], [3], []) == (0, 1, 0)


def test_missing_ids_and_tracks_never_count_as_switches():
    tracks = Tracks()
    for person_id, switched in ((5, 0), (0, 0), (5, 0), (0, 0), (6, 1)):
        assert update(tracks, [1], [person_id], [[0.1]]) == (0, 0, switched)
    for person_id in (5, 6):
        assert update(tracks, [-1], [person_id], [[0.1]]) == (0, 0, 0), "the label has no track"


def test_label_goes_to_the_one_person_with_most_correct_joints():
    frame = labels([A, B], [1, 2])
    half, whole, none = [A[0], FAR[1]], shifted(A, 3), FAR
    matches = match_poses(found([half, whole, none], [1, 2, 3]), np.ones((3, 2), bool), frame, BOTH_JOINTS)
    assert matches.of_label.tolist() == [1, -1]
    assert matches.right.tolist() == [[False, False], [True, True], [False, False]]
    # A person closer to another label gives up this one, even if no other person matches it.
    both = [[80, 50], [200, 100]]
    two = labels([[[80, 50], [110, 50]], [[80, 50], [200, 100]]], [1, 2])
    assert match_poses(found([both], [1]), np.ones((1, 2), bool), two, BOTH_JOINTS).of_label.tolist() == [-1, 0]


def test_mota_counts_only_reported_people_and_found_joints_but_ap_counts_all():
    placed = found([A], [1])
    placed = People(placed.scores, placed.keypoints, np.array([[0, -1]]), placed.ids)
    unsure = found([A], [1], scores=0.2)
    none = found([A], [1], scores=0.04)
    frame = labels([A], [1])
    assert count([(frame, placed)]).joint_mota().tolist() == [1, 0], "a placed joint is not counted as found"
    assert count([(frame, unsure)]).joint_mota().tolist() == [0, 0]
    for people in (placed, unsure):
        assert count([(frame, people)]).ap() == 1
    assert count([(frame, none)]).ap() == 0


def test_joints_in_ignored_regions_do_not_count():
    ignored = np.zeros((HEIGHT // 4, WIDTH // 4), bool)
    ignored[:, 90:] = True
    frame = labels([A, FAR], [1, 2], ignored=ignored)
    tracking = count([(frame, found([A, shifted(FAR, 5)], [1, 2]))])
    assert (tracking.ap(), tracking.mota()) == (1, 1)
    assert tracking.joint_counts()["objects"] == 2
    assert tracking.person_counts()["labelled"] == 1


def test_joints_that_the_data_never_label_have_no_figures():
    frame = labels([A], [1])
    tracking = count([(frame, found([A], [1]))], sourced=np.array([True, False]))
    assert tracking.joint_ap()[0] == tracking.joint_mota()[0] == tracking.ap() == tracking.mota() == 1
    assert math.isnan(tracking.joint_ap()[1])
    assert math.isnan(tracking.joint_mota()[1])


def test_frames_without_labels_or_predictions_are_counted():
    empty = labels(np.zeros((0, 2, 3)), [])
    tracking = count([(empty, found([A], [1])), (labels([A], [1]), no_people(2)), (empty, no_people(2))])
    assert tracking.joint_counts() == {"objects": 2, "misses": 2, "false_positives": 2, "switches": 0}
    assert tracking.mota() == -1
    assert tracking.ap() == 0
    assert math.isnan(count([(empty, found([A], [1]))]).mota())


def test_missing_head_size_is_estimated_and_counted():
    frame = labels([A, B], [1, 2], heads=[HEAD, np.nan])
    sizes, estimated = head_sizes(frame)
    # B's box has 70 x 40 pixels.
    np.testing.assert_allclose(sizes, [HEAD, HEAD_OF_BOX * math.sqrt(70 * 40)])
    assert estimated.tolist() == [False, True]
    assert count([(frame, no_people(2))]).person_counts()["estimated_heads"] == 1


def test_sequence_has_tracks_if_any_person_has_a_track_id():
    frame, unknown = labels([A], [3]), labels([A], [-1])
    assert has_tracks(Sequence("", (unknown, frame), BOTH_JOINTS))
    assert not has_tracks(Sequence("", (unknown, unknown), BOTH_JOINTS))
    assert TrackingTally(2).result() is None


def test_evaluations_merge_and_round_trip_through_json():
    swapped = [
        (labels([A, B], [1, 2]), found([A, B], [5, 6])),
        (labels([A, B], [1, 2]), found([A, B], [6, 5])),
    ]
    steady = [(labels([A], [1]), found([A], [5])), (labels([A], [1]), found([shifted(A, 4)], [5]))]
    together, parts = count(swapped, steady), [count(swapped), count(steady)]
    assert together.person_counts()["switches"] == 2, "ids of different videos are unrelated"
    for same in (parts[0].merged(parts[1]), TrackingEvaluation.model_validate_json(together.model_dump_json())):
        assert same.model_dump_json() == together.model_dump_json()
        assert same.mota() == together.mota() == pytest.approx(1 - 2 / 6)
    assert together.mota_interval == (0.5, 1), "a resample may hold either video twice"
    assert parts[0].mota_interval is None
    with pytest.raises(DataError, match="different person_threshold"):
        together.merged(count(swapped, threshold=0.5))
    for damage in ({"joints": together.joints[:1]}, {"right": together.right[:, :5]}):
        with pytest.raises(ValueError, match="joints"):
            TrackingEvaluation.model_validate(together.model_dump() | damage)
