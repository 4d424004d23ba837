"""``bench predict`` through the command line: what it writes, and one line for whatever is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.predict.devices import devices
from benchmarks.predict.report import Report
from stm_skeletons.bundle import Bundle

COMMAND = """
import os, sys
for name in sys.argv.pop(1).split():
    sys.modules[name] = None
from stm_skeletons.cli import main
main()
"""


def predict(*arguments: str | Path, without: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", COMMAND, without, "bench", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr.removeprefix("stm-skeletons: ").rstrip("\n")


def test_it_prints_and_writes_tables_and_a_plot(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    result = predict("edge", "--device", "orin-nano-8gb", "--device", "rtx-a2000", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("PREDICTION, not a measurement: edge (fp32)\n")
    assert "Assumed shares of the peaks" in result.stdout
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written == ["mine.txt", "predict.json", "predict.md", "roofline.png"]
    report = Report.model_validate_json((tmp_path / "out" / "predict.json").read_text())
    assert [one.device for one in report.devices] == ["orin-nano-8gb", "rtx-a2000"]
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["kind"] == "prediction"
    text = (tmp_path / "out" / "predict.md").read_text()
    for one in report.devices:
        assert one.published is not None
        assert one.published.url in text
    assert (tmp_path / "out" / "roofline.png").read_bytes().startswith(b"\x89PNG")


def test_help_names_every_device():
    result = predict("--help")
    words = "".join(result.stdout.split()).replace("│", "")  # however it is wrapped
    assert all(name in words for name in devices())


def test_an_unknown_device_is_one_line(tmp_path: Path):
    line = refusal(predict("edge", "--device", "orin-mega", "--out", tmp_path / "out"))
    assert line.startswith("no device 'orin-mega'; there are cpu (this machine), orin-nano-8gb, ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["onnx", "matplotlib"])
def test_a_board_is_told_what_is_missing(missing: str):
    line = refusal(predict("edge", "--device", "orin-nano-8gb", without=missing))
    assert line.startswith(f"'bench predict' needs {missing}, which a board does not have")


def test_only_fp32_is_predicted_on_the_cpu(tmp_path: Path):
    shipped = Bundle.open("edge")
    for file in shipped.folder.iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content.replace(b'"precision": "fp32"', b'"precision": "fp16"'))
    assert "predict an fp32 bundle on cpu" in refusal(predict(tmp_path, "--device", "cpu"))


def test_a_video_that_is_too_short_or_not_there_is_one_line(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((64, 64, 3), np.uint8))
    line = refusal(predict("edge", "--device", "cpu", "--video", tmp_path / "one.png"))
    assert line.endswith("one.png has 1 frames, but 40 are needed to fill the memory")
    assert "nowhere.mp4" in refusal(predict("edge", "--device", "cpu", "--video", tmp_path / "nowhere.mp4"))


def test_an_output_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    line = refusal(predict("edge", "--device", "agx-orin", "--out", tmp_path / "file"))
    assert line.startswith("cannot write the folder")
    assert (tmp_path / "file").read_text() == "mine"
