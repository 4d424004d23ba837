"""Networks compared with their controls, and thresholds from other data."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from export.synthetic_frames import synthetic_frames
from stm_skeletons.errors import DataError
from stm_skeletons.maps import SKELETON_CHANNEL, render_maps
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17
from stm_skeletons.tracker import Tracker
from training.data.held_out import held_out_sequences
from training.data.open import open_data
from training.evaluation.candidates import Candidate, candidate_from_weights, evaluate_candidates
from training.evaluation.conditions import Conditions
from training.evaluation.controls import AffineMaps, Hold, Mean, WithoutMemory, with_rule
from training.evaluation.evaluate import evaluate
from training.evaluation.keypoints import MATCHINGS, THRESHOLDS
from training.evaluation.report import Report
from training.evaluation.report_files import report_markdown, write_report
from training.model import Edge, ModelConfig, build
from training.model.session import TorchSession
from training.model.weights import load_weights, save_weights

WIDTH, HEIGHT = 160, 96
POSE = np.array([(16 + 30 * (i % 5), 12 + 24 * (i // 5), 1) for i in range(17)], np.float32)


def assert_one_line(line: str) -> None:
    """Check that the message is one line."""
    assert "\n" not in line


class TrackerWithMemory:
    """Finds the person in the first frame after a reset only if it was seeded, later always."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._seen = False

    def seed(self, poses: np.ndarray) -> None:
        self._seen = len(poses) > 0

    def step(self, frame: np.ndarray) -> None:
        self._maps = render_maps(POSE[None], COCO17, frame.shape[:2]) * np.float32(0.5 + 0.4 * self._seen)
        self._seen = True

    def maps(self) -> np.ndarray:
        return self._maps

    def people(self) -> People | None:
        """The person, with a score that memory raises and a constant id."""
        score = np.float32(self._maps[1:18].max())
        return People(np.array([score]), POSE[None], np.zeros((1, 17), int), np.ones(1, int))


def candidate(name: str = "edge", **changes) -> Candidate:
    defaults = {"channels": COCO17.channels, "size": (WIDTH, HEIGHT), "holdout": (0.5, 0)}
    return Candidate(name, TrackerWithMemory(), COCO17, **{**defaults, **changes})


@pytest.fixture
def footage(tmp_path: Path) -> Callable[[int], Path]:
    """Creates two videos of twelve frames. The same person is labelled in every nth frame."""

    def make(every: int) -> Path:
        folder = tmp_path / f"every{every}"
        for name in ("one", "two"):
            video = folder / name
            video.mkdir(parents=True)
            for number, image in enumerate(synthetic_frames(HEIGHT, WIDTH, 12)):
                cv2.imwrite(str(video / f"{number:03}.png"), image)
            labelled = range(0, 12, every)
            size = {"width": WIDTH, "height": HEIGHT}
            images = [{"id": i, "frame_id": i, "file_name": f"{name}/{i:03}.png", **size} for i in labelled]
            person = {"bbox": [10, 5, 140, 86], "keypoints": POSE.ravel().tolist(), "category_id": 1}
            content = {
                "images": images,
                "annotations": [
                    # Another track from frame 8 on: a person who walks in.
                    {**person, "id": i, "image_id": i, "track_id": int(i >= 8)}
                    for i in labelled
                ],
                "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
            }
            (folder / f"{name}.json").write_text(json.dumps(content))
        return folder

    return make


def test_each_network_gets_two_control_rows(footage: Callable[[int], Path]):
    conditions = Conditions(start="cold", controls=True)
    report = evaluate_candidates([candidate(), candidate("other")], "footage", footage(1), conditions, assert_one_line)
    rows = ["edge", "edge, without memory", "edge, affine", "other", "other, without memory", "other, affine"]
    assert list(report.evaluations) == rows
    assert report.without_memory == {name: f"{name.split(',')[0]}, without memory" for name in rows}
    assert report.title == "edge, other on footage"
    found = [report.evaluations[name].at(0.7, "closest").recall for name in rows[:3]]
    assert found == [11 / 12, 0, 0]
    for name in rows:
        assert name in report_markdown(report)
        steadiness = report.evaluations[name].steadiness
        assert steadiness is not None
        assert [(one.track, one.first) for one in steadiness.walk_ins] == [(1, 8)], "tracks come from the labels"


