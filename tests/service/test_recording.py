"""Recordings: playable segments with real times, within their limit of disk space."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from people_at import result

from runtime.service.config import CameraConfig, RecordingConfig
from runtime.service.outputs.recording import RecordingOutput
from runtime.video_writer import plays

NAME = re.compile(r"door-\d{8}T\d{6}Z(-\d+)?\.mp4")
FACE = {"nose": (200.0, 60.0), "ears": (200.0, 58.0), "left_shoulder": (230.0, 100.0), "right_shoulder": (170.0, 100.0)}


def open_output(folder: Path, **settings) -> RecordingOutput:
    config = RecordingConfig(folder=str(folder), **settings)
    return RecordingOutput(CameraConfig(name="door", source="0", recording=config))


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was never met"
        time.sleep(0.01)


def noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def record(output: RecordingOutput, times: list[float], size: tuple[int, int] = (96, 64)) -> None:
    """Offer frames with these arrival times, each after the previous one is written."""
    for i, now in enumerate(times):
        done = sum(output.counters().values())
        output.offer(result(now, size=size, image=noise(size, i)))
        wait_until(lambda before=done: sum(output.counters().values()) > before)


def frames_of(path: Path) -> list[tuple[float, int, int]]:
    """Return time, width and height of each frame that a player shows, up to where the file was cut off. The first is
    there twice, 1 ms apart."""
    frames = []
    with suppress(av.error.InvalidDataError), av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append((float(frame.time or 0), frame.width, frame.height))
    assert not frames or frames[1][0] == 0.001
    return frames[:1] + frames[2:]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns)


def test_frames_are_shown_at_their_arrival_times(tmp_path: Path):
    output = open_output(tmp_path / "new")
    times = [50.0, 50.1, 50.35, 51.0, 54.9]
    record(output, times)
    output.close(2)
    [path] = segments(tmp_path / "new")
    assert NAME.fullmatch(path.name)
    assert [shown for shown, _, _ in frames_of(path)] == pytest.approx([now - 50 for now in times], abs=0.002)
    assert output.counters() == {"written": 5, "dropped": 0, "failed": 0}


def test_age_image_size_and_camera_pauses_end_a_segment(tmp_path: Path):
    output = open_output(tmp_path, minutes=0.05)
    record(output, [10, 11, 12, 12.9, 13, 14])
    record(output, [14.5], size=(64, 64))
    record(output, [14.6], size=(97, 65))
    record(output, [20, 21], size=(97, 65))
    output.close(2)
    found = [frames_of(path) for path in segments(tmp_path)]
    assert [len(frames) for frames in found] == [4, 2, 1, 1, 2]
    assert [frames[0][1:] for frames in found] == [(96, 64), (96, 64), (64, 64), (96, 64), (96, 64)]
    assert all(frames[0][0] == 0 for frames in found)


def test_oldest_segments_of_the_camera_are_deleted_for_new_ones(tmp_path: Path):
    others = [tmp_path / name for name in ("hall-20200101T000000Z.mp4", "door-20200101T000000Z-event.mp4", "door.mp4")]
    older = [tmp_path / f"door-20200101T00000{n}Z.mp4" for n in range(3)]
    for path in (*others, *older):
        path.write_bytes(bytes(200_000))
    output = open_output(tmp_path, gigabytes=0.001, minutes=1)
    size = (320, 240)
    most = 0
    for i in range(100):
        record(output, [10 + i / 5], size)
        most = max(most, sum(path.stat().st_size for path in tmp_path.glob("door-*Z*.mp4") if path not in others))
    output.close(2)
    assert output.counters() == {"written": 100, "dropped": 0, "failed": 0}
    assert most < 1_300_000, "except for the latest two seconds"
    assert not any(path.exists() for path in older)
    assert all(path.exists() for path in others)
    kept = [path for path in segments(tmp_path) if NAME.fullmatch(path.name)]
    assert len(kept) >= 3, "a segment takes at most a quarter"
    assert all(frames_of(path) for path in kept)


def test_heads_are_blurred_if_configured(tmp_path: Path):
    seen = []
    for name, blur in (("plain", False), ("blurred", True)):
        output = open_output(tmp_path / name, blur_heads=blur)
        image = noise((400, 200))
        found = result(10.0, {1: FACE}, image=image)
        # Heads of people who are left out, too: no people are reported here.
        output.offer(replace(found, parts=result(10.0).parts))
        output.close(2)
        with av.open(str(segments(tmp_path / name)[0])) as container:
            seen.append(next(container.decode(video=0)).to_ndarray(format="bgr24").astype(int))
    different = np.abs(seen[0] - seen[1]).max(axis=2) > 60
    assert different[45:75, 185:215].mean() > 0.3
    assert different[120:, :].mean() < 0.05


def test_slow_encoder_queues_at_most_2_s_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Offering a frame never waits."""
    output = open_output(tmp_path)
    paint = output._painter.paint
    arrived = []

    def paint_slowly(frame, *rest):
        arrived.append(frame.arrived)
        time.sleep(0.2)
        return paint(frame, *rest)

    monkeypatch.setattr(output._painter, "paint", paint_slowly)
    started = time.monotonic()
    for i in range(100):
        output.offer(result(10 + i / 4, size=(96, 64), image=noise((96, 64))))
    assert time.monotonic() - started < 0.5
    output.close(4)
    counts = output.counters()
    assert counts["dropped"] > 80
    assert sum(counts.values()) == 100
    assert arrived[-1] == 10 + 99 / 4
    assert arrived[1] >= arrived[-1] - 2


