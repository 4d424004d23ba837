"""Networks side by side with their controls, and thresholds from other data."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.verify import moving_picture
from stm_skeletons.errors import DataError
from stm_skeletons.maps import SKELETON_CHANNEL, render_maps
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17
from training.evaluation.keypoints import MATCHINGS, THRESHOLDS
from training.evaluation.report import Report, report_markdown, write_report
from training.evaluation.run import Candidate, Conditions, evaluate_candidates

WIDTH, HEIGHT = 160, 96
POSE = np.array([(16 + 30 * (i % 5), 12 + 24 * (i // 5), 1) for i in range(17)], np.float32)


def ignore(line: str) -> None:
    """Says nothing."""
    assert "\n" not in line


class Remembering:
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
        """The person with a score that memory raises, and a number that lasts."""
        score = np.float32(self._maps[1:18].max())
        return People(np.array([score]), POSE[None], np.zeros((1, 17), int), np.ones(1, int))


def candidate(name: str = "edge", **changes) -> Candidate:
    return Candidate(name, Remembering(), COCO17, COCO17.channels, (WIDTH, HEIGHT), **{"holdout": (0.5, 0), **changes})


@pytest.fixture
def footage(tmp_path: Path) -> Callable[[int], Path]:
    """Makes two videos of twelve frames, of which every so manieth is labelled with the same person."""

    def make(every: int) -> Path:
        folder = tmp_path / f"every{every}"
        for name in ("one", "two"):
            pictures = folder / name
            pictures.mkdir(parents=True)
            for number, picture in enumerate(moving_picture(HEIGHT, WIDTH, 12)):
                cv2.imwrite(str(pictures / f"{number:03}.png"), picture)
            numbers = range(0, 12, every)
            size = {"width": WIDTH, "height": HEIGHT}
            images = [{"id": i, "frame_id": i, "file_name": f"{name}/{i:03}.png", **size} for i in numbers]
            person = {"bbox": [10, 5, 140, 86], "keypoints": POSE.ravel().tolist(), "category_id": 1}
            content = {
                "images": images,
                "annotations": [
                    # Another track from frame 8 on: somebody who walks in.
                    {**person, "id": i, "image_id": i, "track_id": int(i >= 8)}
                    for i in numbers
                ],
                "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
            }
            (folder / f"{name}.json").write_text(json.dumps(content))
        return folder

    return make


def test_every_network_gets_two_rows_more(footage: Callable[[int], Path]):
    conditions = Conditions(start="cold", controls=True)
    report = evaluate_candidates([candidate(), candidate("other")], "footage", footage(1), conditions, ignore)
    rows = ["edge", "edge, memory off", "edge, control", "other", "other, memory off", "other, control"]
    assert list(report.evaluations) == rows
    assert report.alone == {name: f"{name.split(',')[0]}, memory off" for name in rows}
    assert report.title == "edge, other on footage"
    found = [report.evaluations[name].at(0.7, "closest").recall for name in rows[:3]]
    assert found == [11 / 12, 0, 0]
    for name in rows:
        assert name in report_markdown(report)
        steadiness = report.evaluations[name].steadiness
        assert steadiness is not None
        assert [(one.track, one.first) for one in steadiness.walk_ins] == [(1, 8)], "tracks are those of the labels"


def test_the_controls_row_starts_with_the_seed(footage: Callable[[int], Path]):
    report = evaluate_candidates([candidate()], "footage", footage(1), Conditions(start="seed", controls=True), ignore)
    recalls = {name: evaluation.at(0.7, "closest").recall for name, evaluation in report.evaluations.items()}
    assert recalls["edge"] == 1
    assert recalls["edge, memory off"] == 0
    assert recalls["edge, control"] > 0, "what was given in the first frame is still seen"


def test_people_and_tracks_are_in_the_report_and_it_starts_cold(footage: Callable[[int], Path]):
    unsure = candidate(person_threshold=0.6)
    report = evaluate_candidates([unsure], "footage", footage(1), Conditions(controls=True), ignore)
    evaluation = report.evaluations["edge"]
    assert evaluation.start == "cold"
    assert evaluation.people is not None
    assert evaluation.people.labelled_per_frame == 1
    assert evaluation.people.reported_per_frame == 11 / 12, "in the first frame the score is lower"
    assert evaluation.people.figures()["AP"] > 0.9
    alone = report.evaluations["edge, memory off"]
    assert alone.people is not None
    assert alone.people.reported_per_frame == 0
    assert report.evaluations["edge, control"].people is None
    assert evaluation.tracking is not None
    # The labels give the person another track from frame 8 on, so the tracker is right to keep its number.
    assert evaluation.tracking.person_counts()["switches"] == 0
    assert evaluation.tracking.mota() == pytest.approx(11 / 12)
    text = report_markdown(report)
    for expected in ("## People", "## Tracking", "## edge: tracking, joint by joint", "from a score of 0.6", "(cold)"):
        assert expected in text
    assert "special case" not in text


def test_networks_without_keypoint_maps_have_no_controls(footage: Callable[[int], Path]):
    class Flat(Remembering):
        def maps(self) -> np.ndarray:
            return self._maps[1:].max(axis=0, keepdims=True)

        def people(self) -> None: ...

    flat = Candidate("stm", Flat(), COCO17, (SKELETON_CHANNEL,), (WIDTH, HEIGHT), (0.5, 0))
    report = evaluate_candidates([flat], "footage", footage(1), Conditions(controls=True), ignore)
    assert list(report.evaluations) == ["stm"]
    assert report.alone == {}


def test_labels_of_some_frames_only_count_no_flicker_and_say_so(footage: Callable[[int], Path]):
    said: list[str] = []
    report = evaluate_candidates([candidate()], "footage", footage(2), Conditions(), said.append)
    assert report.evaluations["edge"].steadiness is None
    assert sum("flicker and walk-ins are not counted" in line for line in said) == 1
    said.clear()
    evaluate_candidates([candidate()], "footage", footage(1), Conditions(), said.append)
    assert not any("flicker" in line for line in said)


@pytest.fixture
def earlier(footage: Callable[[int], Path], tmp_path: Path) -> Path:
    report = evaluate_candidates([candidate()], "footage", footage(1), Conditions(controls=True), ignore)
    write_report(report, tmp_path / "earlier")
    return tmp_path / "earlier" / "report.json"


def with_thresholds(path: Path, data: Path, controls: bool = True, name: str = "edge") -> Report:
    conditions = Conditions(start="cold", thresholds=path, controls=controls)
    return evaluate_candidates([candidate(name)], "footage", data, conditions, ignore)


def test_thresholds_are_the_best_ones_of_the_other_report(earlier: Path, tmp_path: Path):
    content = json.loads(earlier.read_text())
    chosen = {}
    for place, (name, evaluation) in enumerate(content["evaluations"].items()):
        counts = evaluation["keypoints"]["by_sequence"]
        chosen[name] = {matching: THRESHOLDS[3 + 2 * place + i] for i, matching in enumerate(MATCHINGS)}
        for found in [*counts["hits"], *counts["right"]]:
            for i, of_threshold in enumerate(found):  # nothing is found at all others
                of_threshold[:] = [int(i == 3 + 2 * place + which) for which in range(2)]
    earlier.write_text(json.dumps(content))
    report = with_thresholds(earlier, tmp_path / "every1")
    assert report.thresholds == chosen
    for name, by_matching in chosen.items():
        for matching, threshold in by_matching.items():
            assert report.score(name, matching) == report.evaluations[name].at(threshold, matching)
    assert f"best on other data ({earlier})" in report_markdown(report)
    assert list(with_thresholds(earlier, tmp_path / "every1", controls=False).evaluations) == ["edge"]


def test_the_best_there_counts_even_where_another_threshold_was_reported(earlier: Path, tmp_path: Path):
    given = evaluate_candidates([candidate()], "footage", tmp_path / "every1", Conditions(threshold=0.95), ignore)
    write_report(given, tmp_path / "given")
    report = with_thresholds(tmp_path / "given" / "report.json", tmp_path / "every1", controls=False)
    assert report.score("edge", "closest").threshold == given.evaluations["edge"].best("closest").threshold < 0.95


def test_a_report_that_does_not_serve_is_one_line_before_anything_is_measured(earlier: Path, tmp_path: Path):
    data = tmp_path / "every1"
    plain = evaluate_candidates([candidate()], "footage", data, Conditions(threshold=0.123), ignore)
    write_report(plain, tmp_path / "plain")
    path = tmp_path / "plain" / "report.json"
    content = json.loads(path.read_text())
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"evaluations": {"edge": {**content["evaluations"]["edge"], "pairs": [[1]]}}}))
    no_json, no_report = tmp_path / "cut.json", tmp_path / "other.json"
    no_json.write_text("{")
    no_report.write_text('{"evaluations": 3}')
    for report, name, expected in (
        (path, "edge", "has no row 'edge, memory off', only edge; evaluate the same rows"),
        (earlier, "new", "has no row 'new', only edge, edge, memory off"),
        (tmp_path / "none.json", "edge", "cannot read the report"),
        (no_json, "edge", "not JSON"),
        (no_report, "edge", "is no report"),
        (old, "edge", "row 'edge' .* cannot be read"),
    ):
        with pytest.raises(DataError, match=expected) as error:
            with_thresholds(report, tmp_path / "no data", name=name)
        assert "\n" not in str(error.value)


def test_a_best_threshold_that_is_not_counted_here_is_refused(earlier: Path, tmp_path: Path):
    content = json.loads(earlier.read_text())
    edge = content["evaluations"]["edge"]
    edge["thresholds"] = [value + 0.001 for value in edge["thresholds"]]
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is not counted here; evaluate there without --threshold"):
        with_thresholds(odd, tmp_path / "every1", controls=False)


def test_one_threshold_and_many_exclude_each_other(tmp_path: Path):
    with pytest.raises(DataError, match="exclude each other"):
        Conditions(threshold=0.5, thresholds=tmp_path / "report.json")


def test_a_name_twice_is_refused_before_anything_is_measured(tmp_path: Path):
    with pytest.raises(DataError, match="'edge' is given twice"):
        evaluate_candidates([candidate(), candidate()], "footage", tmp_path, Conditions(), ignore)