def test_affine_control_starts_with_the_seed(footage: Callable[[int], Path]):
    report = evaluate_candidates(
        [candidate()], "footage", footage(1), Conditions(start="seed", controls=True), assert_one_line
    )
    recalls = {name: evaluation.at(0.7, "closest").recall for name, evaluation in report.evaluations.items()}
    assert recalls["edge"] == 1
    assert recalls["edge, without memory"] == 0
    assert recalls["edge, affine"] > 0, "the seed of the first frame is still found"


def test_edge_weights_add_rows_with_fixed_rules_equal_to_separate_runs(
    edge_weights: Path, footage: Callable[[int], Path]
):
    path = footage(1)
    candidate = candidate_from_weights(edge_weights, (WIDTH, HEIGHT), slots=4, every=2)
    conditions = Conditions(frames=6, controls=True)
    report = evaluate_candidates([candidate], "footage", path, conditions, assert_one_line)
    model, _ = load_weights(edge_weights)
    assert isinstance(model, Edge)

    def session(network: Edge = model) -> TorchSession:
        return TorchSession(network, 4, 2)

    separate = {
        "edge": session(),
        "edge, without memory": WithoutMemory(session()),
        "edge, mean": session(with_rule(model, Mean())),
        "edge, hold": session(with_rule(model, Hold())),
        "edge, affine": AffineMaps(WithoutMemory(session()), COCO17, COCO17.channels),
    }
    assert list(report.evaluations) == list(separate)
    assert report.without_memory == dict.fromkeys(separate, "edge, without memory")
    data = open_data("footage", path, "val", COCO17, *candidate.holdout)
    found = {}
    for name, tracker in separate.items():
        sequences = held_out_sequences(data, (WIDTH, HEIGHT), 6)
        expected = evaluate(tracker, sequences, COCO17, COCO17.channels, "cold", every_frame=True)
        found[name] = expected.model_dump_json()
        assert report.evaluations[name].model_dump_json() == found[name], name
    assert len(set(found.values())) == 5, "the rows differ"


def test_other_networks_have_no_rows_with_fixed_rules(footage: Callable[[int], Path]):
    model = build(ModelConfig(variant="resnet50", width=0.0625)).eval()
    small = Candidate("small", TorchSession(model), COCO17, COCO17.channels, (WIDTH, HEIGHT), (0.5, 0))
    report = evaluate_candidates(
        [small], "footage", footage(1), Conditions(controls=True, sequences=1), assert_one_line
    )
    assert list(report.evaluations) == ["small", "small, without memory", "small, affine"]


def test_report_has_people_and_tracks_and_starts_cold(footage: Callable[[int], Path]):
    unsure = candidate(person_threshold=0.6)
    report = evaluate_candidates([unsure], "footage", footage(1), Conditions(controls=True), assert_one_line)
    evaluation = report.evaluations["edge"]
    assert evaluation.start == "cold"
    assert evaluation.people is not None
    assert evaluation.people.labelled_per_frame == 1
    assert evaluation.people.reported_per_frame == 11 / 12, "in the first frame the score is lower"
    assert evaluation.people.figures()["AP"] > 0.9
    alone = report.evaluations["edge, without memory"]
    assert alone.people is not None
    assert alone.people.reported_per_frame == 0
    assert report.evaluations["edge, affine"].people is None
    assert evaluation.tracking is not None
    # The labels change the person's track at frame 8, so the tracker is right to keep the id.
    assert evaluation.tracking.person_counts()["switches"] == 0
    assert evaluation.tracking.mota() == pytest.approx(11 / 12)
    text = report_markdown(report)
    for expected in ("## People", "## Tracking", "## edge: tracking by joint", "score at least 0.6", "(cold)"):
        assert expected in text
    assert "as in the paper" not in text


