"""Camera feeds: files at their own pace or with every frame, and a real RTSP camera that fails and returns."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pace import slowdown

from runtime import sources
from runtime.frames import Frame
from runtime.service import camera_feed
from runtime.service.camera_feed import CameraFeed
from runtime.service.config import CameraConfig
from runtime.service.log import Log
from runtime.service.status import Board, CameraStats, State

OpenReader = Callable[..., "Reader"]
JOIN = threading.Thread.join


class Reader:
    """A feed and its log lines."""

    def __init__(self, source: object, **settings: Any) -> None:
        self.stats = CameraStats("door")
        self.wakeup = threading.Condition()
        self.logged: list[str] = []
        config = CameraConfig(name="door", source=str(source), **settings)
        self.feed = CameraFeed(config, self.stats, self.wakeup, self.logged.append)
        self.feed.start()

    def next(self, within: float = 10.0) -> Frame:
        with self.wakeup:
            assert self.wakeup.wait_for(lambda: self.feed.waiting, within), f"no frame; {self.stats.state()}"
        frame = self.feed.take()
        assert frame is not None
        return frame

    def all(self) -> list[Frame]:
        frames = []
        while True:
            with self.wakeup:
                self.wakeup.wait_for(lambda: self.feed.waiting or self.feed.ended, 10)
            frame = self.feed.take()
            if frame is None and self.feed.ended:
                return frames
            frames += [] if frame is None else [frame]

    def wait_for_state(self, state: State, within: float) -> float:
        started = time.monotonic()
        while self.stats.state()[0] != state:
            assert time.monotonic() - started < within, f"{self.stats.state()} after {within} s"
            time.sleep(0.02)
        return time.monotonic() - started


@pytest.fixture
def open_reader() -> Iterator[OpenReader]:
    readers: list[Reader] = []

    def read(source: object, **settings: Any) -> Reader:
        readers.append(Reader(source, **settings))
        return readers[-1]

    yield read
    for reader in readers:
        assert reader.feed.close(within=5)


@pytest.fixture(scope="module")
def short_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve numbered frames at 10 a second, 64x48."""
    path = tmp_path_factory.mktemp("videos") / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), 40 + 15 * number, np.uint8))
    writer.release()
    return path


def number_in(frame: Frame) -> int:
    return round((float(frame.image.mean()) - 40) / 15)


def test_pace_all_delivers_every_frame_of_a_file(open_reader: OpenReader, short_video: Path):
    reader = open_reader(short_video, pace="all")
    frames = []
    for _ in range(12):
        time.sleep(0.02)
        frames.append(reader.next())
    assert [number_in(frame) for frame in frames] == list(range(12))
    assert [frame.number for frame in frames] == list(range(12))
    assert [round(frame.time, 2) for frame in frames] == [round(number / 10, 2) for number in range(12)]
    assert sum(frame.skipped for frame in frames) == 0
    reader.wait_for_state("ended", 2)


def test_file_at_its_own_pace_skips_frames_like_a_camera(open_reader: OpenReader, short_video: Path):
    reader = open_reader(short_video)
    started = time.monotonic()
    first = reader.next()
    time.sleep(0.55)
    later = reader.next()
    rest = reader.all()
    assert time.monotonic() - started >= 1.05
    assert first.arrived is not None
    assert later.skipped >= 3
    assert later.number == later.skipped + 1
    assert [frame.number for frame in (first, later, *rest)] == [number_in(frame) for frame in (first, later, *rest)]
    assert reader.stats.snapshot().skipped == sum(frame.skipped for frame in (first, later, *rest))
    assert rest[-1].number == 11


def test_looping_file_continues_numbers_and_times_and_resets_memory(open_reader: OpenReader, short_video: Path):
    reader = open_reader(short_video, pace="all", loop=True)
    frames = [reader.next() for _ in range(30)]
    assert [frame.number for frame in frames] == list(range(30))
    assert np.allclose(np.diff([frame.time for frame in frames]), 0.1)
    resets_memory = [frame.resets_memory for frame in frames]  # also at scene cuts, which this video has
    assert [resets_memory[number] for number in (0, 1, 12, 13, 24, 25)] == [True, False, True, False, True, False]
    assert reader.stats.snapshot().reconnects == 0


