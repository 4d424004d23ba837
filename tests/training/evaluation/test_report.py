import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

import training.evaluation.differences as differences_module
import training.evaluation.evaluation as evaluation_module
import training.evaluation.tracking as tracking_module
from stm_skeletons.errors import DataError, SinkError
from stm_skeletons.maps import SKELETON_CHANNEL
from stm_skeletons.skeleton import COCO17
from training.evaluation.bootstrap import resamples
from training.evaluation.differences import difference
from training.evaluation.evaluation import EvaluatedSequence, Evaluation, KeypointEvaluation
from training.evaluation.keypoints import (
    MATCHINGS,
    THRESHOLDS,
    KeypointCounts,
    Matching,
    count_keypoints,
    stack,
    zeros,
)
from training.evaluation.people_scores import PeopleEvaluation
from training.evaluation.report import Report
from training.evaluation.report_files import print_report, report_markdown, write_report
from training.evaluation.report_tables import summary_table
from training.evaluation.steadiness import Steadiness, WalkIn
from training.evaluation.tracking import STEPS, TrackingEvaluation


def joint_counts(found: int) -> KeypointCounts:
    """Ten labels 40 px apart, of which this many are found with falling scores, and two wrong predictions."""
    labels = np.array([(40.0 * i, 0) for i in range(10)])
    right = [(40.0 * i, 3, 0.95 - 0.08 * i) for i in range(found)]
    return count_keypoints(labels, np.array([*right, (20, 200, 0.32), (60, 200, 0.12)]), THRESHOLDS)


def evaluation(found: list[int]) -> Evaluation:
    """An evaluation with four frames per sequence: the first one seeds, later ones find less. All joints are alike."""
    frames = [[joint_counts(max(count - later, 0)) for later in range(3)] for count in found]
    by_sequence = stack(stack(of_sequence).total() for of_sequence in frames)
    by_frame = stack([zeros(len(THRESHOLDS)), *(stack(same).total() for same in zip(*frames, strict=True))])
    pixels = np.zeros((len(found), 3, 37), int)
    pixels[:] = np.array([8, 10, 16])[:, None]
    return Evaluation(
        skeleton=COCO17,
        channels=COCO17.channels,
        start="seed",
        size=(448, 256),
        sourced=COCO17.joints,
        thresholds=THRESHOLDS,
        sequences=tuple(EvaluatedSequence(name=str(i), frames=3, seeded=True) for i in range(len(found))),
        pixels=pixels,
        keypoints=KeypointEvaluation(
            by_joint=stack([by_sequence.total()] * 17), by_sequence=by_sequence, by_frame=by_frame
        ),
        pairs=np.array([(20, 2 * count) for count in found]),
        steadiness=None,
    )


def stm() -> Evaluation:
    """A network without keypoint maps that predicted nothing."""
    counts = {"channels": (SKELETON_CHANNEL,), "pixels": np.array([[[0], [0], [5]]] * 2), "keypoints": None}
    return evaluation([5, 6]).model_copy(update={**counts, "pairs": None})


def video_evaluation(found: list[int], flicker: int, delays: list[int | None]) -> Evaluation:
    """An evaluation in which ``flicker`` of 100 parts flicker, twice as many at the lowest threshold."""
    shape = (len(found), len(THRESHOLDS))
    flickering = np.full(shape, flicker)
    flickering[:, 0] *= 2
    walk_ins = [
        WalkIn(sequence=0, track=i, first=9, delays=(delay,) * len(THRESHOLDS)) for i, delay in enumerate(delays)
    ]
    steadiness = Steadiness(
        parts=np.full(shape, 100), appearing=flickering, vanishing=np.zeros(shape, int), walk_ins=tuple(walk_ins)
    )
    return evaluation(found).model_copy(update={"steadiness": steadiness})


EVALUATIONS = {"edge": evaluation([8, 9, 10]), "_odd $name|": evaluation([5, 7, 9])}