def test_networks_without_keypoint_maps_have_no_controls(footage: Callable[[int], Path]):
    class Flat(TrackerWithMemory):
        def maps(self) -> np.ndarray:
            return self._maps[1:].max(axis=0, keepdims=True)

        def people(self) -> None: ...

    flat = Candidate("stm", Flat(), COCO17, (SKELETON_CHANNEL,), (WIDTH, HEIGHT), (0.5, 0))
    report = evaluate_candidates([flat], "footage", footage(1), Conditions(controls=True), assert_one_line)
    assert list(report.evaluations) == ["stm"]
    assert report.without_memory == {}


def test_partly_labelled_videos_have_a_message_instead_of_flicker(footage: Callable[[int], Path]):
    messages: list[str] = []
    report = evaluate_candidates([candidate()], "footage", footage(2), Conditions(), messages.append)
    assert report.evaluations["edge"].steadiness is None
    assert sum("flicker and walk-ins are not computed" in line for line in messages) == 1
    messages.clear()
    evaluate_candidates([candidate()], "footage", footage(1), Conditions(), messages.append)
    assert not any("flicker" in line for line in messages)


@pytest.fixture
def earlier_report(footage: Callable[[int], Path], tmp_path: Path) -> Path:
    report = evaluate_candidates([candidate()], "footage", footage(1), Conditions(controls=True), assert_one_line)
    write_report(report, tmp_path / "earlier")
    return tmp_path / "earlier" / "report.json"


def evaluate_with_thresholds(path: Path, data: Path, controls: bool = True, name: str = "edge") -> Report:
    conditions = Conditions(start="cold", thresholds=path, controls=controls)
    return evaluate_candidates([candidate(name)], "footage", data, conditions, assert_one_line)


def test_thresholds_are_the_best_ones_of_the_other_report(earlier_report: Path, tmp_path: Path):
    content = json.loads(earlier_report.read_text())
    chosen = {}
    for row, (name, evaluation) in enumerate(content["evaluations"].items()):
        counts = evaluation["keypoints"]["by_sequence"]
        chosen[name] = {matching: THRESHOLDS[3 + 2 * row + i] for i, matching in enumerate(MATCHINGS)}
        for found in [*counts["hits"], *counts["right"]]:
            for i, of_threshold in enumerate(found):  # nothing is found at any other threshold
                of_threshold[:] = [int(i == 3 + 2 * row + which) for which in range(2)]
    earlier_report.write_text(json.dumps(content))
    report = evaluate_with_thresholds(earlier_report, tmp_path / "every1")
    assert report.thresholds == chosen
    for name, by_matching in chosen.items():
        for matching, threshold in by_matching.items():
            assert report.score(name, matching) == report.evaluations[name].at(threshold, matching)
    assert f"on other data ({earlier_report})" in report_markdown(report)
    assert list(evaluate_with_thresholds(earlier_report, tmp_path / "every1", controls=False).evaluations) == ["edge"]


def test_best_threshold_of_the_other_report_counts_not_its_reported_one(earlier_report: Path, tmp_path: Path):
    given = evaluate_candidates(
        [candidate()], "footage", tmp_path / "every1", Conditions(threshold=0.95), assert_one_line
    )
    write_report(given, tmp_path / "given")
    report = evaluate_with_thresholds(tmp_path / "given" / "report.json", tmp_path / "every1", controls=False)
    assert report.score("edge", "closest").threshold == given.evaluations["edge"].best("closest").threshold < 0.95


def test_unusable_report_is_refused_in_one_line_before_measuring(earlier_report: Path, tmp_path: Path):
    data = tmp_path / "every1"
    plain = evaluate_candidates([candidate()], "footage", data, Conditions(threshold=0.123), assert_one_line)
    write_report(plain, tmp_path / "plain")
    path = tmp_path / "plain" / "report.json"
    content = json.loads(path.read_text())
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"evaluations": {"edge": {**content["evaluations"]["edge"], "pairs": [[1]]}}}))
    no_json, no_report = tmp_path / "cut.json", tmp_path / "other.json"
    no_json.write_text("{")
    no_report.write_text('{"evaluations": 3}')
    for report, name, expected in (
        (path, "edge", "has no row 'edge, without memory', only edge; evaluate the same models"),
        (earlier_report, "new", "has no row 'new', only edge, edge, without memory"),
        (tmp_path / "none.json", "edge", "cannot read the report"),
        (no_json, "edge", "not JSON"),
        (no_report, "edge", "is not a report"),
        (old, "edge", "cannot read row 'edge'"),
    ):
        with pytest.raises(DataError, match=expected) as error:
            evaluate_with_thresholds(report, tmp_path / "no data", name=name)
        assert "\n" not in str(error.value)