def test_rate_limits_the_number_of_frames(open_reader: OpenReader, short_video: Path):
    reader = open_reader(short_video, rate=4)
    frames = reader.all()
    assert 4 <= len(frames) <= 6  # of 1.2 s
    assert reader.stats.snapshot().skipped >= 12 - 6 - 1


def test_pace_all_delivers_every_frame_at_a_limited_rate(open_reader: OpenReader, short_video: Path):
    started = time.monotonic()
    assert len(open_reader(short_video, pace="all", rate=20).all()) == 12
    assert time.monotonic() - started >= 11 / 20


def test_images_are_rotated(open_reader: OpenReader, short_video: Path):
    reader = open_reader(short_video, pace="all", rotate=90)
    assert reader.next().image.shape == (64, 48, 3)
    assert (reader.stats.snapshot().width, reader.stats.snapshot().height) == (48, 64)


def test_feed_waits_for_a_missing_file(open_reader: OpenReader, short_video: Path, tmp_path: Path):
    reader = open_reader(tmp_path / "late.avi", pace="all")
    reader.wait_for_state("away", 2)
    assert "no file, folder or camera" in str(reader.stats.state()[1])
    shutil.copy(short_video, tmp_path / "late.avi")
    assert reader.next(within=5).number == 0


def test_feed_waits_for_a_looping_file_that_vanished(open_reader: OpenReader, short_video: Path, tmp_path: Path):
    copy = Path(shutil.copy(short_video, tmp_path / "copy.avi"))
    reader = open_reader(copy, pace="all", loop=True)
    reader.next()
    copy.unlink()
    while reader.stats.state()[0] != "away":
        reader.feed.take()
        time.sleep(0.01)
    reader.feed.take()
    shutil.copy(short_video, copy)
    back = reader.next(within=5)
    assert back.resets_memory
    assert back.number >= 11
    assert reader.stats.snapshot().reconnects == 1


def test_damaged_file_ends_with_a_reason(open_reader: OpenReader, clip: Path, tmp_path: Path):
    whole = clip.read_bytes()
    broken = tmp_path / "broken.avi"
    middle = len(whole) // 2
    broken.write_bytes(whole[:middle] + bytes(len(whole) - middle))  # its header promises more frames
    reader = open_reader(broken, pace="all")
    assert reader.all()
    assert "is damaged" in str(reader.stats.state()[1])


def test_black_and_frozen_images_set_the_state(open_reader: OpenReader, tmp_path: Path):
    images = {"black": np.zeros((48, 64, 3), np.uint8), "frozen": np.full((48, 64, 3), 90, np.uint8)}
    for state, image in images.items():
        path = tmp_path / f"{state}.png"
        cv2.imwrite(str(path), image)
        reader = open_reader(path, loop=True, stall=0.3)
        reader.wait_for_state("live", 2)
        reader.wait_for_state("black" if state == "black" else "frozen", 2)
        assert f"image has been {state}" in str(reader.stats.state()[1])


def test_status_hides_names_and_passwords_in_addresses(open_reader: OpenReader, tmp_path: Path):
    for source in ("rtsp://somebody:s3cret@127.0.0.1:9/camera", "rtspx://somebody:s3cret@127.0.0.1/camera"):
        reader = open_reader(source)
        reader.wait_for_state("away", 20)
        status = reader.stats.snapshot().model_dump_json()
        assert "127.0.0.1" in status
        assert "s3cret" not in status
        assert "somebody" not in status
    reader = open_reader("rtsp://127.0.0.1:9/user=somebody&password=s3cret&channel=1_stream=0.sdp")
    reader.wait_for_state("away", 20)
    assert "rtsp://127.0.0.1:9/user=...&password=...&channel=...;" in str(reader.stats.state()[1])


