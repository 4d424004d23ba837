"""Frames, blocks, stages, people, memory and streams, on a small network and real frames."""

import threading
import time
from functools import partial
from itertools import islice
from mmap import mmap
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.run import footage as footage_module
from benchmarks.run.by_people import by_people
from benchmarks.run.footage import Footage
from benchmarks.run.group import run_group
from benchmarks.run.measure import ALL_STAGES, BLOCK, Length, Table, _blocks, count_people, measure, room_for, warm_up
from benchmarks.run.memory import MemorySampler, resident_mb, summarise_memory
from benchmarks.run.streams import run_streams
from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BenchmarkError, BundleError
from stm_skeletons.parts import assemble_parts
from stm_skeletons.people import no_people
from stm_skeletons.skeleton import COCO17


@pytest.fixture
def short_video(clip: Path, tmp_path: Path) -> Path:
    """Seven frames of the sample clip."""
    folder = tmp_path / "frames"
    folder.mkdir()
    capture = cv2.VideoCapture(str(clip))
    for number in range(7):
        cv2.imwrite(str(folder / f"{number}.png"), np.asarray(capture.read()[1]))
    return folder


def test_footage_restarts_without_counting_the_opening_time(short_video: Path, monkeypatch: pytest.MonkeyPatch):
    footage = Footage(str(short_video))
    first = [footage.read()[0] for _ in range(7)]
    original = footage_module.open_source

    def open_slowly(source: str):
        time.sleep(0.5)
        return original(source)

    monkeypatch.setattr(footage_module, "open_source", open_slowly)
    again = [footage.read() for _ in range(7)]
    assert footage.passes == 2
    assert footage.frames_read == 14
    assert all(np.array_equal(one, other) for one, (other, _) in zip(first, again, strict=True))
    assert max(milliseconds for _, milliseconds in again) < 500
    footage.close()


def test_live_cameras_are_rejected(clip: Path, monkeypatch: pytest.MonkeyPatch):
    original = footage_module.open_source

    def open_live(source: str):
        opened = original(source)
        opened.live = True
        return opened

    monkeypatch.setattr(footage_module, "open_source", open_live)
    with pytest.raises(BenchmarkError, match="record it first"):
        Footage(str(clip))


@pytest.mark.parametrize(("plain", "share"), [(1, 0.5), (9, 0.1)])
def test_each_group_has_one_stage_block_at_a_random_position(plain: int, share: float):
    group = (plain + 1) * BLOCK
    frames = list(islice(_blocks(plain, BLOCK), 40 * group))
    records = np.array([one for one, _ in frames]).reshape(40, plain + 1, BLOCK)
    assert (records == records[:, :, :1]).all(), "whole blocks"
    assert (records[:, :, 0].sum(axis=1) == 1).all()
    assert records.mean() == pytest.approx(share)
    assert len({tuple(one) for one in records[:, :, 0].tolist()}) == plain + 1
    flat = records.ravel()
    assert [changed for _, changed in frames[1:]] == (flat[1:] != flat[:-1]).tolist()


def test_run_measures_the_requested_frames_and_stages(edge_bundle: Path, short_video: Path):
    stop = threading.Event()
    footage = Footage(str(short_video))
    with Session.open(edge_bundle, BackendOptions(threads=1)) as session:
        warm_ms = warm_up(session, footage, stop, frames=5)
        samples = room_for(Length(frames=40), warm_ms)
        started = time.perf_counter()
        measure(session, footage, Length(frames=40), samples, started, stop)
        seconds = time.perf_counter() - started
    frames, stages = samples.frames, samples.stages
    assert frames.count == 40
    assert stages.count > 10
    spent = sum(frames.column(name).sum() for name in ("decode", "frame"))
    spent += sum(stages.column(name).sum() for name in ALL_STAGES)
    assert spent / 1e3 <= seconds
    assert (np.diff(frames.column("seconds")) > 0).all()
    assert 0 <= frames.column("seconds")[0] < seconds
    assert (frames.column("people") >= 1).all()
    assert (stages.column("query_encoder") > 0).all()
    recorded = sum(np.median(stages.column(name)) for name in ALL_STAGES if name != "decode")
    assert recorded == pytest.approx(np.median(frames.column("frame")), rel=0.5), "the stages add up to the frame"


def test_timed_run_ends_on_time_or_when_stopped(edge_bundle: Path, short_video: Path):
    footage = Footage(str(short_video))
    with Session.open(edge_bundle, BackendOptions(threads=1)) as session:
        for seconds, stopped in ((1.0, False), (60.0, True)):
            stop = threading.Event()
            samples = room_for(Length(seconds=seconds), [20.0])
            if stopped:
                threading.Timer(0.5, stop.set).start()
            started = time.perf_counter()
            measure(session, footage, Length(seconds=seconds), samples, started, stop)
            assert (0.4 if stopped else 1.0) <= time.perf_counter() - started < 10
            assert samples.frames.count + samples.stages.count > 0


