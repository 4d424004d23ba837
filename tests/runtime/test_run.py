"""Runs of the main job in this process: how they end and which files they leave."""

import json
import resource
import signal
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.backends import BackendOptions
from runtime.frames import Frame
from runtime.overlay import Painter
from runtime.run import run
from runtime.session import Session
from runtime.sinks import JsonLinesSink, OverlayImageSink, OverlaySink, WindowSink
from runtime.sources import open_source
from stm_skeletons.errors import SinkError, SourceError
from stm_skeletons.parts import Parts


class FakeSource:
    """Frames of changing size that end in an error."""

    frames_per_second = 10.0
    total: int | None = None
    frame_size: tuple[int, int] | None = None

    def __init__(self, count: int, live: bool) -> None:
        self.count, self.live = count, live

    def __iter__(self) -> Iterator[Frame]:
        for number in range(self.count):
            yield Frame(number, number / 10, np.full((60 + 20 * (number % 3), 100, 3), 90, np.uint8))
        raise SourceError("the cable is out")

    def stop_when(self, asked: threading.Event) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def session(edge_bundle: Path) -> Iterator[Session]:
    with Session.open(str(edge_bundle), BackendOptions(threads=1), min_score=0.0, min_keypoint_score=0.0) as opened:
        yield opened


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        read, image = capture.read()
        if not read:
            return frames
        frames.append(image)


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_every_frame_has_a_line_and_an_image(session: Session, clip: Path, tmp_path: Path, suffix: str):
    parts, overlay = tmp_path / "p.jsonl", tmp_path / f"o.{suffix}"
    source = open_source(str(clip))
    summary = run(source, session, [JsonLinesSink(str(parts)), OverlaySink(str(overlay), 10, Painter())], max_frames=12)
    lines = [json.loads(line) for line in parts.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12))
    assert lines[3]["time"] == 0.3
    assert summary.frames == 12
    assert summary.keypoints == sum(len(points) for line in lines for points in line["keypoints"].values()) > 0
    assert summary.people == sum(len(line["people"]) for line in lines)
    assert {frame.shape for frame in frames_of(overlay)} == {(576, 768, 3)}
    assert len(frames_of(overlay)) == 12
    assert not summary.stopped
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([overlay.name, "p.jsonl"])


def test_failing_camera_leaves_complete_files(session: Session, tmp_path: Path):
    parts, overlay = tmp_path / "p.jsonl", tmp_path / "o.mp4"
    sinks = [JsonLinesSink(str(parts)), OverlaySink(str(overlay), 10, Painter())]
    summary = run(FakeSource(5, live=True), session, sinks)
    assert str(summary.broken) == "the cable is out"
    assert [json.loads(line)["size"] for line in parts.read_text().splitlines()][:3] == [
        [100, 60],
        [100, 80],
        [100, 100],
    ]
    assert [frame.shape for frame in frames_of(overlay)] == [(60, 100, 3)] * 5, "all have the size of the first frame"


def test_source_that_fails_before_its_first_frame_leaves_no_files(session: Session, tmp_path: Path):
    sinks = [JsonLinesSink(str(tmp_path / "p.jsonl")), OverlaySink(str(tmp_path / "o.mp4"), 10, Painter())]
    with pytest.raises(SourceError, match="cable"):
        run(FakeSource(0, live=False), session, sinks)
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_keeps_its_lines_and_reports_the_error(session: Session, tmp_path: Path):
    summary = run(FakeSource(5, live=False), session, [JsonLinesSink(str(tmp_path / "p.jsonl"))])
    assert str(summary.broken) == "the cable is out"
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 5