def test_number_of_hanging_decoders_is_limited(open_reader: OpenReader, monkeypatch: pytest.MonkeyPatch):
    """Each attempt takes a thread that cannot be ended."""
    released = threading.Event()

    class HangingCapture:
        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, None]:
            return released.wait(), None

        def release(self) -> None: ...

    monkeypatch.setattr(sources, "StreamCapture", lambda *_: HangingCapture())
    monkeypatch.setattr(camera_feed, "_GIVE_UP", 0.1)
    monkeypatch.setattr(camera_feed, "_RETRY_SECONDS", (0.0,))
    monkeypatch.setattr(threading.Thread, "join", lambda thread, timeout=None: JOIN(thread, min(timeout or 5, 0.2)))
    reader = open_reader("rtsp://127.0.0.1:9/camera")

    def count_hanging() -> int:
        return sum(thread.name == "reads rtsp://127.0.0.1:9/camera" for thread in threading.enumerate())

    end = time.monotonic() + 10
    while "decoders hang" not in str(reader.stats.state()[1]):
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.3)
    assert count_hanging() == 4
    released.set()


def test_dead_camera_is_away_within_3_s_and_reconnects(open_reader: OpenReader, rtsp: Callable):
    camera = rtsp(rate=20)
    reader = open_reader(camera.address)
    first = reader.next()
    reader.wait_for_state("live", 2)
    camera.kill()
    assert reader.wait_for_state("away", 5) <= 3 * slowdown()
    camera.start()
    reader.feed.take()
    while not (back := reader.next(within=15)).resets_memory:
        pass
    reader.wait_for_state("live", 1)
    assert back.number > first.number
    assert back.time > first.time
    assert reader.stats.snapshot().reconnects == 1
    assert "s3cret" not in reader.stats.snapshot().model_dump_json() + "".join(reader.logged)


@pytest.mark.slow
def test_stalled_black_and_frozen_cameras_set_the_state(open_reader: OpenReader, rtsp: Callable):
    camera = rtsp(rate=20)
    reader = open_reader(camera.address, stall=2.0)
    reader.next()
    camera.tell("stall")
    assert reader.wait_for_state("away", 5) <= 3 * slowdown()
    camera.tell("go")
    reader.wait_for_state("live", 15)
    camera.tell("black")
    reader.wait_for_state("black", 5)
    camera.tell("freeze")
    reader.wait_for_state("frozen", 6)
    camera.tell("go")
    reader.wait_for_state("live", 3)
    camera.tell("size 320x200")
    while reader.next().image.shape != (200, 320, 3):
        pass


def test_closing_does_not_wait_for_a_frame(open_reader: OpenReader, rtsp: Callable):
    camera = rtsp()
    reader = open_reader(camera.address)
    reader.next()
    camera.tell("stall")
    started = time.monotonic()
    reader.feed.ask_to_stop()
    reader.feed.close(within=3)
    assert time.monotonic() - started < 2
    assert reader.stats.state()[0] == "stopped"


def test_log_limits_repeated_messages():
    lines: list[str] = []
    log = Log(lines.append)
    for number in range(50):
        log(f"door: away {number} times")
    log("door2: away 1 times")
    log("door3: away 1 times")
    assert lines == ["door: away 0 times", "door2: away 1 times", "door3: away 1 times"]
    log.tidy()
    assert len(lines) == 3
    log.tidy(everything=True)
    assert lines[3].startswith("door: away 49 times (repeated 49 times in ")


def test_snapshot_contains_recorded_statistics():
    board = Board()
    stats = board.camera("door")
    now = time.monotonic()
    for frame in range(20):
        stats.arrived(now - 2 + frame / 10, (64, 48))
        stats.answered(now - 2 + frame / 10, 0.05, people=3)
    status = board.snapshot().cameras[0]
    assert (status.state, status.frames, status.people, status.width) == ("live", 20, 3, 64)
    assert status.frames_per_second == pytest.approx(10, rel=0.1)
    assert status.source_rate == pytest.approx(10, rel=0.1)
    assert status.age_p50 == pytest.approx(0.05)
    assert abs(status.since - time.time()) < 60


def test_slow_camera_is_not_away_between_frames():
    slow, fast = CameraStats("slow"), CameraStats("fast")
    now = time.monotonic()
    for frame in range(4):
        slow.arrived(now - 16 + 4 * frame, (64, 48))
        fast.arrived(now - 4.3 + 0.1 * frame, (64, 48))
    assert slow.state()[0] == "live"
    assert fast.state()[0] == "away"
