import json
import sys
import time

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_skeletons.errors import LibraryError
from stm_skeletons.parts import Parts, PartsLine, assemble_parts
from stm_skeletons.people import People, no_people
from stm_skeletons.skeleton import COCO17

SIZE = (200, 100)
SHOULDERS = COCO17.edge_names.index("left_shoulder-right_shoulder")
LEFT, RIGHT = COCO17.joints.index("left_shoulder"), COCO17.joints.index("right_shoulder")


def two_people() -> tuple[np.ndarray, np.ndarray, People]:
    """Peaks, edge scores and people: each has two shoulders, the second also a predicted nose."""
    peaks = np.zeros((17, 3, 3), np.float32)
    peaks[LEFT, :2] = [(50, 40, 0.9), (150, 40.04, 0.8)]
    peaks[RIGHT, :2] = [(130, 40, 0.7), (30, 40, 0.6)]
    edges = np.zeros((19, 3, 3), np.float32)
    edges[SHOULDERS, :2, :2] = [[0.5, 0.9], [0.8, 0.7]]
    keypoints, chosen = np.zeros((2, 17, 3), np.float32), np.full((2, 17), -1)
    keypoints[0, [LEFT, RIGHT]], chosen[0, [LEFT, RIGHT]] = peaks[[LEFT, RIGHT], [0, 1]], (0, 1)
    keypoints[1, [LEFT, RIGHT]], chosen[1, [LEFT, RIGHT]] = peaks[[LEFT, RIGHT], [1, 0]], (1, 0)
    keypoints[1, 0] = (140, 20.26, 0.0504)
    return peaks, edges, People(np.array([0.75, 0.5], np.float32), keypoints, chosen, np.array([3, 0]))


def random_scene(seed: int, count: int = 5) -> tuple[np.ndarray, np.ndarray, People]:
    """A peak of each joint for every person; people have some of these joints, others are predicted, some outside."""
    random = np.random.default_rng(seed)
    peaks = (random.uniform(0, 1, (17, count, 3)) * (220, 110, 1)).astype(np.float32)
    edges = random.uniform(0, 1, (19, count, count)).astype(np.float32)
    chosen = np.array([random.permutation(count) for _ in range(17)]).T
    chosen[random.random(chosen.shape) < 0.3] = -1
    keypoints = (random.uniform(-0.2, 1.2, (count, 17, 3)) * (*SIZE, 0.1)).astype(np.float32)
    keypoints[keypoints[..., 2] <= 0] = 0
    person, joint = np.nonzero(chosen >= 0)
    keypoints[person, joint] = peaks[joint, chosen[person, joint]]
    ids = random.integers(0, 9, count)
    return peaks, edges, People(random.uniform(0, 1, count).astype(np.float32), keypoints, chosen, ids)


def assembled(scene: tuple[np.ndarray, np.ndarray, People], keypoints: float = 0.3, edges: float = 0.3) -> Parts:
    return assemble_parts(COCO17, SIZE, *scene, keypoint_threshold=keypoints, edge_threshold=edges)


def test_joints_are_paired_one_to_one_best_first():
    line = assembled(two_people()).to_dict(7, 0.28)
    assert line["keypoints"]["left_shoulder"] == [[50, 40, 0.9], [150, 40, 0.8]]
    assert line["edges"]["left_shoulder-right_shoulder"] == [[50, 40, 30, 40, 0.9], [150, 40, 130, 40, 0.8]]
    assert line["frame"] == 7
    assert line["time"] == 0.28
    assert line["size"] == [200, 100]


def test_parts_below_thresholds_or_outside_the_frame_are_dropped():
    peaks, edges, people = two_people()
    peaks[0, 0] = (-3, 40, 0.99)
    peaks[1, 0] = (100, 100.5, 0.99)
    parts = assembled((peaks, edges, people), 0.65, 0.95)
    assert sorted(parts.keypoint_scores.tolist()) == pytest.approx([0.7, 0.8, 0.9])
    assert len(parts.edge_types) == 0
    # The edge to the shoulder that was dropped must not come back at a lower threshold.
    parts = assembled((peaks, edges, people), 0.65, 0.3)
    assert parts.edge_scores.tolist() == pytest.approx([0.8])


def test_every_keypoint_knows_its_owner():
    peaks, edges, people = two_people()
    peaks[2, 0] = (10, 10, 0.9)
    parts = assembled((peaks, edges, people))
    assert parts.keypoint_types.tolist() == [2, LEFT, LEFT, RIGHT, RIGHT]
    assert parts.owners.tolist() == [-1, 0, 1, 1, 0]
    assert assembled((peaks, edges, no_people(17))).owners.tolist() == [-1] * 5


def test_line_has_people_with_ids_boxes_and_keypoints():
    first, second = assembled(two_people()).to_dict(0, 0)["people"]
    assert {name: first[name] for name in ("id", "score", "box", "predicted")} == {
        "id": 3,
        "score": 0.75,
        "box": [30, 40, 20, 0],
        "predicted": [],
    }
    assert first["keypoints"] == [
        [50, 40, 0.9] if i == LEFT else [30, 40, 0.6] if i == RIGHT else [0, 0, 0] for i in range(17)
    ]
    assert second["id"] is None
    assert second["predicted"] == [0]
    assert second["keypoints"][0] == [140, 20.3, 0.05]
    assert second["box"] == [130, 40, 20, 0], "predicted joints do not count"


