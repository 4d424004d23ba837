"""The commands of the docs run as they are written, page by page, on small files in place of the user's.

tests/test_docs.py checks that the commands and options of all pages exist; CI runs the README's two commands.
"""

import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import pytest
from command import done
from short_training import TWO_STEPS

ROOT = Path(__file__).parents[2]
FRAMES = 24
VIDEOS = ("VIDEO.mp4", "ANOTHER.mp4")
STAND_INS = {
    "VIDEO": "VIDEO.mp4",
    "ANOTHER": "ANOTHER.mp4",
    "SOURCE": "VIDEO.mp4",
    "edge-footage": "edge-footage.toml",
}
"""A word of the docs, and what is given instead. ``FOLDER`` after ``run`` is a folder of images."""
LESS = {
    "bench compare": ["--frames", "20"],
    "bench VIDEO.mp4 --minutes": ["--minutes", "0.05"],
    "bench VIDEO.mp4": ["--frames", "20"],
    "eval": ["--sequences", "2"],
    "run": ["--force"],
}
"""By the start of a command: an option that makes it short, or lets it run twice, in place of the same option."""
ELSEWHERE = {
    "run 0 --window": "a camera and a screen; tests/runtime/test_live.py, tests/runtime/test_run.py",
    "run rtsp://": "a network camera; tests/runtime/test_live.py",
    "run VIDEO.mp4 --provider cuda": "a GPU; tests/gpu/test_onnxruntime_cuda.py",
    "run VIDEO.mp4 --model BUNDLE --backend tensorrt": "a GPU; tests/product/test_engine_commands.py, simulated",
    "build": "a GPU, or TensorRT-RTX; tests/product/test_engine_commands.py, simulated",
    "bench predict BUNDLE": "an FP16 bundle; tests/benchmarks/test_predict.py",
    "bench plots": "a board's report; tests/product/test_bench_command.py",
    "serve deploy/serve.toml": "a service does not end; tests/service/test_service.py, test_documentation.py",
    "export edge.safetensors --out BUNDLE --precision fp16": "500 frames of FP16 on a CPU; tests/export/test_gate.py",
    "init resnet50 --from": "STM's official weights; tests/training/test_official.py",
    "train table3": "STM's official weights; tests/product/test_training_commands.py",
}
"""Commands that these files do not do for: what they need, and which tests run them. The longest start counts."""


def commands(page: str) -> list[list[str]]:
    """The words after ``stm-skeletons`` of each indented command of a page, with the stand-ins."""
    lines = re.findall(r"^    stm-skeletons (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.M)
    found = [[STAND_INS.get(word, word) for word in shlex.split(line, comments=True)] for line in lines]
    return [["run", "IMAGES", *words[2:]] if words[:2] == ["run", "FOLDER"] else words for words in found]


def first_words(words: list[str], starts: Iterable[str]) -> str | None:
    return max((start for start in starts if " ".join(words).startswith(start)), key=len, default=None)


def shortened(words: list[str]) -> list[str]:
    start = first_words(words, LESS)
    if not start:
        return words
    option, *value = LESS[start]
    at = words.index(option) if option in words else len(words)
    return [*words[:at], option, *value, *words[at + 1 + len(value) :]]


@pytest.fixture
def user_files(clip: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with the videos, images, network and recipe that the docs name; recipe and videos short."""
    monkeypatch.chdir(tmp_path)
    frames = cv2.VideoCapture(str(clip))
    Path("IMAGES").mkdir()
    videos = [cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), 10, (768, 576)) for name in VIDEOS]
    for number in range(FRAMES):
        image = frames.read()[1]
        for video in videos:
            video.write(image)
        if number < 3:
            cv2.imwrite(f"IMAGES/{number}.jpg", image)
    for video in videos:
        video.release()
    shutil.copy(shared / "teacher" / "movenet-multipose.onnx", "FILE.onnx")
    Path("edge-footage.toml").write_text(f'like = "edge-footage"\n{TWO_STEPS}')


@pytest.mark.slow
@pytest.mark.usefixtures("user_files")
@pytest.mark.parametrize("page", ["README.md", "docs/run.md", "docs/train.md", "docs/export.md", "docs/measure.md"])
def test_the_commands_of_a_page_run_one_after_another(page: str):
    ran = 0
    for words in commands(page):
        if first_words(words, ELSEWHERE):
            continue
        done(*shortened(words))
        ran += 1
    assert ran >= 2
