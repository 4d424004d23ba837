"""Cameras, with a real RTSP server on loopback (tests/runtime/rtsp_camera.py)."""

import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command import stm
from rtsp import RtspCamera, need_gstreamer

from runtime.frames import Frame
from runtime.live import LiveOptions
from runtime.run import run
from runtime.session import Session
from runtime.sources import SourceOptions, open_source
from stm_skeletons.errors import SourceError
from stm_skeletons.parts import Parts

RATE = 60


@pytest.fixture
def camera() -> Iterator[RtspCamera]:
    need_gstreamer()
    camera = RtspCamera(RATE)
    yield camera
    camera.kill()


def clock(image: np.ndarray) -> int:
    """Milliseconds of CLOCK_MONOTONIC that are drawn into an image."""
    bits = image[4:12, 4:256:8].mean(axis=(0, 2)) > 128
    return int("".join("1" if bit else "0" for bit in bits), 2)


def age(frame: Frame) -> float:
    """Seconds since a frame was drawn."""
    return ((int(time.monotonic() * 1000) - clock(frame.image)) & 0xFFFFFFFF) / 1000


@pytest.fixture
def session(edge_bundle: Path) -> Iterator[Session]:
    with Session.open(edge_bundle) as opened:
        yield opened


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_results_of_a_faster_camera_are_never_late(camera: RtspCamera, session: Session):
    """60 frames per second against 8; the clock drawn into the image gives the age of a result."""
    pace, ages, numbers = 1 / 8, [], []

    def work_slowly(frame: Frame, _parts: Parts) -> None:
        time.sleep(pace)
        ages.append(age(frame))
        numbers.append(frame.number)

    source = open_source(camera.address)
    summary = run(source, session, [], max_frames=40, on_frame=work_slowly)
    source.close()
    frame_time = summary.seconds / summary.frames
    assert np.percentile(ages[5:], 99) < 2 * frame_time + 0.1
    assert summary.skipped + summary.frames == numbers[-1] + 1
    assert summary.skipped / summary.frames == pytest.approx(RATE * frame_time - 1, rel=0.25)
    assert summary.ages.count == 40


def test_run_counts_from_the_first_frame_and_hides_passwords(camera: RtspCamera, edge_bundle: Path, tmp_path: Path):
    address, lines = camera.address.replace("://", "://user:secret@"), tmp_path / "p.jsonl"
    result = stm("run", address, "--model", edge_bundle, "--parts", lines, "--max-frames", "20")
    assert result.returncode == 0, result.stderr
    assert "secret" not in result.stderr
    assert re.search(r"\d+ frames skipped, result age \d+ ms \(p99 \d+ ms\)", result.stderr)
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert (found[0]["frame"], found[0]["skipped"], found[0]["time"]) == (0, 0, 0)
    assert all(0 < line["age"] < 5 for line in found)
    assert [line["frame"] for line in found] == list(
        np.cumsum([line["skipped"] + (i > 0) for i, line in enumerate(found)])
    )


def test_every_frame_option_skips_no_frame(camera: RtspCamera):
    source = open_source(camera.address, SourceOptions(LiveOptions(every_frame=True)))
    numbers, clocks = [], []
    for frame in source:
        numbers.append(frame.number)
        clocks.append(clock(frame.image))
        time.sleep(0.03)
        if len(numbers) == 30:
            break
    source.close()
    assert numbers == list(range(30))
    assert np.diff(clocks).max() < 100, "no frame is skipped"


def test_camera_faults_are_reported_and_survived(camera: RtspCamera):
    messages: list[str] = []
    stop, frames = threading.Event(), []
    source = open_source(camera.address, SourceOptions(LiveOptions(stall=1.0, say=messages.append)))
    source.stop_when(stop)
    reading = threading.Thread(target=lambda: frames.extend((f.number, f.resets_memory, f.image.shape) for f in source))
    reading.start()

    def reported(text: str) -> bool:
        return any(text in line for line in messages)

    until(lambda: len(frames) > 5)
    for state in ("black", "freeze"):
        camera.tell(state)
        word = "frozen" if state == "freeze" else state
        until(lambda word=word: reported(f"image has been {word}"))
        camera.tell("go")
        until(lambda word=word: reported(f"no longer {word}"))
    assert not any(resets_memory for _, resets_memory, _ in frames)
    camera.tell("size 320x192")
    until(lambda: reported("image size changed from 256x160 to 320x192"))
    until(lambda: frames[-1][2] == (192, 320, 3))
    assert sum(resets_memory for _, resets_memory, _ in frames) == 1
    camera.kill()
    until(lambda: reported("no more frames"))
    time.sleep(1.2)
    camera.start()
    until(lambda: reported("back after"))
    until(lambda: sum(resets_memory for _, resets_memory, _ in frames) == 2)
    stop.set()
    reading.join(1)
    assert not reading.is_alive()
    source.close()
    assert [number for number, _, _ in frames] == sorted({number for number, _, _ in frames})


