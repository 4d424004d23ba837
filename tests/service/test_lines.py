"""JSON lines of the service: complete lines in rotating files, whatever the disk and the clock do."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from people_at import result

from runtime.service.config import CameraConfig, LinesConfig
from runtime.service.outputs.lines import LinesOutput
from runtime.service.results import Event
from stm_skeletons.parts import PartsLine

PEOPLE = {7: {"ankles": (100.0, 150.0), "hips": (100.0, 90.0)}}
NAME = re.compile(r"door-\d{8}T\d{6}Z(-\d+)?\.jsonl")


def open_output(folder: Path, **settings) -> LinesOutput:
    config = LinesConfig(folder=str(folder), **settings)
    return LinesOutput(CameraConfig(name="door", source="0", lines=config))


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was never met"
        time.sleep(0.01)


def frames_in(folder: Path) -> list[int]:
    """Return the frame numbers of all lines, file by file."""
    texts = [path.read_text() for path in sorted(folder.iterdir())]
    return [json.loads(line)["frame"] for text in texts for line in text.splitlines()]


def test_lines_are_those_of_run_plus_camera_time_and_events(tmp_path: Path):
    output = open_output(tmp_path / "new" / "folder")
    event = Event("door", "gate", "line", 1_700_000_001.25, 7, "in", 1, "door-clip.mp4")
    output.offer(result(time.monotonic(), PEOPLE, events=(event,)))
    output.close(2)
    [path] = (tmp_path / "new" / "folder").iterdir()
    assert NAME.fullmatch(path.name)
    line = json.loads(path.read_text())
    assert line["camera"] == "door"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["utc"])
    [written] = line["events"]
    assert written == {
        "utc": "2023-11-14T22:13:21.250Z", "camera": "door", "rule": "gate", "kind": "line", "id": 7, "what": "in",
        "count": 1, "clip": "door-clip.mp4",
    }  # fmt: skip
    PartsLine.model_validate(line)
    assert line["people"][0]["id"] == 7
    assert output.counters() == {"written": 1, "dropped": 0, "failed": 0}
    assert output.problem() is None


def test_full_file_starts_the_next_and_oldest_are_deleted(tmp_path: Path):
    output = open_output(tmp_path, megabytes=0.005, keep=3)
    others = [tmp_path / name for name in (
        "door2-20200101T000000Z.jsonl", "door-20200101T000000Z.jsonl.bak", "door-20200101T000000Z.mp4",
        "door-2020.jsonl", "xdoor-20200101T000000Z.jsonl", "door-20200101T000000Z-event.jsonl",
    )]  # fmt: skip
    older = tmp_path / "door-20200101T000000Z-4.jsonl"
    for path in (*others, older):
        path.write_text("")
    (tmp_path / "door-20200101T000000Z.jsonl").symlink_to(others[0])
    for number in range(60):
        output.offer(result(time.monotonic(), PEOPLE, number=number))
    output.close(5)
    assert output.counters()["written"] == 60
    assert all(path.exists() for path in others)
    assert not older.exists()
    kept = sorted(path for path in tmp_path.iterdir() if NAME.fullmatch(path.name) and not path.is_symlink())
    assert len(kept) == 3
    assert all(path.stat().st_size <= 5000 for path in kept)
    frames = [json.loads(line)["frame"] for path in kept for line in path.read_text().splitlines()]
    assert sorted(frames) == list(range(60 - len(frames), 60)), "the newest, none twice"


def test_old_file_starts_the_next(tmp_path: Path):
    output = open_output(tmp_path, hours=0.2 / 3600)
    for number in range(3):
        output.offer(result(time.monotonic(), number=number))
        wait_until(lambda count=number: output.counters()["written"] == count + 1)
        time.sleep(0.25)
    output.close(2)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("clock", [[0, 1e9, 5, 2e9, 5, 5], [1.7e9] * 6])
def test_jumping_clock_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]):
    """Of six files, the two written last are kept, whatever their names."""
    output = open_output(tmp_path, megabytes=0.000_001, keep=2)
    for number, now in enumerate(clock):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        output.offer(result(time.monotonic(), number=number))
        wait_until(lambda count=number: output.counters()["written"] == count + 1)
    output.close(2)
    assert sorted(frames_in(tmp_path)) == [4, 5]


def test_existing_file_is_never_reopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: 1.7e9)
    for number in range(3):
        output = open_output(tmp_path)
        output.offer(result(time.monotonic(), number=number))
        output.close(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "door-20231114T221320Z-1.jsonl", "door-20231114T221320Z-2.jsonl", "door-20231114T221320Z.jsonl",
    ]  # fmt: skip
    assert sorted(frames_in(tmp_path)) == [0, 1, 2]


def test_writing_continues_when_a_missing_folder_returns(tmp_path: Path):
    folder = tmp_path / "card" / "lines"
    output = open_output(folder)
    output.offer(result(time.monotonic(), number=0))
    wait_until(lambda: output.counters()["written"] == 1)
    (tmp_path / "card").rename(tmp_path / "taken")
    (tmp_path / "card").write_text("no folder")
    for number in range(1, 4):
        output.offer(result(time.monotonic(), number=number))
    wait_until(output.problem)
    problem = output.problem()
    assert problem is not None
    assert "cannot make the folder" in problem
    assert "\n" not in problem
    (tmp_path / "card").unlink()
    wait_until(lambda: output.counters()["written"] == 4, 8)
    assert output.problem() is None
    output.close(2)
    assert frames_in(folder) == [1, 2, 3]


def test_oldest_lines_are_dropped_without_waiting_if_writing_fails(tmp_path: Path):
    (tmp_path / "lines").write_text("no folder")
    output = open_output(tmp_path / "lines")
    started = time.monotonic()
    for number in range(3000):
        output.offer(result(started, number=number))
    assert time.monotonic() - started < 2
    wait_until(output.problem)
    (tmp_path / "lines").unlink()
    output.retry_now()
    wait_until(lambda: output.counters()["written"] > 400)
    output.close(3)
    counts = output.counters()
    assert counts["written"] + counts["dropped"] + counts["failed"] == 3000
    assert frames_in(tmp_path / "lines") == list(range(3000 - counts["written"], 3000))
    output.offer(result(started))
    assert output.counters()["dropped"] == counts["dropped"] + 1, "it is closed"


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from people_at import result
from test_lines import PEOPLE, open_output
from pathlib import Path
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if {limit}: resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))
output = open_output(Path({folder!r}), megabytes={megabytes})
number = 0
print("ready", flush=True)
while number < {count}:
    output.offer(result(time.monotonic(), PEOPLE, number=number))
    number += 1
    time.sleep(0.0005)
time.sleep(0.5)
print(output.problem(), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
output.retry_now()
time.sleep(0.3)
output.close(2)
"""


