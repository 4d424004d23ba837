"""``stm-skeletons bench`` as a command."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from command import COMMAND, refused, stm

ROOT = Path(__file__).parents[2]
PLOTS = ["frames.png", "latency.png", "memory.png", "people.png", "stages.png"]
WITHOUT_WORKSTATION_LIBRARIES = """
import sys
for name in ("torch", "onnx", "onnxslim", "safetensors", "scipy", "matplotlib"):
    sys.modules[name] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if sys.modules.get(name, 0) is None else found(name, *rest)
from stm_skeletons.cli import main
main()
"""


def test_a_video_is_measured_and_reported(clip: Path, edge_bundle: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ("--model", edge_bundle, "--frames", "30", "--fps", "1000", "--streams", "1,2", "--threads", "1")
    result = stm("bench", clip, *arguments, "--out", out)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted([*PLOTS, "report.json", "report.md"])
    report = json.loads((out / "report.json").read_text())
    jsonschema.validate(report, json.loads(stm("schema", "bench").stdout))
    assert report["end_to_end"]["deadline"] == 1.0
    assert len(report["raw"]["frame"]) == 30
    assert [one["streams"] for one in report["streams"]] == [1, 2]
    assert [one["cameras"] for one in report["groups"]] == [2], "one camera is not a group"
    assert "F1 was not measured; --data measures it" in result.stdout
    assert "end to end" in result.stdout
    plotted = stm("bench", "plots", out / "report.json", "--out", tmp_path / "plots")
    assert plotted.returncode == 0, plotted.stderr
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == PLOTS


def test_board_measures_without_plots_and_accuracy(clip: Path, edge_bundle: Path, tmp_path: Path):
    """Without the workstation's libraries."""
    out = tmp_path / "out"
    arguments = ["bench", str(clip), "--model", str(edge_bundle), "--frames", "11", "--out", str(out)]
    command = [sys.executable, "-W", "error", "-c", WITHOUT_WORKSTATION_LIBRARIES]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.md"]
    assert "no plots: matplotlib is not installed" in result.stderr
    asked = subprocess.run(
        [*command, *arguments, "--data", f"coco={tmp_path}"], capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    assert asked.returncode == 2
    assert "'--data' needs torch" in asked.stderr
    assert len(asked.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signals_end_the_run_with_a_report(clip: Path, edge_bundle: Path, tmp_path: Path, number: signal.Signals):
    out = tmp_path / "out"
    arguments = [
        "bench",
        str(clip),
        "--model",
        str(edge_bundle),
        "--minutes",
        "30",
        "--streams",
        "2",
        "--out",
        str(out),
    ]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "measuring for 30 minutes" in process.stderr.readline()
        time.sleep(2)
        process.send_signal(number)
        assert process.wait(60) == 0
        assert "the report is complete up to there" in process.stderr.read()
    report = json.loads((out / "report.json").read_text())
    assert report["run"]["stopped_early"]
    assert report["soak"]["verdict"] == "cannot tell"
    assert report["streams"] == []
    assert not list(out.glob(".*"))


def test_bad_input_is_reported_in_one_line_and_leaves_no_files(clip: Path, edge_bundle: Path, tmp_path: Path):
    out = tmp_path / "out"
    (tmp_path / "file").touch()
    for arguments, message in (
        (("missing.mp4",), "no file, folder or camera"),
        ((clip, "--model", "yolo"), "no model or bundle 'yolo'"),
        ((clip, "--frames", "3"), "--frames"),
        ((clip, "--frames", "20", "--minutes", "1"), "exclude each other"),
        ((clip, "--streams", "1,many"), "not a list of numbers"),
        ((clip, "--streams", "0"), "not a list of numbers"),
        ((clip, "--provider", "tpu"), "unknown provider"),
        ((clip, "--no-cuda-graphs"), "requires --backend tensorrt or --provider cuda"),
        ((clip, "--fps", "0"), "--fps"),
        ((clip, "--data", "coco"), "KIND=FOLDER"),
        ((clip, "--data", "coco=/none"), "folder /none does not exist"),
        ((clip, "--speed"), "no such option"),
        (("plots", tmp_path / "none.json"), "cannot read"),
        (("plots", clip), "not a valid report"),
    ):
        assert message.lower() in refused("bench", *arguments, "--out", out).lower(), arguments
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    assert "is a file" in refused("bench", clip, "--out", tmp_path / "file")


@pytest.fixture(scope="module")
def few_images(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every 3rd of the labelled images."""
    folder, name = tmp_path_factory.mktemp("coco"), "person_keypoints_train.json"
    content = json.loads((shared / "coco" / name).read_text())
    content["images"] = content["images"][::3]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    (folder / name).write_text(json.dumps(content))
    (folder / "images").symlink_to(shared / "coco" / "images")
    return f"coco={folder}"


@pytest.mark.slow
def test_report_includes_f1_with_data(few_images: str, clip: Path, tmp_path: Path):
    result = stm("bench", clip, "--frames", "11", "--data", few_images, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["occluded"] for one in report["accuracy"]] == [False, True]
    assert all(0.3 < one["f1"] < 1 for one in report["accuracy"])
    assert not [note for note in report["notes"] if "F1 was not measured" in note]


def test_unknown_data_fails_after_the_speed_is_saved(clip: Path, edge_bundle: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ("--model", edge_bundle, "--frames", "11", "--data", f"faces={tmp_path}", "--out", out)
    result = stm("bench", clip, *arguments)
    assert result.returncode == 2
    assert "kinds are coco" in result.stderr.splitlines()[-1]
    assert "F1 was not measured; --data measures it" in (out / "report.md").read_text()


def test_help_lists_the_commands():
    result = stm("bench", "--help")
    assert result.returncode == 0
    assert "plots" in result.stdout
    assert "run" in result.stdout


@pytest.fixture
def movenet(shared: Path) -> str:
    return f"movenet:{shared / 'teacher' / 'movenet-multipose.onnx'}"


def test_bundle_movenet_and_pytorch_are_compared(
    clip: Path, edge_bundle: Path, edge_weights: Path, movenet: str, tmp_path: Path
):
    """The bundle and the networks are small."""
    arms = (str(edge_bundle), f"{movenet},size=160x96", f"eager:{edge_weights},size=160x96")
    out = tmp_path / "out"
    result = stm("bench", "compare", clip, *arms, "--frames", "11", "--threads", "1", "--out", out)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {"compare.json", "compare.md", "ratios.png", "times.png"}
    found = json.loads((out / "compare.json").read_text())
    assert [arm["latency"]["count"] for arm in found["arms"]] == [11] * 3
    assert found["arms"][0]["ratio"]["median"] == 1
    assert "MoveNet MultiPose alone, 160x96" in (out / "compare.md").read_text()


def test_invalid_comparisons_are_reported_in_one_line(clip: Path, edge_bundle: Path, tmp_path: Path):
    for arguments, message in (
        ((clip, edge_bundle), "at least two variants"),
        ((clip, edge_bundle, edge_bundle), "listed twice"),
        ((clip, edge_bundle, "eager:none.safetensors"), "none.safetensors"),
        ((clip, edge_bundle, "faces"), "faces"),
        (("none.avi", edge_bundle, "edge"), "none.avi"),
        ((clip, edge_bundle, f"{edge_bundle},provider=npu"), "unknown provider 'npu'"),
        ((clip, edge_bundle, "edge", "--data", "coco=/none"), "--data coco: folder /none does not exist"),
    ):
        assert message in refused("bench", "compare", *arguments, "--frames", "1", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_comparison_with_pytorch_on_a_board_is_an_error(clip: Path, edge_bundle: Path, edge_weights: Path):
    command = [sys.executable, "-c", WITHOUT_WORKSTATION_LIBRARIES, "bench", "compare", str(clip), str(edge_bundle)]
    for more, option in (([f"eager:{edge_weights}"], "eager:"), (["edge", "--data", "coco=/none"], "--data")):
        result = subprocess.run([*command, *more, "--frames", "1"], capture_output=True, text=True, timeout=120)
        assert result.returncode == 2
        assert result.stderr.startswith(f"stm-skeletons: '{option}' needs torch, safetensors"), result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_comparison_includes_f1_of_every_variant(few_images: str, clip: Path, movenet: str, tmp_path: Path):
    result = stm("bench", "compare", clip, "edge", movenet, "--frames", "2", "--data", few_images, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    edge, theirs = (arm["f1"] for arm in json.loads((tmp_path / "compare.json").read_text())["arms"])
    assert [one["occluded"] for one in edge] == [False, True]
    assert edge[1]["f1"] > theirs[1]["f1"] > 0.4, "memory helps behind an occluder"
    assert edge[0]["f1"] > theirs[0]["f1"] - 0.02, "and does no harm without one"