def test_camera_that_stays_away_is_given_up(camera: RtspCamera):
    source = open_source(camera.address, SourceOptions(LiveOptions(stall=1.0, give_up_after=2.0)))
    frames = iter(source)
    next(frames)
    camera.kill()
    gone = time.monotonic()
    with pytest.raises(SourceError, match=r"stopped after \d+ frames .*--give-up-after"):
        for _ in frames:
            pass
    assert time.monotonic() - gone < 4
    source.close()


def test_stop_does_not_wait_for_a_hanging_camera(camera: RtspCamera):
    """Ctrl-C works at once, though the decoder may hang for longer."""
    source = open_source(camera.address)
    stop = threading.Event()
    source.stop_when(stop)
    frames = iter(source)
    next(frames)
    camera.tell("stall")
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    assert len(list(frames)) < 60
    assert time.monotonic() - started < 1
    source.close()
    assert time.monotonic() - started < 2.5


def inject_faults(camera: RtspCamera, count: int, seed: int) -> None:
    """Cuts, stalls, freezes and size changes at random times; frames return after each, without leaks."""
    dice, messages = random.Random(seed), []
    source = open_source(camera.address, SourceOptions(LiveOptions(stall=0.5, give_up_after=60, say=messages.append)))
    stop, latest = threading.Event(), [0, 0.0]
    source.stop_when(stop)

    def read() -> None:
        for frame in source:
            assert frame.number >= latest[0]
            latest[:] = frame.number + 1, time.monotonic()

    reading = threading.Thread(target=read)
    reading.start()
    until(lambda: latest[0] > 10)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(count):
        fault = dice.choice(["kill", "kill", "stall", "freeze", "black", "size"])
        if fault == "kill":
            camera.kill()
            time.sleep(dice.uniform(0, 1))
            camera.start()
        elif fault == "size":
            camera.tell(dice.choice(["size 256x160", "size 320x192"]))
        else:
            camera.tell(fault)
            time.sleep(dice.uniform(0, 1.5))
            camera.tell("go")
        ended = time.monotonic()
        until(lambda ended=ended: latest[1] > ended, 40)
    assert abs(threading.active_count() - threads) <= 1
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2  # noqa: PTH208
    stop.set()
    reading.join(2)
    source.close()
    assert not reading.is_alive()


@pytest.mark.parametrize("count", [2, pytest.param(200, marks=pytest.mark.soak)])
def test_frames_return_after_every_fault(camera: RtspCamera, count: int):
    inject_faults(camera, count, seed=21)


@pytest.mark.soak
def test_age_and_memory_stay_flat_for_an_hour_of_a_faster_camera(camera: RtspCamera, session: Session):
    """STM_SKELETONS_SOAK_SECONDS shortens the hour."""
    from runtime.machine import resident_memory

    seconds = float(os.environ.get("STM_SKELETONS_SOAK_SECONDS", "3600"))
    ages: list[float] = []
    memory: list[int] = []

    def work_slowly(frame: Frame, _parts: Parts) -> None:
        time.sleep(1 / 8)
        ages.append(age(frame))
        memory.append(resident_memory()[0])

    source, stop = open_source(camera.address), threading.Timer(seconds, signal.raise_signal, [signal.SIGTERM])
    stop.start()
    summary = run(source, session, [], on_frame=work_slowly)
    source.close()
    frame_time, tenth = summary.seconds / summary.frames, len(ages) // 10
    early, late = (float(np.percentile(part, 99)) for part in (ages[tenth : 2 * tenth], ages[-tenth:]))
    print(
        f"{summary.frames} frames in {summary.seconds:.0f} s, {summary.skipped} skipped; p99 of the age {early:.3f} s "
        f"in the second tenth, {late:.3f} s in the last; resident {memory[tenth] / 1e6:.1f} and "
        f"{memory[-1] / 1e6:.1f} MB"
    )
    assert np.percentile(ages[5:], 99) < 2 * frame_time + 0.1
    assert memory[-1] == pytest.approx(memory[tenth], rel=0.02)