def test_all_files_are_written_and_agree(tmp_path: Path):
    report = Report("Held-out", "COCO 53", {**EVALUATIONS, "stm": stm()})
    folder = tmp_path / "new" / "report"
    write_report(report, folder)
    names = ["recall_over_time.csv", "recall_over_time.png", "report.json", "report.md", "thresholds.png"]
    assert sorted(path.name for path in folder.iterdir()) == names

    content = json.loads((folder / "report.json").read_text())
    best = EVALUATIONS["edge"].best("one_to_one")
    assert content["figures"]["edge"]["keypoints"]["one_to_one"]["f1"] == best.f1
    assert content["figures"]["stm"]["pixels"]["skeleton"]["precision"] is None, "nothing was predicted"
    again = Evaluation.model_validate(content["evaluations"]["edge"])
    assert again.best("one_to_one") == best

    with (folder / "recall_over_time.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [row for row in rows if row["name"] == "edge" and row["matching"] == "closest"]
    assert [int(row["frame"]) for row in shown] == [1, 2, 3]
    over_time = EVALUATIONS["edge"].hits_over_time(float(shown[0]["threshold"]), "closest")
    assert [(int(row["labels"]), int(row["hits"])) for row in shown] == [point[1:] for point in over_time]
    assert float(shown[0]["recall"]) == pytest.approx(over_time[0][2] / over_time[0][1], abs=1e-6)

    for name in ("recall_over_time.png", "thresholds.png"):
        image = np.asarray(cv2.imread(str(folder / name)))
        assert image.shape[0] > 400
        assert image.std() > 5, "something is drawn"


def test_markdown_states_the_conditions_of_the_figures():
    text = report_markdown(Report("Held-out", "own footage", EVALUATIONS, pseudo=True))
    for expected in (
        "pseudo labels",
        "network pixels at 448x256",
        "within 10 pixels",
        "13 labelled body joints",
        "closest (paper)",
        "one to one",
        "flatters",
        "| edge | seed | coco17 | network pixels at 448x256 | 3 | 3 | 9 |",
        "| left_wrist |",
        r"_odd $name\|",
    ):
        assert expected in text
    assert "pseudo" not in report_markdown(Report("Held-out", "COCO", EVALUATIONS))


def test_threshold_chosen_beforehand_is_used_and_stated():
    report = Report("Held-out", "COCO", EVALUATIONS, threshold=0.5)
    assert report.score("edge", "closest") == EVALUATIONS["edge"].at(0.5, "closest")
    assert "0.5, chosen beforehand" in report_markdown(report)
    with pytest.raises(DataError):
        report_markdown(Report("Held-out", "COCO", EVALUATIONS, threshold=0.777))


def test_thresholds_from_other_data_apply_to_all_outputs(tmp_path: Path):
    chosen: dict[str, dict[Matching, float]] = {
        "edge": {"closest": 0.5, "one_to_one": 0.6},
        "_odd $name|": {"closest": 0.3, "one_to_one": 0.35},
    }
    report = Report("Held-out", "COCO", EVALUATIONS, thresholds=chosen, thresholds_from="val/report.json")
    for name, by_matching in chosen.items():
        for matching, threshold in by_matching.items():
            assert report.score(name, matching) == EVALUATIONS[name].at(threshold, matching)
    text = report_markdown(report)
    assert "Threshold: for each model the one with the best F1 on other data (val/report.json)." in text
    assert "| edge | one to one | 0.6 |" in text
    write_report(report, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["thresholds"] == chosen
    assert content["figures"]["edge"]["keypoints"]["one_to_one"]["threshold"] == 0.6
    with (tmp_path / "recall_over_time.csv").open(newline="") as file:
        assert {row["threshold"] for row in csv.DictReader(file) if row["name"] == "edge"} == {"0.5", "0.6"}


LOWEST = "Threshold: for each model the lowest with a precision of 0.85 (the most precise if there is none) on "


def test_lowest_threshold_with_a_precision_is_used_and_stated():
    report = Report("Held-out", "COCO", EVALUATIONS, precision=0.85)
    for name, evaluation in EVALUATIONS.items():
        for matching in MATCHINGS:
            score = report.score(name, matching)
            assert score == evaluation.chosen(matching, 0.85)
            assert score.precision >= 0.85
            assert score.threshold < evaluation.best(matching).threshold
    text = report_markdown(report)
    assert LOWEST + "these data, which flatters the figures." in text
    assert "| edge | one to one | 0.13 | 0.889 |" in text
    best = report_markdown(Report("Held-out", "COCO", EVALUATIONS))
    assert "Threshold: for each model the one with the best F1 on these data, which flatters the figures." in best


def test_thresholds_for_a_precision_on_other_data_are_used_and_stated():
    chosen: dict[str, dict[Matching, float]] = {name: dict.fromkeys(MATCHINGS, 0.6) for name in EVALUATIONS}
    report = Report(
        "Held-out", "COCO", EVALUATIONS, thresholds=chosen, precision=0.85, thresholds_from="val/report.json"
    )
    assert report.score("edge", "closest") == EVALUATIONS["edge"].at(0.6, "closest")
    assert LOWEST + "other data (val/report.json)." in report_markdown(report)


def test_each_network_is_paired_with_each_of_its_controls():
    names = ["old", "old, without memory", "new", "new, without memory", "new, affine"]
    without_memory = {name: f"{name.split(',')[0]}, without memory" for name in names}
    report = Report("Held-out", "COCO", dict.fromkeys(names, evaluation([5])), without_memory=without_memory)
    assert report.pairs == [("old", "old, without memory"), ("new", "new, without memory"), ("new", "new, affine")]
    others = {
        "new": "new, without memory",
        "new, without memory": "new, without memory",
        "old, without memory": "new, without memory",
    }
    report = Report("Held-out", "COCO", dict.fromkeys(others, evaluation([5])), without_memory=others)
    assert report.pairs == [("new", "new, without memory"), ("new", "old, without memory")], "a baseline adds a row"
    assert Report("Held-out", "COCO", EVALUATIONS).pairs == []


def test_networks_are_compared_with_controls_at_the_reported_thresholds():
    """At 0.5, six of ten labels are found and nothing else: F1 3/4. Without memory at 0.3, four of ten are found and
    one of five predictions is wrong: F1 8/15. With memory, a higher threshold has that recall and no wrong prediction.
    """
    names = {"edge": evaluation([8, 9]), "edge, without memory": evaluation([5, 5])}
    own = {"edge": dict.fromkeys(MATCHINGS, 0.5), "edge, without memory": dict.fromkeys(MATCHINGS, 0.3)}
    without_memory = dict.fromkeys(names, "edge, without memory")
    report = Report("Held-out", "COCO", names, thresholds=own, thresholds_from="val", without_memory=without_memory)
    text = report_markdown(report)
    table = text.split("## Differences to controls\n\n")[1].split("\n\n")[0]
    figures = "F1 difference | 95% CI | occluded recall difference"
    precision = "precision difference at the control's recall | 95% CI"
    row = "| edge | edge, without memory | 0.217 | 0.217 to 0.217 | - | 0.200 | 0.200 to 0.200 |"
    header = [f"| model | control | {figures} | {precision} |", "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    assert table.splitlines() == [*header, row]
    assert "Intervals use the same sequences for both" in text
    out = io.StringIO()
    print_report(report, Console(file=out, width=200))
    assert "Held-out: Differences to controls" in out.getvalue()
    assert "0.217 to 0.217" in out.getvalue()
    assert "Differences to controls" not in report_markdown(Report("Held-out", "COCO", EVALUATIONS))


def test_models_end_with_a_summary_of_their_gains():
    names = {"before": evaluation([5, 5]), "after": evaluation([8, 9])}
    report = Report("Held-out", "COCO", names, threshold=0.5)
    row = ["| before | - | 0.571 | - | - |", "| after | - | 0.750 | +0.179 | 0.179 to 0.179 |"]
    section = report_markdown(report).split("## Summary\n\n")[1].split("\n\n")[0]
    assert [line[: len(start)] for line, start in zip(section.splitlines()[2:], row, strict=True)] == row
    out = io.StringIO()
    print_report(report, Console(file=out, width=200))
    assert "+0.179" in out.getvalue().rpartition("Summary")[2]
    assert not summary_table(Report("One", "COCO", {"before": names["before"]})).rows


def test_slow_figures_are_computed_once_for_all_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []

    def counted(count: int) -> NDArray[np.int64]:
        drawn.append(count)
        return resamples(count)

    for module in (differences_module, evaluation_module, tracking_module):
        monkeypatch.setattr(module, "resamples", counted)
    names = {"edge": with_people(), "edge, without memory": evaluation([5, 7]), "edge, mean": evaluation([6, 6])}
    report = Report("Held-out", "COCO", names, without_memory=dict.fromkeys(names, "edge, without memory"))
    out = io.StringIO()
    print_report(report, Console(file=out))
    once = len(drawn)
    # For each name two keypoint F1s, four pixel F1s and the edge pairs; then two controls and one MOTA.
    assert once == 3 * (2 + 4 + 1) + 2 + 1
    write_report(report, tmp_path)
    assert len(drawn) == once
    content, text = json.loads((tmp_path / "report.json").read_text()), (tmp_path / "report.md").read_text()
    for control, found in content["figures"]["edge"]["differences"].items():
        low, high = found["f1_interval"]
        shown = f"{found['f1']:.3f}", f"{low:.3f} to {high:.3f}"
        assert f"| edge | {control} | {shown[0]} | {shown[1]} |" in text
        assert all(figure in out.getvalue() for figure in shown)
        thresholds = (report.score(name, "one_to_one").threshold for name in ("edge", control))
        again = difference(names["edge"], next(thresholds), names[control], next(thresholds), "one_to_one")
        assert (found["f1"], found["f1_interval"]) == (again.f1, list(again.f1_interval or ()))


def test_recall_over_time_compares_early_and_late_frames():
    """Each frame has ten labels. The other evaluations have no frames 9 to 11 or no keypoints."""
    found = [9, 8, 6, 4, 9, 9, 9, 9, 9, 5, 5, 2, 9]
    walk = stack(map(joint_counts, found))
    keypoints = EVALUATIONS["edge"].keypoints
    assert keypoints is not None
    longer = EVALUATIONS["edge"].model_copy(update={"keypoints": keypoints.model_copy(update={"by_frame": walk})})
    report = Report("Held-out", "COCO", {"long": longer, "short": evaluation([5]), "stm": stm()}, threshold=0.5)
    table = report_markdown(report).split("## Recall over time\n\n")[1].split("\n\n")[0]
    # At 0.5, the first six are found: 6, 6 and 4 of them in frames 1 to 3.
    expected = ["| model | frames 1 to 3 | frames 9 to 11 |", "| --- | ---: | ---: |"]
    assert table.splitlines() == [*expected, "| long | 0.533 | 0.400 |", "| short | 0.400 | - |"]
    out = io.StringIO()
    print_report(report, Console(file=out, width=200))
    assert "Held-out: Recall over time" in out.getvalue()


def test_correct_pairs_are_in_the_report(tmp_path: Path):
    report = Report("Held-out", "COCO", {**EVALUATIONS, "stm": stm()})
    text = report_markdown(report)
    low, high = EVALUATIONS["edge"].right_pairs()[2] or (0, 0)
    assert f"| edge | 60 | 0.900 | {low:.3f} to {high:.3f} |" in text
    assert low < 0.9 < high
    write_report(report, tmp_path)
    figures = json.loads((tmp_path / "report.json").read_text())["figures"]
    assert figures["edge"]["right_pairs"] == {"pairs": 60, "share": 0.9, "interval": [low, high]}
    assert "right_pairs" not in figures["stm"]
    assert "Correct pairs" not in report_markdown(Report("Held-out", "COCO", {"stm": stm()}))


def test_flicker_and_walk_ins_are_compared_with_the_network_without_memory(tmp_path: Path):
    with_memory, alone = video_evaluation([8, 9], 10, [0, 2, None, None]), video_evaluation([6, 7], 40, [1, 2, 3, None])
    names = {"edge": with_memory, "edge, without memory": alone}
    without_memory = dict.fromkeys(names, "edge, without memory")
    report = Report("Video", "footage", names, without_memory=without_memory)
    write_report(report, tmp_path)
    content = (tmp_path / "report.json").read_text()
    figures = {name: figures["steadiness"] for name, figures in json.loads(content)["figures"].items()}
    ours, memoryless = figures["edge"], figures["edge, without memory"]
    # At the lowest threshold, flicker is twice as high, although recall equals that of some higher thresholds.
    assert (ours["flicker"], memoryless["flicker"]) == (0.1, 0.4)
    assert ours["flicker_at_equal_recall"] == pytest.approx(0.1)
    assert ours["flicker_without_memory"] == memoryless["flicker_at_equal_recall"] == 0.4
    assert (ours["recall"], ours["walk_ins"], ours["never_found"]) == (report.score("edge", "one_to_one").recall, 4, 2)
    assert ours["median_delay"] is None, "infinite"
    comparison = {"walk_ins": 4, "found": 3, "never": 1, "never_other": 0, "median": 0, "no_later": 2 / 3}
    assert ours["compared_without_memory"] == comparison
    text = report_markdown(report)
    assert "## Flicker" in text
    assert "| edge | 4 | 2 | inf | 3 | 0 | 0.667 | 1 | 0 |" in text
    assert "| edge, without memory | 4 | 1 | 3 | 3 | 0 | 1.000 | 0 | 0 |" in text
    by_itself = report_markdown(Report("Video", "footage", {"edge": with_memory}))
    assert "| edge | 4 | 2 | inf | - | - | - | - | - |" in by_itself
    assert "without memory" not in by_itself.split("## Flicker")[0]
    assert "Flicker" not in report_markdown(Report("Held-out", "COCO", EVALUATIONS))


def test_flicker_and_walk_ins_are_compared_at_each_rows_own_threshold(tmp_path: Path):
    names = {"edge": video_evaluation([8, 9], 10, [2]), "edge, without memory": video_evaluation([6, 7], 40, [1])}
    own: dict[str, dict[Matching, float]] = {
        "edge": {"closest": 0.5, "one_to_one": 0.5},
        "edge, without memory": {"closest": 0.5, "one_to_one": 0.05},
    }
    without_memory = dict.fromkeys(names, "edge, without memory")
    write_report(
        Report("Video", "footage", names, thresholds=own, thresholds_from="val", without_memory=without_memory),
        tmp_path,
    )
    figures = json.loads((tmp_path / "report.json").read_text())["figures"]["edge"]["steadiness"]
    assert (figures["flicker"], figures["flicker_without_memory"]) == (0.1, 0.8)
    assert figures["compared_without_memory"]["median"] == 1


def with_people() -> Evaluation:
    """Two sequences of one frame each. Two people are labelled in each; three people are found in total."""
    people = PeopleEvaluation(
        person_threshold=0.25,
        frames=np.array([1, 1]),
        labelled=np.array([2, 2]),
        reported=np.array([2, 1]),
        people=np.array([2, 1]),
        scores=np.array([0.9, 0.8, 0.7]),
        right=np.array([1023, 0, 1023]),
        ignored=np.zeros(3, int),
    )
    right, wrong, joints = np.zeros((17, STEPS), int), np.zeros((17, STEPS), int), np.zeros((2, 17, 4), int)
    right[:, 900] = 3
    joints[:] = [2, 1, 0, 0]
    joints[0, :, 3] = 1
    tracking = TrackingEvaluation(
        person_threshold=0.25,
        labels=np.full(17, 4),
        right=right,
        wrong=wrong,
        joints=joints,
        people=np.array([[2, 2, 1, 1, 2], [2, 2, 0, 0, 0]]),
    )
    return evaluation([8, 9]).model_copy(update={"people": people, "tracking": tracking})


def test_people_and_tracking_are_in_the_report(tmp_path: Path):
    report = Report("Held-out", "COCO", {"edge": with_people(), "stm": stm()})
    text = report_markdown(report)
    # Correct, wrong, correct for four labels: precision 1 up to a recall of 1/4, 2/3 up to 1/2.
    ap = (26 + 25 * 2 / 3) / 101
    assert f"| edge | any | 2 | {ap:.3f} | " in text
    assert "| 1.50 | 2.00 |" in text
    # AP: 3 of 4 labels found, nothing wrong. MOTA: 1 - 3/4 for every joint; 0 in one video and 1/2 in the other.
    assert "| edge | 0.750 | 0.250 | 0.000 to 0.500 | 68 | 34 | 0 | 17 |" in text
    assert "| edge | 4 | 4 | 1 | 1 | 250.0 |" in text
    assert "## People at a single similarity" in text
    assert "| left_wrist | 4 | 0.750 | 0.250 |" in text
    assert "for 2 of 4 people estimated" in text
    assert "as in the paper" in text, "the first frame is seeded"
    write_report(report, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    figures = content["figures"]["edge"]
    assert figures["people"]["any"]["ap"] == pytest.approx(ap)
    assert figures["people"]["any"]["people_per_frame"] == 1.5
    assert figures["tracking"]["mota_interval"] == [0, 0.5]
    assert figures["tracking"]["people"]["switches"] == 1
    assert "people" not in content["figures"]["stm"]
    again = Evaluation.model_validate(content["evaluations"]["edge"])
    assert again.model_dump_json() == with_people().model_dump_json()
    out = io.StringIO()
    print_report(report, Console(file=out, width=200))
    assert "Held-out: People" in out.getvalue()
    assert "Held-out: Tracking" in out.getvalue()
    assert "People" not in report_markdown(Report("Held-out", "COCO", EVALUATIONS))


def test_terminal_shows_the_tables():
    out = io.StringIO()
    print_report(Report("Held-out", "COCO [bold]", {**EVALUATIONS, "stm": stm()}), Console(file=out, width=160))
    text = out.getvalue()
    score = EVALUATIONS["edge"].best("closest")
    assert f"{score.precision:.3f}" in text
    assert f"{score.f1:.3f}" in text
    assert "COCO [bold]" in text
    assert "skeleton" in text


def test_networks_without_keypoint_maps_get_no_plots(tmp_path: Path):
    write_report(Report("Table 1", "COCO", {"stm": stm()}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    assert "![" not in (tmp_path / "report.md").read_text()


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot make the folder"):
        write_report(Report("Held-out", "COCO", EVALUATIONS), tmp_path / "file" / "report")