def start_process(folder: Path, megabytes: float, count: int, limit: int = 0) -> subprocess.Popen:
    tests = str(Path(__file__).parent)
    code = SCRIPT.format(tests=tests, folder=str(folder), megabytes=megabytes, count=count, limit=limit)
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True)


def test_full_disk_leaves_complete_lines_and_is_retried(tmp_path: Path):
    """A limit of file sizes simulates the full disk: it accepts only a part of a line."""
    printed, _ = start_process(tmp_path, 1, 40, limit=5000).communicate(timeout=30)
    assert "is the disk full" in printed
    assert frames_in(tmp_path) == list(range(40)), "all lines in order after there is space again"


@pytest.mark.parametrize("after", [0.0, 0.13, 0.31])
def test_kill_leaves_complete_lines_and_next_start_uses_another_file(tmp_path: Path, after: float):
    running = start_process(tmp_path, 0.01, 100_000)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    wait_until(lambda: any(tmp_path.iterdir()))
    time.sleep(after)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    *full, newest = (before[path] for path in sorted(before))
    assert all(text.endswith("\n") for text in full)
    assert newest == "" or newest.endswith("\n"), "the writer may be killed between opening a file and its first line"
    frames_in(tmp_path)
    output = open_output(tmp_path, keep=1000)
    output.offer(result(time.monotonic(), number=5))
    output.close(2)
    assert {path: path.read_text() for path in before} == before
    assert len(list(tmp_path.iterdir())) == len(before) + 1
