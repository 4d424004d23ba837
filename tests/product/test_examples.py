"""The scripts of examples/ on the sample clip, run as users run them."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[2]
CLIP = "examples/vtest-10s.avi"


def example(*command: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script from the root of the sources, with this environment's commands on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        timeout=900,
        check=False,
    )
    assert not check or result.returncode == 0, result.stderr
    return result


def python(script: str, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return example(sys.executable, f"examples/{script}", *words, check=check)


def test_webcam_example_draws_and_counts_people(tmp_path: Path):
    printed = python("webcam.py", CLIP, "--save", tmp_path / "people.mp4").stdout.splitlines()
    assert len(printed) == 100
    counts = [int(re.fullmatch(r" *\d+\.\d\d s: (\d+) people", line)[1]) for line in printed]  # type: ignore[index]
    assert max(counts) >= 5
    video = cv2.VideoCapture(str(tmp_path / "people.mp4"))
    assert sum(1 for _ in iter(video.grab, False)) == 100


def test_region_example_counts_people():
    everywhere = python("count_in_region.py", CLIP, "--region", "0,0", "1,0", "1,1", "0,1").stdout
    front = python("count_in_region.py").stdout
    nowhere = python("count_in_region.py", CLIP, "--region", "0,0", "0.01,0", "0.01,0.01").stdout

    def most_people(printed: str) -> int:
        return max(int(count) for count in re.findall(r"s: (\d+) in the region", printed))

    assert most_people(everywhere) > most_people(front) > most_people(nowhere) == 0
    assert nowhere.count("\n") == 1, "a line only where the count changes"


def test_many_cameras_example_reads_every_camera():
    printed = python("many_cameras.py", CLIP, CLIP, "--seconds", "4").stdout.splitlines()
    assert len(printed) > 6
    counts = [int(line.split()[-2]) for line in printed[-2:]]
    assert min(counts) > 2
    assert sum(counts) == len(printed) - 2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install ray")
def test_archive_workers_share_videos_and_continue_after_an_interruption(tmp_path: Path):
    archive, out = tmp_path / "archive", tmp_path / "out"
    (archive / "monday").mkdir(parents=True)
    for name in ("a.avi", "monday/a.avi", "monday/b.avi"):
        shutil.copy(ROOT / CLIP, archive / name)
    (archive / "broken.avi").write_bytes(b"RIFF" + 100 * b"x")
    arguments = (archive, "--out", out, "--workers", "2")
    first = python("archive.py", *arguments, check=False)
    assert first.returncode == 1, "one video is broken"
    assert "4 videos, 0 of them done before" in first.stdout
    assert first.stdout.count("100 frames") == 3
    assert sum("broken.avi" in line for line in first.stdout.splitlines()) == 1
    assert "Traceback" not in first.stdout + first.stderr
    results = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert results == ["a.avi.jsonl", "monday/a.avi.jsonl", "monday/b.avi.jsonl"]
    assert all(len((out / name).read_text().splitlines()) == 100 for name in results)
    (archive / "broken.avi").unlink()
    (out / "a.avi.jsonl").unlink()
    again = python("archive.py", *arguments).stdout
    assert "3 videos, 2 of them done before" in again
    assert again.count("100 frames") == 1
    assert "3 videos, 3 of them done before" in python("archive.py", *arguments).stdout


@pytest.mark.slow
def test_the_model_is_adapted_to_a_camera(tmp_path: Path):
    out = tmp_path / "adapted"
    printed = example("bash", "examples/adapt_to_camera.sh", out, CLIP, STEPS="2", FRAMES="24").stdout
    assert "overlay.mp4; contact sheets of the labels: " in printed
    assert (out / "bundle" / "bundle.json").is_file()
    assert (out / "overlay.mp4").stat().st_size > 10_000