def test_recording_continues_when_a_missing_folder_returns(tmp_path: Path):
    output = open_output(tmp_path / "card")
    record(output, [10, 10.1])
    (tmp_path / "card").rename(tmp_path / "taken")
    (tmp_path / "card").write_text("no folder")
    output.offer(result(10.2, size=(96, 64)))
    wait_until(output.problem)
    assert "cannot make the folder" in str(output.problem())
    (tmp_path / "card").unlink()
    output.retry_now()
    record(output, [10.3, 10.4])
    output.close(2)
    assert output.problem() is None
    assert [len(frames_of(path)) for path in segments(tmp_path / "card")] == [2]
    assert output.counters() == {"written": 4, "dropped": 0, "failed": 1}


SCRIPT = """
import resource, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from people_at import result
from test_recording import noise, open_output
if {limit}: resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))
output = open_output(Path({folder!r}))
start = time.monotonic()
for i in range({count}):
    output.offer(result(10 + i / 10, size=(160, 120), image=noise((160, 120), i)))
    time.sleep(0.01)
    if i == 5: print("ready", flush=True)
print(output.problem(), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
output.retry_now()
time.sleep(0.1)
output.offer(result(10 + i / 10, size=(160, 120), image=noise((160, 120), 0)))
output.close(2)
print(output.problem(), flush=True)
"""


def start_process(folder: Path, count: int, limit: int = 0) -> subprocess.Popen:
    code = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder), count=count, limit=limit)
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True)


def test_full_disk_is_reported_and_retried(tmp_path: Path):
    """A limit of file sizes simulates the full disk. Earlier recordings stay playable."""
    printed, _ = start_process(tmp_path, 100, limit=400_000).communicate(timeout=30)
    _, full, after = printed.splitlines()
    assert "cannot write" in full
    assert after == "None"
    assert len(segments(tmp_path)) == 2
    assert len(frames_of(segments(tmp_path)[0])) >= 20
    assert len(frames_of(segments(tmp_path)[1])) >= 1


def test_recording_before_a_kill_is_playable(tmp_path: Path):
    running = start_process(tmp_path, 100_000)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    wait_until(lambda: any(path.stat().st_size > 300_000 for path in tmp_path.iterdir()))
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    [path] = tmp_path.iterdir()
    assert len(frames_of(path)) >= 20, "at least two seconds"
    output = open_output(tmp_path)
    record(output, [5])
    output.close(2)
    assert len(segments(tmp_path)) == 2
    assert all(frames_of(path) for path in segments(tmp_path))


def test_recording_is_playable_from_its_first_frame_on(tmp_path: Path):
    """A kill leaves the file as it is during writing."""
    output = open_output(tmp_path)
    record(output, [10])
    assert plays(segments(tmp_path)[0])
    record(output, [10.1 + i / 10 for i in range(40)])
    assert len(frames_of(segments(tmp_path)[0])) >= 20
    output.close(2)
    assert len(frames_of(segments(tmp_path)[0])) == 41


def test_frame_that_cannot_be_encoded_does_not_end_the_output(tmp_path: Path):
    """An image that no encoder accepts is the only loss."""
    output = open_output(tmp_path)
    record(output, [10.0])
    tiny = result(10.1, size=(1, 1))
    output.offer(replace(tiny, frame=replace(tiny.frame, image=np.zeros((1, 1, 3), np.uint8))))
    wait_until(output.problem)
    assert "cannot write" in str(output.problem())
    output.retry_now()
    record(output, [10.2])
    output.close(2)
    assert output.counters() == {"written": 2, "dropped": 0, "failed": 1}
    assert [len(frames_of(path)) for path in segments(tmp_path)] == [1, 1]