def test_every_name_is_present_in_an_empty_frame():
    nothing = np.zeros((17, 3, 3), np.float32), np.zeros((19, 3, 3), np.float32), no_people(17)
    line = json.loads(assembled(nothing).to_json_line(0, 0.0))
    assert line["version"] == 2
    assert line["keypoints"] == {name: [] for name in COCO17.joints}
    assert line["edges"] == {name: [] for name in COCO17.edge_names}
    assert line["people"] == []
    jsonschema.validate(line, PartsLine.model_json_schema())


def test_schema_refuses_other_versions_and_invalid_lines():
    line = assembled(two_people()).to_dict(0, 0.0)
    validator = jsonschema.Draft202012Validator(PartsLine.model_json_schema())
    assert validator.is_valid(line)
    for change in ({"version": 1}, {"people": [{"left_wrist": 0}]}, {"more": 1}):
        assert not validator.is_valid(line | change)
    assert not validator.is_valid({name: value for name, value in line.items() if name != "version"})
    for person in ({"id": 0}, {"id": "7"}, {"score": 2}, {"box": [1, 2, 3]}, {"keypoints": [[1, 2]]}):
        assert not validator.is_valid(line | {"people": [line["people"][0] | person]})


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_lines_obey_the_schema_and_edges_join_reported_keypoints(seed, keypoint_threshold, edge_threshold):
    parts = assembled(random_scene(seed), keypoint_threshold, edge_threshold)
    text = parts.to_json_line(3, 1.23456)
    assert "\n" not in text
    line = json.loads(text)
    jsonschema.validate(line, PartsLine.model_json_schema())
    PartsLine.model_validate(line)
    for name, found in line["edges"].items():
        first, second = name.split("-")
        used: list[list[float]] = []
        for x1, y1, x2, y2, _ in found:
            assert [x1, y1] in [point[:2] for point in line["keypoints"][first]]
            assert [x2, y2] in [point[:2] for point in line["keypoints"][second]]
            used.append([x1, y1])
        assert len(used) <= len(line["keypoints"][first])
    numbers = [value for points in line["keypoints"].values() for point in points for value in point]
    assert all(round(value, 3) == value for value in numbers)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_people_in_lines_equal_people_in_parts(seed: int):
    parts = assembled(random_scene(seed))
    people, line = parts.people, parts.to_dict(0, 0.0)
    assert [person["id"] or 0 for person in line["people"]] == people.ids.tolist()
    assert [person["predicted"] for person in line["people"]] == [
        np.flatnonzero(row).tolist() for row in people.predicted
    ]
    np.testing.assert_allclose([person["score"] for person in line["people"]], people.scores, atol=0.0006)
    np.testing.assert_allclose([person["box"] for person in line["people"]], people.boxes(), atol=0.06)
    given_keypoints = np.array([person["keypoints"] for person in line["people"]])
    np.testing.assert_allclose(given_keypoints, people.keypoints, atol=0.06)
    np.testing.assert_allclose(given_keypoints[..., 2], people.keypoints[..., 2], atol=0.0006)
    # A point of the network is the same point in the line, as a keypoint and as a person's joint.
    for kind, owner in zip(parts.keypoint_types, parts.owners, strict=True):
        if owner >= 0:
            assert line["people"][owner]["keypoints"][kind] in line["keypoints"][COCO17.joints[kind]]


def test_line_of_30_people_takes_under_2_ms():
    parts = assembled(random_scene(0, count=30), 0, 0)
    assert len(parts.edge_types) > 400
    assert len(parts.to_dict(0, 0)["people"]) == 30
    shortest = np.inf
    for _ in range(200):  # the fastest of many, in CPU time of this thread: the machine has other work
        started = time.thread_time()
        parts.to_json_line(0, 0.0)
        shortest = min(shortest, time.thread_time() - started)
    print(f"a line of 30 people with {len(parts.edge_types)} edges: {1e3 * shortest:.2f} ms")
    assert shortest < 2e-3  # 0.8 ms on the author's machine


def test_people_are_converted_to_supervision_objects():
    sv = pytest.importorskip("supervision")
    parts = assembled(two_people())
    keypoints, detections = parts.to_supervision()
    assert isinstance(keypoints, sv.KeyPoints)
    assert isinstance(detections, sv.Detections)
    np.testing.assert_array_equal(keypoints.xy, parts.people.keypoints[..., :2])
    np.testing.assert_array_equal(keypoints.keypoint_confidence, parts.people.keypoints[..., 2])
    np.testing.assert_array_equal(keypoints.visible, parts.people.found)
    np.testing.assert_allclose(detections.xyxy, [[30, 40, 50, 40], [130, 40, 150, 40.04]])
    assert detections.confidence is not None
    assert detections.confidence.tolist() == keypoints.detection_confidence.tolist() == [0.75, 0.5]
    assert detections.tracker_id is not None
    assert detections.tracker_id.tolist() == [3, -1], "the second has no id yet"
    frame = np.zeros((100, 200, 3), np.uint8)
    edges = [(a + 1, b + 1) for a, b in COCO17.edges]
    assert sv.EdgeAnnotator(edges=edges).annotate(frame.copy(), keypoints).any()
    traces = sv.TraceAnnotator()
    for _ in range(2):
        traces.annotate(frame.copy(), detections)
    without_people = assembled((*two_people()[:2], no_people(17))).to_supervision()
    assert [len(found) for found in without_people] == [0, 0]


def test_missing_supervision_is_refused_with_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(LibraryError, match=r"needs supervision; pip install 'stm-skeletons\[supervision\]'"):
        assembled(two_people()).to_supervision()