def test_memory_is_reset_where_the_source_restarts(session: Session, clip: Path):
    frames = [frame.image for frame in islice(open_source(str(clip)), 4)]

    class Cut(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for number, image in enumerate(frames * 2):
                yield Frame(number, number / 10, image, resets_memory=number == 4)

    seen: list[Parts] = []
    run(Cut(8, live=True), session, [], on_frame=lambda _frame, parts: seen.append(parts))
    for before, after in zip(seen[:4], seen[4:], strict=True):
        np.testing.assert_array_equal(before.keypoints, after.keypoints)
        np.testing.assert_array_equal(before.keypoint_scores, after.keypoint_scores)


def test_lines_have_the_size_of_rotated_frames(session: Session, clip: Path, tmp_path: Path):
    path = tmp_path / "p.jsonl"
    run(open_source(str(clip)), session, [JsonLinesSink(str(path))], max_frames=2, rotate=90)
    assert [json.loads(line)["size"] for line in path.read_text().splitlines()] == [[576, 768]] * 2


def test_existing_files_are_replaced_only_with_force(session: Session, clip: Path, tmp_path: Path):
    for name, make in (
        ("p.jsonl", JsonLinesSink),
        ("o.avi", lambda path, force=False: OverlaySink(path, 10, Painter(), force)),
        ("o.png", lambda path, force=False: OverlayImageSink(path, Painter(), False, force)),
    ):
        path = tmp_path / name
        path.write_text("yesterday's")
        with pytest.raises(SinkError, match=r"already exists.*--force"):
            make(str(path))
        assert path.read_text() == "yesterday's"
        run(open_source(str(clip)), session, [make(str(path), force=True)], max_frames=1)
        assert path.read_bytes()[:11] != b"yesterday's"


def test_second_writer_of_a_file_is_refused(session: Session, clip: Path, tmp_path: Path):
    """Even with ``force``."""

    def overlay(path: str, force: bool) -> OverlaySink:
        return OverlaySink(path, 10, Painter(), force)

    for name, make in (("p.jsonl", JsonLinesSink), ("o.avi", overlay)):
        with make(str(tmp_path / name), force=True) as first:
            parts = session.step(np.zeros((64, 96, 3), np.uint8))
            frame = Frame(0, 0.0, np.zeros((64, 96, 3), np.uint8))
            first.write(frame, parts)
            with pytest.raises(SinkError, match="another program"), make(str(tmp_path / name), force=True) as second:
                second.write(frame, parts)
    run(open_source(str(clip)), session, [JsonLinesSink(str(tmp_path / "p.jsonl"), force=True)], max_frames=2)
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 2


def test_lines_can_be_read_while_they_are_written(session: Session, clip: Path, tmp_path: Path):
    path, counts = tmp_path / ("long" * 61 + "x.jsonl"), []
    run(
        open_source(str(clip)),
        session,
        [JsonLinesSink(str(path))],
        max_frames=4,
        on_frame=lambda _frame, _parts: counts.append(
            [json.loads(line)["frame"] for line in path.read_text().splitlines()]
        ),
    )
    assert counts == [list(range(number + 1)) for number in range(4)]


def test_full_disk_leaves_only_whole_lines(session: Session, clip: Path, tmp_path: Path):
    """The disk accepts a part of the line before it refuses the rest."""
    path = tmp_path / "p.jsonl"
    with JsonLinesSink(str(path)) as sink:
        frames = list(islice(open_source(str(clip)), 3))
        found = [session.step(frame.image) for frame in frames]
        sink.write(frames[0], found[0])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
        try:
            with pytest.raises(SinkError, match="is the disk full"):
                sink.write(frames[1], found[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0]


def test_a_failing_sink_leaves_no_overlay(session: Session, clip: Path, tmp_path: Path):
    class Full(JsonLinesSink):
        def write(self, frame: Frame, parts: Parts) -> bool:
            if frame.number == 3:
                raise SinkError("the disk is full")
            return super().write(frame, parts)

    lines = tmp_path / "p.jsonl"
    sinks = [Full(str(lines)), OverlaySink(str(tmp_path / "o.mp4"), 10, Painter())]
    with pytest.raises(SinkError, match="full"):
        run(open_source(str(clip)), session, sinks)
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


@pytest.mark.parametrize("target", ["missing/p.jsonl", "."])
def test_unwritable_paths_are_refused_before_the_run(tmp_path: Path, target: str):
    with pytest.raises(SinkError):
        JsonLinesSink(str(tmp_path / target))
    with pytest.raises(SinkError):
        OverlaySink(str(tmp_path / target), 10, Painter())


def test_overlay_with_an_unknown_suffix_is_refused(tmp_path: Path):
    with pytest.raises(SinkError, match=r"must end in one of \.mp4"):
        OverlaySink(str(tmp_path / "o.gif"), 10, Painter())


def test_symbolic_link_is_kept_and_its_target_is_written(session: Session, clip: Path, tmp_path: Path):
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    target.write_text("old")
    link.symlink_to(target)
    run(open_source(str(clip)), session, [JsonLinesSink(str(link), force=True)], max_frames=2)
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 2


def test_signal_while_finishing_does_not_truncate_files(session: Session, clip: Path, tmp_path: Path):
    class Slow(JsonLinesSink):
        def __exit__(self, kind, error, traceback) -> None:
            signal.raise_signal(signal.SIGTERM)
            super().__exit__(kind, error, traceback)

    summary = run(open_source(str(clip)), session, [Slow(str(tmp_path / "p.jsonl"))], max_frames=2)
    assert summary.frames == 2
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


def test_window_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="no display"):
        WindowSink(Painter())
