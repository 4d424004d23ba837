"""Clips: what was before an event and after it, under the name that the event was given."""

import re
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from people_at import result
from test_recording import frames_of, noise, until

from runtime.service.config import CameraConfig, ClipsConfig
from runtime.service.outputs.clips import ClipsOutput
from runtime.service.results import Event

NAME = re.compile(r"door-\d{8}T\d{6}Z(-\d+)?-event\.mp4")


class Camera:
    """Gives frames as they come, 50 a second, in which the detector notices what it is told to."""

    def __init__(self, folder: Path, **settings) -> None:
        config = ClipsConfig(folder=str(folder), **settings)
        self.output = ClipsOutput(CameraConfig(name="door", source="0", clips=config))
        self.number = 0

    def run(self, seconds: float, size: tuple[int, int] = (96, 64), event: bool = False) -> str | None:
        """For so long; with an event at its first frame, whose clip is returned."""
        end, clip = time.monotonic() + seconds, None
        while time.monotonic() < end:
            this = result(time.monotonic(), size=size, image=noise(size, self.number), number=self.number)
            if event and clip is None:
                happened = Event("door", "gate", "line", this.time, 1, "in", 1)
                clip = self.output.name_for(happened)
                this = replace(this, events=(replace(happened, clip=clip),))
            self.output.offer(this)
            self.number += 1
            time.sleep(0.02)
        return clip


def lasts(path: Path) -> float:
    times = [shown for shown, _, _ in frames_of(path)]
    assert times[0] == 0
    assert max(np.diff(times)) < 0.15, "no frame in between is missing"
    return times[-1]


def test_a_clip_shows_what_was_before_and_after(tmp_path: Path):
    camera = Camera(tmp_path / "new", before=0.4, after=0.3)
    camera.run(0.8)
    name = camera.run(0.8, event=True)
    camera.output.close(2)
    assert name is not None
    assert NAME.fullmatch(name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    assert lasts(tmp_path / "new" / name) == pytest.approx(0.7, abs=0.1)
    assert camera.output.problem() is None
    assert camera.output.counters()["written"] == camera.number


def test_events_that_overlap_share_a_clip_and_others_do_not(tmp_path: Path):
    camera = Camera(tmp_path, before=0.1, after=0.3)
    first = camera.run(0.2, event=True)
    assert camera.run(0.5, event=True) == first
    second = camera.run(0.5, event=True)
    camera.output.close(2)
    assert first is not None
    assert second not in (first, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([first, str(second)])
    assert lasts(tmp_path / first) == pytest.approx(0.5, abs=0.15)


def test_a_clip_is_finished_when_the_camera_dies_or_the_service_ends(tmp_path: Path):
    camera = Camera(tmp_path, before=0.2, after=0.5)
    died = camera.run(0.2, event=True)
    until(lambda: len(frames_of(tmp_path / str(died))) > 5, 4)  # the first is there at once, the others when it ends
    ended = camera.run(0.1, event=True)
    started = time.monotonic()
    camera.output.close(2)
    assert time.monotonic() - started < 1
    assert ended != died
    assert all(frames_of(tmp_path / str(name)) for name in (died, ended))


def test_an_event_whose_frame_was_dropped_has_its_clip_all_the_same(tmp_path: Path):
    camera = Camera(tmp_path, before=1, after=0.2)
    camera.run(0.2)
    name = camera.output.name_for(Event("door", "gate", "line", 1_700_000_000.0, 1, "in"))
    camera.run(0.4)
    camera.output.close(2)
    assert lasts(tmp_path / name) == pytest.approx(0.4, abs=0.1)


def test_a_clip_never_replaces_one_that_is_there(tmp_path: Path):
    names = set()
    for _ in range(3):
        camera = Camera(tmp_path, before=0, after=0.05)
        names.add(camera.output.name_for(Event("door", "gate", "line", 1_700_000_000.0, 1, "in")))
        camera.run(0.1)
        camera.output.close(2)
    assert names == {path.name for path in tmp_path.iterdir()}
    assert len(names) == 3


def test_large_pictures_are_made_smaller_and_memory_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.service.outputs.clips._RING_BYTES", 4_000_000)
    camera = Camera(tmp_path, before=60, after=0.1)
    camera.run(0.9, size=(2560, 1440))
    until(lambda: camera.output.counters()["written"] > 3)
    assert sum(len(jpeg) for _, jpeg in list(camera.output._ring)) <= 4_000_000
    name = camera.run(0.1, size=(2560, 1440), event=True)
    camera.output.close(10)
    with av.open(str(tmp_path / str(name))) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (1280, 720)


def test_the_oldest_clips_make_room(tmp_path: Path):
    others = [tmp_path / "door-20200101T000000Z.mp4", tmp_path / "hall-20200101T000000Z-event.mp4"]
    older = tmp_path / "door-20200101T000000Z-event.mp4"
    for path in (*others, older):
        path.write_bytes(bytes(1_000_000))
    camera = Camera(tmp_path, before=0, after=0.1, gigabytes=0.001)
    names = [camera.run(0.25, (320, 240), event=True) for _ in range(8)]
    camera.output.close(2)
    assert all(path.exists() for path in others)
    assert not older.exists()
    there = [name for name in names if (tmp_path / str(name)).exists()]
    assert there == names[-len(there) :]
    assert 1 <= len(there) < 8
    assert sum((tmp_path / str(name)).stat().st_size for name in there) < 1_300_000


def test_while_the_disk_is_gone_the_events_go_on(tmp_path: Path):
    (tmp_path / "card").write_text("no folder")
    camera = Camera(tmp_path / "card", before=0.1, after=0.1)
    lost = camera.run(0.3, event=True)
    until(camera.output.problem)
    (tmp_path / "card").unlink()
    camera.output.retry_now()
    camera.run(0.2)
    name = camera.run(0.3, event=True)
    camera.output.close(2)
    assert name != lost
    assert [path.name for path in (tmp_path / "card").iterdir()] == [name]
    assert camera.output.problem() is None
