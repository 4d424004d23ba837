"""Clips: the frames before and after an event, in the file that the event names."""

import re
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from people_at import result
from test_recording import frames_of, noise, wait_until

from runtime.service.config import CameraConfig, ClipsConfig
from runtime.service.outputs.clips import ClipsOutput
from runtime.service.results import Event

NAME = re.compile(r"door-\d{8}T\d{6}Z(-\d+)?-event\.mp4")


class Camera:
    """Passes 50 frames a second to a clips output, with events on request."""

    def __init__(self, folder: Path, **settings) -> None:
        config = ClipsConfig(folder=str(folder), **settings)
        self.output = ClipsOutput(CameraConfig(name="door", source="0", clips=config))
        self.number = 0

    def run(self, seconds: float, size: tuple[int, int] = (96, 64), event: bool = False) -> str | None:
        """Pass frames for some seconds; ``event`` puts an event on the first one, and its clip is returned."""
        end, clip = time.monotonic() + seconds, None
        while time.monotonic() < end:
            frame_result = result(time.monotonic(), size=size, image=noise(size, self.number), number=self.number)
            if event and clip is None:
                new_event = Event("door", "gate", "line", frame_result.time, 1, "in", 1)
                clip = self.output.name_for(new_event)
                frame_result = replace(frame_result, events=(replace(new_event, clip=clip),))
            self.output.offer(frame_result)
            self.number += 1
            time.sleep(0.02)
        return clip


def duration_of(path: Path) -> float:
    times = [shown for shown, _, _ in frames_of(path)]
    assert times[0] == 0
    assert max(np.diff(times)) < 0.15, "a frame in between is missing"
    return times[-1]


def test_clip_shows_frames_before_and_after_an_event(tmp_path: Path):
    camera = Camera(tmp_path / "new", before=0.4, after=0.3)
    camera.run(0.8)
    name = camera.run(0.8, event=True)
    camera.output.close(2)
    assert name is not None
    assert NAME.fullmatch(name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    assert duration_of(tmp_path / "new" / name) == pytest.approx(0.7, abs=0.1)
    assert camera.output.problem() is None
    assert camera.output.counters()["written"] == camera.number


def test_only_overlapping_events_share_a_clip(tmp_path: Path):
    camera = Camera(tmp_path, before=0.1, after=0.3)
    first = camera.run(0.2, event=True)
    assert camera.run(0.5, event=True) == first
    second = camera.run(0.5, event=True)
    camera.output.close(2)
    assert first is not None
    assert second not in (first, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([first, str(second)])
    assert duration_of(tmp_path / first) == pytest.approx(0.5, abs=0.15)


def test_clip_is_finished_when_the_camera_dies_or_the_service_ends(tmp_path: Path):
    camera = Camera(tmp_path, before=0.2, after=0.5)
    died = camera.run(0.2, event=True)
    wait_until(lambda: len(frames_of(tmp_path / str(died))) > 5, 4)  # all but the first are written at the end
    ended = camera.run(0.1, event=True)
    started = time.monotonic()
    camera.output.close(2)
    assert time.monotonic() - started < 1
    assert ended != died
    assert all(frames_of(tmp_path / str(name)) for name in (died, ended))


def test_event_of_a_dropped_frame_still_has_a_clip(tmp_path: Path):
    camera = Camera(tmp_path, before=1, after=0.2)
    camera.run(0.2)
    name = camera.output.name_for(Event("door", "gate", "line", 1_700_000_000.0, 1, "in"))
    camera.run(0.4)
    camera.output.close(2)
    assert duration_of(tmp_path / name) == pytest.approx(0.4, abs=0.1)


def test_clip_never_replaces_an_existing_file(tmp_path: Path):
    names = set()
    for _ in range(3):
        camera = Camera(tmp_path, before=0, after=2)
        names.add(camera.output.name_for(Event("door", "gate", "line", 1_700_000_000.0, 1, "in")))
        camera.run(0.1)
        camera.output.close(2)
    assert names == {path.name for path in tmp_path.iterdir()}
    assert len(names) == 3


def test_large_images_are_scaled_down_and_memory_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.service.outputs.clips._RING_BYTES", 4_000_000)
    camera = Camera(tmp_path, before=60, after=0.1)
    camera.run(0.9, size=(2560, 1440))
    wait_until(lambda: camera.output.counters()["written"] > 3)
    assert sum(len(jpeg) for _, jpeg in list(camera.output._ring)) <= 4_000_000
    name = camera.run(0.1, size=(2560, 1440), event=True)
    camera.output.close(10)
    with av.open(str(tmp_path / str(name))) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (1280, 720)


def test_oldest_clips_are_deleted_for_new_ones(tmp_path: Path):
    others = [tmp_path / "door-20200101T000000Z.mp4", tmp_path / "hall-20200101T000000Z-event.mp4"]
    older = tmp_path / "door-20200101T000000Z-event.mp4"
    for path in (*others, older):
        path.write_bytes(bytes(1_000_000))
    camera = Camera(tmp_path, before=0, after=0.1, gigabytes=0.001)
    names = [camera.run(0.25, (320, 240), event=True) for _ in range(8)]
    camera.output.close(2)
    assert all(path.exists() for path in others)
    assert not older.exists()
    kept = [name for name in names if (tmp_path / str(name)).exists()]
    assert kept == names[-len(kept) :]
    assert 1 <= len(kept) < 8
    assert sum((tmp_path / str(name)).stat().st_size for name in kept) < 1_300_000


def test_events_continue_while_the_disk_is_missing(tmp_path: Path):
    (tmp_path / "card").write_text("no folder")
    camera = Camera(tmp_path / "card", before=0.1, after=0.1)
    lost = camera.run(0.3, event=True)
    wait_until(camera.output.problem)
    (tmp_path / "card").unlink()
    camera.output.retry_now()
    camera.run(0.2)
    name = camera.run(0.3, event=True)
    camera.output.close(2)
    assert name != lost
    assert [path.name for path in (tmp_path / "card").iterdir()] == [name]
    assert camera.output.problem() is None
