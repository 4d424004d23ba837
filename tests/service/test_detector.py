"""The detector: the shipped model on several cameras at once, ignored regions, and errors of the backend."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime.service import detector as module
from runtime.service.camera_feed import CameraFeed
from runtime.service.config import CameraConfig, ModelConfig
from runtime.service.detector import Channel, Detector
from runtime.service.ignore import reported
from runtime.service.results import Event, Result
from runtime.service.rules import Rules
from runtime.service.status import Board
from runtime.session import Session
from runtime.session_group import Frames, SessionGroup
from runtime.sources import open_source
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError
from stm_skeletons.parts import Parts

POISON = 77
"""Images of only this grey make the backend fail in these tests."""


class Kept:
    """An output that keeps everything."""

    name = "kept"

    def __init__(self) -> None:
        self.results: list[Result] = []

    def offer(self, result: Result) -> None:
        self.results.append(result)

    def counters(self) -> dict[str, int]:
        return {"written": len(self.results), "dropped": 0, "failed": 0}

    def problem(self) -> str | None:
        return None

    def close(self, within: float) -> None:
        """Nothing to close."""

    def ids(self) -> set[int]:
        return {person_id for result in self.results for person_id in result.parts.people.ids.tolist() if person_id}


class Rig:
    """A detector with its cameras, without the rest of the service."""

    def __init__(self) -> None:
        self.bundle = Bundle.open("edge")
        self.wakeup, self.board, self.logged = threading.Condition(), Board(), []
        self.detector = Detector(self.bundle, ModelConfig(threads=1), 3, self.board, self.wakeup, self.logged.append)
        self.kept: dict[str, Kept] = {}

    def camera(self, name: str, source: object, **settings: Any) -> Channel:
        config = CameraConfig(name=name, source=str(source), **{"pace": "all", "loop": True, **settings})
        stats, self.kept[name] = self.board.camera(name), Kept()
        feed = CameraFeed(config, stats, self.wakeup, self.logged.append)
        feed.start()
        return Channel(config, feed, stats, Rules(config, self.bundle.info.skeleton), (self.kept[name],))

    def start(self, *channels: Channel) -> None:
        self.detector.start(channels)
        assert self.detector.is_open(30)

    def wait(self, condition: Callable[[], object], within: float = 40.0) -> None:
        end = time.monotonic() + within
        while not condition():
            assert self.detector.error is None
            assert time.monotonic() < end, self.logged
            time.sleep(0.02)

    def count(self, name: str) -> int:
        return len(self.kept[name].results)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for channel in rig.detector._channels:
        channel.feed.ask_to_stop()
    assert rig.detector.stop(within=20)


@pytest.fixture(scope="module")
def poison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("poison") / "grey.png"
    cv2.imwrite(str(path), np.full((96, 160, 3), POISON, np.uint8))
    return path


@pytest.fixture
def failing_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backend fail on poison."""
    step = SessionGroup.step

    def step_or_fail(group: SessionGroup, frames: Frames, coming: Any = None) -> dict[int, Parts]:
        if any((image == POISON).all() for image in frames.values()):
            raise BackendError("the device failed")
        return step(group, frames, coming)

    monkeypatch.setattr(SessionGroup, "step", step_or_fail)


def json_line(parts: Parts) -> str:
    return parts.to_json_line(0, 0.0)


def run_alone(clip: Path, frames: int, memory: bool = True, **thresholds: Any) -> list[str]:
    """Return the lines that ``run`` writes."""
    lines = []
    source = open_source(str(clip))
    with Session.open("edge", **thresholds) as session:
        for frame in source:
            if not memory:
                session.reset()
            lines.append(json_line(session.step(frame.image)))
            if len(lines) == frames:
                break
    source.close()
    return lines


@pytest.mark.slow
def test_each_camera_gets_the_same_results_as_alone(rig: Rig, clip: Path):
    plain = rig.camera("plain", clip)
    choosy = rig.camera("choosy", clip, min_score=0.36, min_joints=9)
    forgetful = rig.camera("forgetful", clip, memory=False)
    rig.start(plain, choosy, forgetful)
    rig.wait(lambda: min(map(rig.count, rig.kept)) >= 6)
    found = {name: [json_line(each.parts) for each in kept.results[:6]] for name, kept in rig.kept.items()}
    assert found["plain"] == run_alone(clip, 6)
    assert found["choosy"] == run_alone(clip, 6, min_score=0.36, min_joints=9)
    assert found["choosy"] != found["plain"]
    assert found["forgetful"] == run_alone(clip, 6, memory=False)
    assert found["forgetful"] != found["plain"]
    assert all(each.time > 1e9 and each.frame.arrived for each in rig.kept["plain"].results)
    counts = [rig.count(name) for name in rig.kept]
    assert max(counts) - min(counts) <= 1, "shares differ"


