import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from stm_skeletons.errors import DataError, SinkError
from stm_skeletons.maps import SKELETON_CHANNEL
from stm_skeletons.skeleton import COCO17
from training.evaluation.evaluate import EvaluatedSequence, Evaluation, KeypointEvaluation
from training.evaluation.keypoints import THRESHOLDS, KeypointCounts, count_keypoints, stack, zeros
from training.evaluation.report import Report, print_report, report_markdown, write_report


def joint_counts(found: int) -> KeypointCounts:
    """Ten labels 40 px apart, so many of them found with falling scores, and two predictions that are wrong."""
    labels = np.array([(40.0 * i, 0) for i in range(10)])
    right = [(40.0 * i, 3, 0.95 - 0.08 * i) for i in range(found)]
    return count_keypoints(labels, np.array([*right, (20, 200, 0.32), (60, 200, 0.12)]), THRESHOLDS)


def evaluation(found: list[int]) -> Evaluation:
    """A sequence for each number, of four frames, the first of which seeds; all joints alike; later ones find less."""
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
    )


def stm() -> Evaluation:
    """Without keypoint maps; nothing was predicted."""
    counts = {"channels": (SKELETON_CHANNEL,), "pixels": np.array([[[0], [0], [5]]] * 2), "keypoints": None}
    return evaluation([5, 6]).model_copy(update=counts)


NAMES = {"edge": evaluation([8, 9, 10]), "_odd $name|": evaluation([5, 7, 9])}


def test_all_files_are_written_and_agree(tmp_path: Path):
    report = Report("Held-out", "COCO 53", {**NAMES, "stm": stm()})
    folder = tmp_path / "new" / "report"
    write_report(report, folder)
    names = ["recall_over_time.csv", "recall_over_time.png", "report.json", "report.md", "thresholds.png"]
    assert sorted(path.name for path in folder.iterdir()) == names

    content = json.loads((folder / "report.json").read_text())
    best = NAMES["edge"].best("one_to_one")
    assert content["figures"]["edge"]["keypoints"]["one_to_one"]["f1"] == best.f1
    assert content["figures"]["stm"]["pixels"]["skeleton"]["precision"] is None, "nothing was predicted"
    again = Evaluation.model_validate(content["evaluations"]["edge"])
    assert again.best("one_to_one") == best

    with (folder / "recall_over_time.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [row for row in rows if row["name"] == "edge" and row["matching"] == "closest"]
    assert [int(row["frame"]) for row in shown] == [1, 2, 3]
    over_time = NAMES["edge"].hits_over_time(float(shown[0]["threshold"]), "closest")
    assert [(int(row["labels"]), int(row["hits"])) for row in shown] == [point[1:] for point in over_time]
    assert float(shown[0]["recall"]) == pytest.approx(over_time[0][2] / over_time[0][1], abs=1e-6)

    for name in ("recall_over_time.png", "thresholds.png"):
        image = np.asarray(cv2.imread(str(folder / name)))
        assert image.shape[0] > 400
        assert image.std() > 5, "something is drawn"


def test_the_markdown_says_what_is_measured():
    text = report_markdown(Report("Held-out", "own footage", NAMES, pseudo=True))
    for expected in (
        "pseudo labels",
        "network pixels at 448x256",
        "within 10 pixels",
        "13 body joints",
        "closest (paper)",
        "one to one",
        "flattering",
        "| edge | seed | coco17 | network pixels at 448x256 | 3 | 3 | 9 |",
        "| left_wrist |",
        r"_odd $name\|",
    ):
        assert expected in text
    assert "pseudo" not in report_markdown(Report("Held-out", "COCO", NAMES))


def test_a_threshold_chosen_elsewhere_is_reported_and_said():
    report = Report("Held-out", "COCO", NAMES, threshold=0.5)
    assert report.score("edge", "closest") == NAMES["edge"].at(0.5, "closest")
    assert "0.5, chosen beforehand" in report_markdown(report)
    with pytest.raises(DataError):
        report_markdown(Report("Held-out", "COCO", NAMES, threshold=0.77))


def test_the_tables_on_the_terminal():
    out = io.StringIO()
    print_report(Report("Held-out", "COCO [bold]", {**NAMES, "stm": stm()}), Console(file=out, width=160))
    text = out.getvalue()
    score = NAMES["edge"].best("closest")
    assert f"{score.precision:.3f}" in text
    assert f"{score.f1:.3f}" in text
    assert "COCO [bold]" in text
    assert "skeleton" in text


def test_networks_without_keypoint_maps_get_no_plots(tmp_path: Path):
    write_report(Report("Table 1", "COCO", {"stm": stm()}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    assert "![" not in (tmp_path / "report.md").read_text()


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot make the folder"):
        write_report(Report("Held-out", "COCO", NAMES), tmp_path / "file" / "report")