def test_table_keeps_its_rows_in_one_array_of_fixed_size():
    table = Table(2, ("a", "b"))
    table.add(1, 2)
    assert not table.full
    table.add(3, 4)
    assert table.full
    assert table.column("b").tolist() == [2, 4]
    assert table.column("a").base is table.column("b").base


def test_people_count_is_the_largest_keypoint_count_of_any_joint():
    peaks = np.zeros((17, 4, 3), np.float32)
    peaks[0, :1] = peaks[5, :3] = peaks[9, :2] = (10, 10, 0.9)
    none = no_people(17)
    parts = assemble_parts(COCO17, (100, 100), peaks, np.zeros((19, 4, 4), np.float32), none, 0.5, 0.5)
    assert count_people(parts) == 3
    empty = assemble_parts(COCO17, (100, 100), 0 * peaks, np.zeros((19, 4, 4), np.float32), none, 0.5, 0.5)
    assert count_people(empty) == 0


def test_latency_by_people_omits_percentiles_with_too_few_frames():
    people = np.repeat([0, 2, 5], [10, 11, 64])
    few, some, many = by_people(people, people * 3.0 + 1)
    assert (few.people, few.count, few.p50) == (0, 10, None)
    assert (some.people, some.p50, some.p90) == (2, 7.0, None)
    assert (many.people, many.p10, many.p50, many.p90) == (5, 16.0, 16.0, 16.0)


def test_memory_is_sampled_during_the_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.run.memory.SECONDS", 0.02)
    before, _ = resident_mb()
    with MemorySampler(time.perf_counter(), capacity=500) as sampler:
        time.sleep(0.2)
        # Not from the heap, which may reuse memory that earlier training has freed.
        kept = np.frombuffer(mmap(-1, 100_000_000), np.uint8)
        kept[:] = 1
        time.sleep(0.3)
    found = summarise_memory(sampler.samples, before, None)
    assert found.steady == pytest.approx(before + 100, abs=15)
    assert found.peak is not None
    assert found.steady is not None
    assert found.peak >= found.steady
    assert (found.device_before, found.device_steady, found.device_peak) == (None, None, None)
    assert (np.diff(sampler.samples[:, 0]) >= 0).all()
    del kept


def test_full_sampler_stops_sampling(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.run.memory.SECONDS", 0.01)
    with MemorySampler(0.0, capacity=3) as sampler:
        time.sleep(0.2)
    assert len(sampler.samples) == 3


def test_streams_are_measured_in_one_time_window(edge_bundle: Path, short_video: Path):
    open_session = partial(Session.open, edge_bundle, BackendOptions(threads=1))
    found = run_streams(2, str(short_video), open_session, 1.0, 0.001, threading.Event())
    assert found is not None
    assert found.streams == len(found.fps_each) == 2
    assert found.fps == pytest.approx(sum(found.fps_each), abs=0.01)
    assert found.latency.count >= found.fps * found.seconds - 0.1, "the last frame of each may end after the window"
    assert found.latency.count <= found.fps * found.seconds + 2.1
    assert found.latency.miss_share == 1


def test_failing_stream_ends_all_and_reports_its_error(short_video: Path, tmp_path: Path):
    with pytest.raises(BundleError, match="no model or bundle"):
        run_streams(3, str(short_video), partial(Session.open, tmp_path / "none"), 30.0, 40.0, threading.Event())


def test_group_and_separate_sessions_step_the_same_rounds(edge_bundle: Path, short_video: Path):
    """On a CPU both are equally fast; the test checks the order of magnitude only."""
    bundle, options = Bundle.open(edge_bundle), BackendOptions(threads=1)
    found = run_group(3, str(short_video), bundle, options, 1.0, threading.Event())
    assert found is not None
    assert found.cameras == 3
    assert found.group.count == found.in_turn.count > 1
    assert 0.3 < found.ratio < 3
    stop = threading.Event()
    stop.set()
    assert run_group(3, str(short_video), bundle, options, 60.0, stop) is None


def test_stopped_streams_give_no_figures(edge_bundle: Path, short_video: Path):
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    open_session = partial(Session.open, edge_bundle, BackendOptions(threads=1))
    started = time.perf_counter()
    assert run_streams(2, str(short_video), open_session, 60.0, 40.0, stop) is None
    assert time.perf_counter() - started < 30