def test_added_camera_leaves_the_memory_of_others_unchanged(rig: Rig, clip: Path):
    first = rig.camera("first", clip)
    rig.start(first)
    rig.wait(lambda: rig.count("first") >= 3)
    assert rig.detector.serve((first, rig.camera("second", clip)), within=20)
    rig.wait(lambda: rig.count("second") >= 3 and rig.count("first") >= 6)
    assert [json_line(each.parts) for each in rig.kept["first"].results[:6]] == run_alone(clip, 6)
    assert [json_line(each.parts) for each in rig.kept["second"].results[:3]] == run_alone(clip, 3)


def test_adding_too_many_cameras_reloads_the_model_and_continues_ids(rig: Rig, clip: Path):
    first = rig.camera("first", clip)
    rig.start(first)
    rig.wait(lambda: len(rig.kept["first"].ids()) >= 3)
    others = tuple(rig.camera(f"other{number}", clip, rate=1) for number in range(4))
    assert rig.detector.serve((first, *others), within=20)
    before = rig.count("first")
    highest = max(rig.kept["first"].ids())
    rig.wait(lambda: rig.count("first") >= before + 4 and rig.count("other3"))
    later_ids = {
        int(person_id) for each in rig.kept["first"].results[before + 1 :] for person_id in each.parts.people.ids
    }
    assert min(later_ids - {0}) > highest
    assert rig.board.snapshot().rebuilds == 0, "a reload is not an error"


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_camera_is_parked_if_the_backend_fails_on_its_frames(
    rig: Rig, clip: Path, poison: Path, failing_backend: None, together: bool
):
    rig.detector._together = together  # as on a device
    good, bad = rig.camera("good", clip), rig.camera("bad", poison)
    rig.start(good, bad)
    rig.wait(lambda: bad.stats.state()[0] == "parked")
    assert bad.stats.state()[1] == "3 backend errors in a minute, the last: the device failed"
    rig.wait(lambda: rig.board.snapshot().rebuilds >= 3)
    assert bad.stats.snapshot().errors >= 3
    before = rig.count("good")
    rig.wait(lambda: rig.count("good") >= before + 2)
    rebuilds = rig.board.snapshot().rebuilds
    rig.wait(lambda: rig.count("good") >= before + 8)
    assert good.stats.state()[0] == "live"
    assert rig.board.snapshot().rebuilds == rebuilds, "the other cameras are not disturbed"
    rig.detector.serve((good, bad), within=20)  # a reload retries the camera
    rig.wait(lambda: rig.board.snapshot().rebuilds > rebuilds)
    rig.wait(lambda: bad.stats.state()[0] == "parked")


def test_ids_are_not_reused_after_an_error(rig: Rig, clip: Path, monkeypatch: pytest.MonkeyPatch):
    step, calls = SessionGroup.step, []

    def fail_once(group: SessionGroup, frames: Frames, coming: Any = None) -> dict[int, Parts]:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("CUDA error 700")
        return step(group, frames, coming)

    monkeypatch.setattr(SessionGroup, "step", fail_once)
    rig.start(rig.camera("door", clip))
    rig.wait(lambda: rig.count("door") >= 12)
    results = rig.kept["door"].results
    before = {int(person_id) for each in results[:5] for person_id in each.parts.people.ids} - {0}
    after = {int(person_id) for each in results[5:12] for person_id in each.parts.people.ids} - {0}
    assert before
    assert after
    assert min(after) > max(before)
    assert "CUDA error 700" in rig.logged[0]
    assert rig.board.snapshot().rebuilds == 1


def test_failed_model_reload_is_retried(
    rig: Rig, clip: Path, poison: Path, failing_backend: None, monkeypatch: pytest.MonkeyPatch
):
    good, bad = rig.camera("good", clip), rig.camera("bad", poison)
    rig.start(good, bad)
    open_group, failures_left = SessionGroup.open, [2]

    def fail_twice(*arguments: Any, **settings: Any) -> SessionGroup:
        failures_left[0] -= 1
        if failures_left[0] >= 0:
            raise BackendError("no device")
        return open_group(*arguments, **settings)

    monkeypatch.setattr(module.SessionGroup, "open", fail_twice)
    rig.wait(lambda: good.stats.state() == ("parked", "cannot load the model: no device"))
    assert rig.detector.has_work
    rig.wait(lambda: rig.count("good") >= 3)
    assert good.stats.state()[0] == "live"


def test_removing_cameras_recovers_from_a_failed_reload(rig: Rig, clip: Path, monkeypatch: pytest.MonkeyPatch):
    open_group = SessionGroup.open

    def fail_above_four(bundle: Bundle, cameras: int, *arguments: Any, **settings: Any) -> SessionGroup:
        if cameras > 4:
            raise BackendError("out of memory")
        return open_group(bundle, cameras, *arguments, **settings)

    monkeypatch.setattr(module.SessionGroup, "open", fail_above_four)
    first = rig.camera("first", clip)
    rig.start(first)
    rig.wait(lambda: rig.count("first") >= 2)
    others = tuple(rig.camera(f"other{number}", clip) for number in range(4))
    assert not rig.detector.serve((first, *others), within=0.5)
    assert first.stats.state()[1] == "cannot load the model: out of memory"
    assert rig.detector.serve((first, *others[:1]), within=20)
    before = rig.count("first")
    rig.wait(lambda: rig.count("first") >= before + 3 and rig.count("other0") >= 3)
    for channel in others[1:]:
        assert channel.feed.close(within=5)