def test_best_threshold_outside_the_sweep_is_refused(earlier_report: Path, tmp_path: Path):
    content = json.loads(earlier_report.read_text())
    edge = content["evaluations"]["edge"]
    edge["thresholds"] = [value + 0.001 for value in edge["thresholds"]]
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is not in the sweep; evaluate those data without --threshold"):
        evaluate_with_thresholds(odd, tmp_path / "every1", controls=False)


def test_precision_chooses_the_lowest_thresholds_of_the_other_report(earlier_report: Path, tmp_path: Path):
    """In that report, 1 of 5 predictions is wrong below 0.5. From 0.5 on none is, but half of the labels are missed."""
    content = json.loads(earlier_report.read_text())
    counts = content["evaluations"]["edge"]["keypoints"]["by_sequence"]
    for sequence, labels in enumerate(counts["labels"]):
        for i, threshold in enumerate(THRESHOLDS):
            found = labels if threshold < 0.5 else labels // 2
            counts["hits"][sequence][i] = counts["right"][sequence][i] = [found, found]
            counts["predictions"][sequence][i] = labels * 5 // 4 if threshold < 0.5 else found
    earlier_report.write_text(json.dumps(content))
    for precision, expected in ((None, 0.05), (0.79, 0.05), (0.81, 0.5), (1, 0.5)):
        conditions = Conditions(thresholds=earlier_report, precision=precision)
        report = evaluate_candidates([candidate()], "footage", tmp_path / "every1", conditions, assert_one_line)
        assert report.thresholds == {"edge": dict.fromkeys(MATCHINGS, expected)}, precision
        assert report.score("edge", "closest") == report.evaluations["edge"].at(expected, "closest")
    assert (
        f"for each model the lowest with a precision of 1 (the most precise if there is none) on "
        f"other data ({earlier_report})" in report_markdown(report)
    )


def test_precision_chooses_the_lowest_threshold_on_the_same_data(footage: Callable[[int], Path]):
    conditions = Conditions(precision=0.9, controls=True)
    report = evaluate_candidates([candidate()], "footage", footage(1), conditions, assert_one_line)
    for name, evaluation in report.evaluations.items():
        assert report.score(name, "one_to_one") == evaluation.chosen("one_to_one", 0.9)
    assert "the lowest with a precision of 0.9" in report_markdown(report)


@pytest.mark.parametrize("precision", [0, -0.5, 1.01, float("nan")])
def test_invalid_precision_is_refused_in_one_line(precision: float):
    with pytest.raises(DataError, match=r"--precision is .*, must be above 0 and at most 1") as error:
        Conditions(precision=precision)
    assert "\n" not in str(error.value)


def test_a_precision_and_a_threshold_exclude_each_other():
    with pytest.raises(DataError, match="--threshold and --precision exclude each other") as error:
        Conditions(precision=0.8, threshold=0.5)
    assert "\n" not in str(error.value)


def perturbed_weights(weights: Path, out: Path, training: dict | None = None) -> Path:
    """Save the network with slightly different weights, the same ones every time."""
    model, _ = load_weights(weights)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    save_weights(out, model, "random, for tests", training)
    return out


