import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_skeletons import schema
from stm_skeletons.parts import PartsLine, assemble_parts
from stm_skeletons.skeleton import COCO17

SIZE = (200, 100)
SHOULDERS = COCO17.edge_names.index("left_shoulder-right_shoulder")
LEFT, RIGHT = COCO17.joints.index("left_shoulder"), COCO17.joints.index("right_shoulder")


def two_people() -> tuple[np.ndarray, np.ndarray]:
    peaks = np.zeros((17, 3, 3), np.float32)
    peaks[LEFT, :2] = [(50, 40, 0.9), (150, 40.04, 0.8)]
    peaks[RIGHT, :2] = [(130, 40, 0.7), (30, 40, 0.6)]
    edges = np.zeros((19, 3, 3), np.float32)
    edges[SHOULDERS, :2, :2] = [[0.5, 0.9], [0.8, 0.7]]
    return peaks, edges


def test_joints_are_paired_one_to_one_best_first():
    parts = assemble_parts(COCO17, SIZE, *two_people(), keypoint_threshold=0.3, edge_threshold=0.3)
    line = parts.to_dict(7, 0.28)
    assert line["keypoints"]["left_shoulder"] == [[50, 40, 0.9], [150, 40, 0.8]]
    assert line["edges"]["left_shoulder-right_shoulder"] == [[50, 40, 30, 40, 0.9], [150, 40, 130, 40, 0.8]]
    assert line["frame"] == 7
    assert line["size"] == [200, 100]


def test_thresholds_and_the_frame_limit_what_is_kept():
    peaks, edges = two_people()
    peaks[0, 0] = (-3, 40, 0.99)
    peaks[1, 0] = (100, 100.5, 0.99)
    parts = assemble_parts(COCO17, SIZE, peaks, edges, keypoint_threshold=0.65, edge_threshold=0.95)
    assert sorted(parts.keypoint_scores.tolist()) == pytest.approx([0.7, 0.8, 0.9])
    assert len(parts.edge_types) == 0
    # The edge to the shoulder that was dropped must not come back at a lower threshold.
    parts = assemble_parts(COCO17, SIZE, peaks, edges, keypoint_threshold=0.65, edge_threshold=0.3)
    assert parts.edge_scores.tolist() == pytest.approx([0.8])


def test_every_name_is_present_in_an_empty_frame():
    nothing = np.zeros((17, 3, 3), np.float32), np.zeros((19, 3, 3), np.float32)
    line = json.loads(assemble_parts(COCO17, SIZE, *nothing, 0.3, 0.3).to_json_line(0, 0.0))
    assert line["keypoints"] == {name: [] for name in COCO17.joints}
    assert line["edges"] == {name: [] for name in COCO17.edge_names}


def test_the_shipped_schema_is_the_models_and_is_valid():
    assert schema.FILE.read_text() == schema.schema_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.schema_text()))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_lines_obey_the_schema_and_edges_join_reported_keypoints(seed, keypoint_threshold, edge_threshold):
    random = np.random.default_rng(seed)
    peaks = random.uniform(0, 1, (17, 5, 3)).astype(np.float32) * (220, 110, 1)
    edges = random.uniform(0, 1, (19, 5, 5)).astype(np.float32)
    parts = assemble_parts(COCO17, SIZE, peaks, edges, keypoint_threshold, edge_threshold)
    text = parts.to_json_line(3, 1.23456)
    assert "\n" not in text
    line = json.loads(text)
    jsonschema.validate(line, json.loads(schema.schema_text()))
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