def test_cameras_are_retried_when_all_are_parked(
    rig: Rig, poison: Path, failing_backend: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_ALL_PARKED", 0.5)
    bad = rig.camera("bad", poison)
    rig.start(bad)
    rig.wait(lambda: bad.stats.state()[0] == "parked")
    assert not rig.detector.has_work
    rig.wait(lambda: bad.stats.snapshot().errors >= 6)


def test_events_name_their_clip(rig: Rig, clip: Path):
    whole_image = {"kind": "region", "name": "all", "region": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))}
    channel = rig.camera("door", clip, rules=(whole_image,))
    named: list[Event] = []

    def name_clip(event: Event) -> str:
        named.append(event)
        return f"clip-{len(named)}.mp4"

    rig.start(Channel(channel.config, channel.feed, channel.stats, channel.rules, channel.outputs, name_clip))
    rig.wait(lambda: any(each.events for each in rig.kept["door"].results))
    events = [event for each in rig.kept["door"].results for event in each.events]
    assert events[0].clip == "clip-1.mp4"
    assert events[0].camera == "door"


@pytest.fixture(scope="module")
def everyone(clip: Path) -> Parts:
    """All people in the sample clip's ninth frame, of any score."""
    source = open_source(str(clip))
    with Session.open("edge", min_score=0.0) as session:
        for frame in source:
            parts = session.step(frame.image)
            if frame.number == 8:
                source.close()
                return parts
    raise AssertionError


def camera(**settings: Any) -> CameraConfig:
    return CameraConfig(name="door", source="0", **settings)


def is_consistent(parts: Parts) -> bool:
    """Return whether edges end at keypoints of their joints, and owners are people."""
    joints = np.array(parts.skeleton.edges)[parts.edge_types]
    return (
        np.array_equal(parts.keypoint_types[parts.edge_ends], joints)
        and len(parts.keypoints) == len(parts.keypoint_types) == len(parts.keypoint_scores) == len(parts.owners)
        and int(parts.owners.max(initial=-1)) < len(parts.people)
    )


def test_nothing_is_ignored_by_default(everyone: Parts):
    assert json_line(reported(everyone, camera(), 0.0)) == json_line(everyone)


def test_people_and_keypoints_in_ignored_regions_are_left_out(everyone: Parts):
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    parts = reported(everyone, camera(ignore=(left_half,)), 0.0)
    boxes, all_boxes = parts.people.boxes(), everyone.people.boxes()
    middle = everyone.size[0] / 2
    assert 0 < len(parts.people) < len(everyone.people)
    assert (boxes[:, 0] + boxes[:, 2] / 2 >= middle).all()
    assert len(parts.people) == int((all_boxes[:, 0] + all_boxes[:, 2] / 2 >= middle).sum())
    assert (parts.keypoints[parts.owners < 0, 0] >= middle).all()
    assert is_consistent(parts)
    # Owners are unchanged: each keypoint lies at a joint of its owner.
    for point, kind, owner in zip(parts.keypoints, parts.keypoint_types, parts.owners, strict=True):
        if owner >= 0:
            assert np.allclose(parts.people.keypoints[owner, kind, :2], point, atol=0.1)


def test_whole_image_can_be_ignored(everyone: Parts):
    whole_image = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    parts = reported(everyone, camera(ignore=(whole_image,)), 0.0)
    assert (len(parts.people), len(parts.keypoints), len(parts.edge_ends)) == (0, 0, 0)
    assert json_line(reported(parts, camera(ignore=(whole_image,)), 0.0)) == json_line(parts)


def test_results_also_contain_ignored_people(rig: Rig, clip: Path):
    """Their heads are blurred, too."""
    whole_image = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    rig.start(rig.camera("nobody", clip, ignore=(whole_image,)))
    rig.wait(lambda: rig.count("nobody") >= 2)
    latest = rig.kept["nobody"].results[-1]
    assert len(latest.parts.people) == 0
    assert len(latest.everybody.people) >= 3


def test_people_below_min_score_leave_unassigned_keypoints(everyone: Parts):
    least = float(np.median(everyone.people.scores))
    parts = reported(everyone, camera(min_joints=9), least)
    assert 0 < len(parts.people) < len(everyone.people)
    assert (parts.people.scores >= least).all()
    assert (parts.people.found.sum(1) >= 9).all()
    assert len(parts.keypoints) == len(everyone.keypoints)
    assert is_consistent(parts)