def test_baseline_adds_a_row_without_memory(edge_weights: Path, footage: Callable[[int], Path], tmp_path: Path):
    """Its figures equal those of a separate evaluation, with or without controls."""
    path = footage(1)
    old = perturbed_weights(edge_weights, tmp_path / "old.safetensors")
    new, baseline = (candidate_from_weights(weights, (WIDTH, HEIGHT), 4, 2) for weights in (edge_weights, old))

    def measured(**conditions) -> Report:
        return evaluate_candidates(
            [new], "footage", path, Conditions(frames=4, **conditions), assert_one_line, baseline=baseline
        )

    report = measured()
    assert list(report.evaluations) == ["edge", "edge, without memory", "edge, baseline old"]
    assert report.pairs == [("edge", "edge, without memory"), ("edge", "edge, baseline old")]
    data = open_data("footage", path, "val", COCO17, *new.holdout)
    found = {}
    for name, weights in (("edge, without memory", edge_weights), ("edge, baseline old", old)):
        tracker = WithoutMemory(TorchSession(load_weights(weights)[0], 4, 2))
        sequences = held_out_sequences(data, (WIDTH, HEIGHT), 4)
        expected = evaluate(tracker, sequences, COCO17, COCO17.channels, "cold", every_frame=True)
        found[name] = expected.model_dump_json()
        assert report.evaluations[name].model_dump_json() == found[name], name
    assert len(set(found.values())) == 2, "the rows differ"
    text = report_markdown(report)
    for control in ("edge, without memory", "edge, baseline old"):
        assert f"| edge | {control} | " in text
    more = measured(controls=True, sequences=1)
    assert list(more.evaluations) == [
        *("edge", "edge, without memory", "edge, mean", "edge, hold", "edge, affine", "edge, baseline old")
    ]


def test_baseline_with_other_size_or_maps_is_refused_before_measuring(tmp_path: Path):
    wide = candidate("old", size=(WIDTH + 32, HEIGHT))
    fewer = candidate("old", channels=COCO17.channels[:18])
    for baseline in (wide, fewer):
        with pytest.raises(DataError, match="baseline old and edge differ in maps or input size") as error:
            evaluate_candidates([candidate()], "footage", tmp_path, Conditions(), assert_one_line, baseline=baseline)
        assert "\n" not in str(error.value)


def test_baseline_with_the_same_name_has_its_own_row(footage: Callable[[int], Path]):
    conditions = Conditions(sequences=1)
    report = evaluate_candidates(
        [candidate(), candidate("other")], "footage", footage(1), conditions, assert_one_line, baseline=candidate()
    )
    rows = [f"{name}{row}" for name in ("edge", "other") for row in ("", ", without memory", ", baseline edge")]
    assert list(report.evaluations) == rows


def maps_of(tracker: Tracker) -> np.ndarray:
    """The maps of each of eight frames."""
    maps = []
    for image in synthetic_frames(HEIGHT, WIDTH, 8):
        tracker.step(image)
        maps.append(tracker.maps())
    return np.stack(maps)


def test_weights_use_their_trained_memory_unless_overridden(edge_weights: Path, tmp_path: Path):
    trained = perturbed_weights(edge_weights, tmp_path / "trained.safetensors", {"memory": {"slots": 4, "every": 2}})
    without_memory_settings = perturbed_weights(edge_weights, tmp_path / "untold.safetensors")
    model, _ = load_weights(trained)
    memories: dict[tuple[int, int], tuple[Path, dict[str, Any]]] = {
        (4, 2): (trained, {}),
        (3, 2): (trained, {"slots": 3}),
        (4, 1): (trained, {"every": 1}),
        (6, 5): (without_memory_settings, {}),
    }
    maps = []
    for memory, (weights, options) in memories.items():
        maps.append(maps_of(TorchSession(model, *memory)))
        np.testing.assert_array_equal(maps_of(candidate_from_weights(weights, **options).tracker), maps[-1])
    assert all(np.abs(one - other).max() > 1e-4 for one, other in combinations(maps, 2)), "the maps differ"


def test_threshold_and_thresholds_exclude_each_other(tmp_path: Path):
    with pytest.raises(DataError, match="exclude each other"):
        Conditions(threshold=0.5, thresholds=tmp_path / "report.json")


def test_duplicate_name_is_refused_before_measuring(tmp_path: Path):
    with pytest.raises(DataError, match="'edge' is listed twice"):
        evaluate_candidates([candidate(), candidate()], "footage", tmp_path, Conditions(), assert_one_line)
