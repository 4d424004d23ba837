"""The commands label, show, train, eval, ablate and export, from end to end."""

import json
import re
import shutil
import signal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import cv2
import numpy as np
import pytest
from command import done, refusal, stm
from short_training import TWO_STEPS

from runtime.session import Session
from stm_skeletons.bundle import Bundle
from training.evaluation.evaluation import Evaluation

TINY = """
[data]
width = 96
height = 64
[model]
width = 0.0625
"""


def refused(*arguments: object) -> str:
    """The error of a command that must fail with exit code 2, without the line about the split by name."""
    result = stm(*arguments)
    lines = [line for line in result.stderr.splitlines() if "split by name" not in line]
    return refusal(CompletedProcess(result.args, result.returncode, result.stdout, "\n".join(lines)))


def shortened(folder: Path, name: str, extra: str = "") -> Path:
    """A shipped recipe with a tiny network and two steps."""
    path = folder / f"{name}-short.toml"
    path.write_text(f'like = "{name}"\n{extra}\n{TINY}{TWO_STEPS}')
    return path


@pytest.fixture(scope="module")
def footage(clip: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Footage labelled by MoveNet: two videos, so that one can be held out."""
    out = tmp_path_factory.mktemp("footage")
    teacher = shared / "teacher" / "movenet-multipose.onnx"
    for video in (clip, shared / "video" / "pose_1.mp4"):
        text = done("label", video, "--out", out, "--teacher", teacher, "--every", 5, "--max-frames", 40)
        assert "before training" in text
    return out


def test_label_writes_annotations_and_a_sheet_of_each_video(footage: Path):
    files = sorted(path.name for path in footage.iterdir())
    assert files == ["pose_1.jpg", "pose_1.json", "vtest-10s.jpg", "vtest-10s.json"]
    content = json.loads((footage / "vtest-10s.json").read_text())
    assert content["pseudo"] is True
    assert len(content["images"]) == 8
    assert len(content["annotations"]) > 8
    sheet = cv2.imread(str(footage / "vtest-10s.jpg"))
    assert sheet is not None
    assert np.ptp(sheet) > 200


@pytest.fixture
def walk(clip: Path, tmp_path: Path) -> Path:
    """The sample clip's first three frames, mirrored and cropped, as a folder of images."""
    folder = tmp_path / "walk"
    folder.mkdir()
    capture = cv2.VideoCapture(str(clip))
    for number in range(3):
        image = capture.read()[1]
        assert image is not None
        cv2.imwrite(str(folder / f"{number}.png"), image[:400, ::-1])
    return folder


def test_labels_of_several_sources_are_the_same_as_of_single_ones(
    clip: Path, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The default teacher is the shipped model; it is opened once."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    opened, open_session = [], Session.open

    def counted(model: str, *arguments: Any) -> Session:
        opened.append(model)
        return open_session(model, *arguments)

    monkeypatch.setattr(Session, "open", counted)
    text = done("label", clip, walk, "--out", together, "--max-frames", 3)
    assert opened == ["edge"]
    assert text.count("before training") == 2
    files = sorted(path.name for path in together.iterdir())
    assert files == ["vtest-10s.jpg", "vtest-10s.json", "walk.jpg", "walk.json"]
    for name in ("vtest-10s", "walk"):
        content = json.loads((together / f"{name}.json").read_text())
        assert (content["teacher"]["kind"], content["teacher"]["variant"]) == ("bundle", "edge")
        assert len(content["images"]) == 3
        assert content["annotations"]
    done("label", walk, "--out", alone, "--teacher", "edge")
    for name in ("walk.json", "walk.jpg"):
        assert (together / name).read_bytes() == (alone / name).read_bytes()


def test_sources_of_the_same_name_are_rejected(clip: Path, walk: Path, tmp_path: Path):
    """No label is written."""
    video = tmp_path / "walk.avi"
    video.write_bytes(clip.read_bytes())
    out = tmp_path / "labels"
    assert "several sources are named 'walk'" in refused("label", clip, video, walk, "--out", out)
    assert not out.exists()


def test_recipes_are_listed():
    lines = done("recipes").splitlines()
    assert any(line.startswith("table3-5 ") and "configuration 5" in line for line in lines)


def test_show_draws_images_and_videos(shared: Path, footage: Path, tmp_path: Path):
    done("show", "--data", f"coco={shared / 'coco'}", "--out", tmp_path / "coco.png", "--number", 3)
    done("show", "--data", f"footage={footage}", "--out", tmp_path / "own.jpg", "--recipe", "table3-6-finetuned-small")
    for name in ("coco.png", "own.jpg"):
        image = cv2.imread(str(tmp_path / name))
        assert image is not None
        assert np.ptp(image) > 200
    assert "must end in .png or .jpg" in refused(
        "show", "--data", f"coco={shared / 'coco'}", "--out", tmp_path / "x.gif"
    )


def test_trained_weights_and_their_bundle_evaluate_the_same(shared: Path, tmp_path: Path):
    """Runs train, export and eval."""
    recipe, coco = shortened(tmp_path, "table3-5-small"), f"coco={shared / 'coco'}"
    runs = tmp_path / "runs"
    text = done("train", recipe, "--data", coco, "--out", runs, "--workers", 1, "--accelerator", "cpu")
    assert re.search(r"validation F1: 0\.\d{3} before, 0\.\d{3} after 2 steps, best 0\.\d{3} after [02] ", text)
    weights = runs / "table3-5-small-short" / "seed0" / "weights.safetensors"
    bundle = tmp_path / "bundle"
    done("export", weights, "--out", bundle, "--size", "96x64")
    info = Bundle.open(bundle).info
    assert (info.slots, info.every) == (6, 5), "trained to read all earlier frames"
    assert info.stored_weights == "fp32", "only edge's weights are rounded by default"
    options = ["--data", coco, "--frames", 4, "--sequences", 3, "--start", "cold"]
    text = done("eval", weights, bundle, *options, "--out", tmp_path / "report")
    assert "10 pixels" in text.replace("\n", " ")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        *("report.json", "report.md", "recall_over_time.csv", "recall_over_time.png", "thresholds.png")
    }
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    evaluations = report["evaluations"]
    first, second = evaluations.values()
    assert len(evaluations) == 2
    assert first["counts"] == second["counts"] if "counts" in first else first == second
    assert "already holds a run" in refused("train", recipe, "--data", coco, "--out", runs)


def test_weights_are_compared_with_a_baseline_bundle(
    edge_weights: Path, edge_bundle: Path, shared: Path, tmp_path: Path
):
    """The bundle holds the same network, so both find the same without memory; the precision sets the thresholds."""
    old = shutil.copytree(edge_bundle, tmp_path / "old")
    options = ["--data", f"coco={shared / 'coco'}", "--frames", 3, "--sequences", 2, "--baseline", old]
    done("eval", edge_weights, *options, "--size", "160x96", "--precision", 0.1, "--out", tmp_path / "report")
    evaluations = json.loads((tmp_path / "report" / "report.json").read_text())["evaluations"]
    assert list(evaluations) == ["edge", "edge, without memory", "edge, baseline old"]
    found = {name: Evaluation.model_validate(evaluation) for name, evaluation in evaluations.items()}
    recalls = {name: [score.recall for score in one.scores("closest")] for name, one in found.items()}
    np.testing.assert_allclose(recalls["edge, without memory"], recalls["edge, baseline old"], atol=0.02)
    assert max(recalls["edge, baseline old"]) > 0
    assert recalls["edge"] != recalls["edge, without memory"]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "the lowest with a precision of 0.1 " in text
    assert "\n| edge | edge, baseline old | " in text
    error = refused("eval", edge_weights, *options, "--size", "96x64")
    assert "baseline old and edge differ in maps or input size" in error


def test_ablate_fills_the_papers_tables(shared: Path, footage: Path, tmp_path: Path):
    """One row of each table, with fine-tuning on own footage, over two seeds; a second call trains nothing."""
    names = [
        shortened(tmp_path, "table1-cc-small"),
        shortened(tmp_path, "table2-pretrained-small"),
        shortened(tmp_path, "table3-1-small"),
        shortened(tmp_path, "table3-1-finetuned-small", f'after = "{tmp_path / "table3-1-small-short.toml"}"'),
    ]
    data = ["--data", f"coco={shared / 'coco'}", "--data", f"footage={footage}"]
    options = ["--out", tmp_path / "out", "--seeds", 2, "--frames", 3, "--sequences", 2, "--workers", 0]
    text = done("ablate", *names, *data, *options, "--accelerator", "cpu")
    tables = (tmp_path / "out" / "tables.md").read_text()
    assert text.startswith(tables)
    for expected in ("## Table 1", "## Table 2", "## Table 3", "| 80.7 | 64.6 | 71.8 |", "| 88.1 | 74.3 | 80.7 |"):
        assert expected in tables
    assert "Configuration 1, fine-tuned (`table3-1-finetuned-small-short`) | 81.3 | 17.9 | 29.4 |" in tables
    assert "teacher network" in tables
    rows = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert len(rows) == 8
    assert all(len(row["seeds"]) == 2 for row in rows)
    for kind in ("coco", "footage"):
        assert (tmp_path / "out" / kind / "recall_over_time.png").stat().st_size > 5000
    weights = sorted((tmp_path / "out" / "runs").rglob("weights.safetensors"))
    assert len(weights) == 8
    times = [path.stat().st_mtime_ns for path in weights]
    done("ablate", *names, *data, *options, "--accelerator", "cpu")
    assert [path.stat().st_mtime_ns for path in weights] == times


def test_stopped_ablation_says_how_to_continue(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from training import validation

    monkeypatch.setattr(validation.Validation, "f1", lambda *_: signal.raise_signal(signal.SIGINT) or 0.0)
    recipe, out = shortened(tmp_path, "table3-1-small"), tmp_path / "out"
    options = ["--out", out, "--seeds", 1, "--frames", 3, "--sequences", 2, "--workers", 0, "--accelerator", "cpu"]
    result = stm("ablate", recipe, "--data", f"coco={shared / 'coco'}", *options)
    assert result.returncode == 130
    assert f"stopped; {out} keeps what is done, and the same command continues" in result.stderr


def test_model_and_weights_of_the_same_name_are_compared(edge_weights: Path, shared: Path, tmp_path: Path):
    weights = shutil.copy(edge_weights, tmp_path / "edge.safetensors")
    options = ["--data", f"coco={shared / 'coco'}", "--frames", 3, "--sequences", 1, "--out", tmp_path / "report"]
    done("eval", "edge", weights, *options)
    evaluations = json.loads((tmp_path / "report" / "report.json").read_text())["evaluations"]
    assert list(evaluations) == ["edge", str(weights)]


def test_bad_commands_are_reported_in_one_line(shared: Path, tmp_path: Path):
    coco = f"coco={shared / 'coco'}"
    assert "no recipe 'table3-55'; did you mean table3-5, " in refused("train", "table3-55", "--data", coco)
    assert "no recipe 'table3-55'" in refused("ablate", "table3-55", "--data", coco, "--out", tmp_path)
    assert "(see 'stm-skeletons eval --help')" in refused("eval", "edge", "--datum", coco)
    assert "(see 'stm-skeletons bench run --help')" in refused("bench", "run", "x.avi", "--frames", 3)
    assert "(see 'stm-skeletons --help')" in refused("evil")
    assert "no kind of data 'cocos'" in refused("eval", "edge", "--data", f"cocos={tmp_path}")
    assert "needs coco data" in refused(
        "train", "table1-cc-small", "--data", f"posetrack18={tmp_path}", "--out", tmp_path
    )
    assert "does not exist" in refused("train", "table1-cc-small", "--data", tmp_path / "none", "--out", tmp_path)
    assert "is not of the form KIND=FOLDER" in refused("eval", "edge", "--data", "coco")
    assert "given twice" in refused("eval", "edge", "--data", coco, "--data", coco)
    assert "no weights file" in refused("eval", tmp_path / "no.safetensors", "--data", coco)
    assert "threshold" in refused("eval", "edge", "--data", coco, "--threshold", 2, "--sequences", 1)
    assert "precision is 1.5, must be above 0" in refused("eval", "edge", "--data", coco, "--precision", 1.5)
    assert "--threshold and --precision exclude each other" in refused(
        *("eval", "edge", "--data", coco, "--precision", 0.8, "--threshold", 0.5)
    )
    assert "no weights file" in refused("eval", "edge", "--data", coco, "--baseline", tmp_path / "no.safetensors")
    assert "no MoveNet MultiPose at x.onnx" in refused(
        "label", shared / "video" / "pose_1.mp4", "--out", tmp_path, "--teacher", "x.onnx"
    )
    assert not list(tmp_path.glob("**/*.pt"))
