"""The detector: the shipped model on several cameras at once, what it leaves out, and errors of the backend."""

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
"""Pictures that are of this grey all over make the backend fail in these tests."""


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
        """Nothing is held."""

    def ids(self) -> set[int]:
        return {number for result in self.results for number in result.parts.people.ids.tolist() if number}


class Rig:
    """A detector with its cameras, without the rest of the service."""

    def __init__(self) -> None:
        self.bundle = Bundle.open("edge")
        self.wakeup, self.board, self.said = threading.Condition(), Board(), []
        self.detector = Detector(self.bundle, ModelConfig(threads=1), 3, self.board, self.wakeup, self.said.append)
        self.kept: dict[str, Kept] = {}

    def camera(self, name: str, source: object, **settings: Any) -> Channel:
        config = CameraConfig(name=name, source=str(source), **{"pace": "all", "loop": True, **settings})
        stats, self.kept[name] = self.board.camera(name), Kept()
        feed = CameraFeed(config, stats, self.wakeup, self.said.append)
        feed.start()
        return Channel(config, feed, stats, Rules(config, self.bundle.info.skeleton), (self.kept[name],))

    def start(self, *channels: Channel) -> None:
        self.detector.start(channels)
        assert self.detector.is_open(30)

    def wait(self, until: Callable[[], object], within: float = 40.0) -> None:
        end = time.monotonic() + within
        while not until():
            assert self.detector.error is None
            assert time.monotonic() < end, self.said
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
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend cannot take poison."""
    step = SessionGroup.step

    def steps(group: SessionGroup, frames: Frames, coming: Any = None) -> dict[int, Parts]:
        if any((image == POISON).all() for image in frames.values()):
            raise BackendError("the device failed")
        return step(group, frames, coming)

    monkeypatch.setattr(SessionGroup, "step", steps)


def line(parts: Parts) -> str:
    return parts.to_json_line(0, 0.0)


def alone(clip: Path, frames: int, memory: bool = True, **thresholds: Any) -> list[str]:
    """What ``run`` would give."""
    lines = []
    source = open_source(str(clip))
    with Session.open("edge", **thresholds) as session:
        for frame in source:
            if not memory:
                session.reset()
            lines.append(line(session.step(frame.image)))
            if len(lines) == frames:
                break
    source.close()
    return lines


@pytest.mark.slow
def test_each_camera_gets_what_it_would_get_alone(rig: Rig, clip: Path):
    plain = rig.camera("plain", clip)
    choosy = rig.camera("choosy", clip, min_score=0.36, min_joints=9)
    forgetful = rig.camera("forgetful", clip, memory=False)
    rig.start(plain, choosy, forgetful)
    rig.wait(lambda: min(map(rig.count, rig.kept)) >= 6)
    found = {name: [line(each.parts) for each in kept.results[:6]] for name, kept in rig.kept.items()}
    assert found["plain"] == alone(clip, 6)
    assert found["choosy"] == alone(clip, 6, min_score=0.36, min_joints=9)
    assert found["choosy"] != found["plain"]
    assert found["forgetful"] == alone(clip, 6, memory=False)
    assert found["forgetful"] != found["plain"]
    assert all(each.time > 1e9 and each.frame.arrived for each in rig.kept["plain"].results)
    counts = [rig.count(name) for name in rig.kept]
    assert max(counts) - min(counts) <= 1, "shares differ"


def test_a_camera_that_comes_leaves_the_memory_of_the_others(rig: Rig, clip: Path):
    first = rig.camera("first", clip)
    rig.start(first)
    rig.wait(lambda: rig.count("first") >= 3)
    assert rig.detector.serve((first, rig.camera("second", clip)), within=20)
    rig.wait(lambda: rig.count("second") >= 3 and rig.count("first") >= 6)
    assert [line(each.parts) for each in rig.kept["first"].results[:6]] == alone(clip, 6)
    assert [line(each.parts) for each in rig.kept["second"].results[:3]] == alone(clip, 3)


def test_more_cameras_than_there_is_room_for_load_the_model_anew_and_ids_go_on(rig: Rig, clip: Path):
    first = rig.camera("first", clip)
    rig.start(first)
    rig.wait(lambda: len(rig.kept["first"].ids()) >= 3)
    others = tuple(rig.camera(f"other{number}", clip, rate=1) for number in range(4))
    assert rig.detector.serve((first, *others), within=20)
    before = rig.count("first")
    highest = max(rig.kept["first"].ids())
    rig.wait(lambda: rig.count("first") >= before + 4 and rig.count("other3"))
    later = {int(number) for each in rig.kept["first"].results[before + 1 :] for number in each.parts.people.ids}
    assert min(later - {0}) > highest
    assert rig.board.snapshot().rebuilds == 0, "that was no error"


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_a_camera_whose_frames_the_backend_cannot_take_is_parked(
    rig: Rig, clip: Path, poison: Path, failing: None, together: bool
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
    assert rig.board.snapshot().rebuilds == rebuilds, "the others are left in peace"
    rig.detector.serve((good, bad), within=20)  # a reload tries it again
    rig.wait(lambda: rig.board.snapshot().rebuilds > rebuilds)
    rig.wait(lambda: bad.stats.state()[0] == "parked")


def test_no_id_is_given_again_after_an_error(rig: Rig, clip: Path, monkeypatch: pytest.MonkeyPatch):
    step, calls = SessionGroup.step, []

    def fails_once(group: SessionGroup, frames: Frames, coming: Any = None) -> dict[int, Parts]:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("CUDA error 700")
        return step(group, frames, coming)

    monkeypatch.setattr(SessionGroup, "step", fails_once)
    rig.start(rig.camera("door", clip))
    rig.wait(lambda: rig.count("door") >= 12)
    results = rig.kept["door"].results
    before = {int(n) for each in results[:5] for n in each.parts.people.ids} - {0}
    after = {int(n) for each in results[5:12] for n in each.parts.people.ids} - {0}
    assert before
    assert after
    assert min(after) > max(before)
    assert "CUDA error 700" in rig.said[0]
    assert rig.board.snapshot().rebuilds == 1


def test_a_model_that_cannot_be_loaded_again_is_tried_again(
    rig: Rig, clip: Path, poison: Path, failing: None, monkeypatch: pytest.MonkeyPatch
):
    good, bad = rig.camera("good", clip), rig.camera("bad", poison)
    rig.start(good, bad)
    opens, left = SessionGroup.open, [2]

    def cannot(*arguments: Any, **settings: Any) -> SessionGroup:
        left[0] -= 1
        if left[0] >= 0:
            raise BackendError("no device")
        return opens(*arguments, **settings)

    monkeypatch.setattr(module.SessionGroup, "open", cannot)
    rig.wait(lambda: good.stats.state() == ("parked", "cannot load the model: no device"))
    assert rig.detector.has_work
    rig.wait(lambda: rig.count("good") >= 3)
    assert good.stats.state()[0] == "live"


def test_a_number_of_cameras_that_cannot_be_loaded_can_be_taken_back(
    rig: Rig, clip: Path, monkeypatch: pytest.MonkeyPatch
):
    opens = SessionGroup.open

    def cannot(bundle: Bundle, cameras: int, *arguments: Any, **settings: Any) -> SessionGroup:
        if cameras > 4:
            raise BackendError("out of memory")
        return opens(bundle, cameras, *arguments, **settings)

    monkeypatch.setattr(module.SessionGroup, "open", cannot)
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


def test_all_cameras_parked_are_tried_again(rig: Rig, poison: Path, failing: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_ALL_PARKED", 0.5)
    bad = rig.camera("bad", poison)
    rig.start(bad)
    rig.wait(lambda: bad.stats.state()[0] == "parked")
    assert not rig.detector.has_work
    rig.wait(lambda: bad.stats.snapshot().errors >= 6)


def test_events_know_their_clip(rig: Rig, clip: Path):
    everywhere = {"kind": "region", "name": "all", "region": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))}
    channel = rig.camera("door", clip, rules=(everywhere,))
    asked: list[Event] = []

    def name(event: Event) -> str:
        asked.append(event)
        return f"clip-{len(asked)}.mp4"

    rig.start(Channel(channel.config, channel.feed, channel.stats, channel.rules, channel.outputs, name))
    rig.wait(lambda: any(each.events for each in rig.kept["door"].results))
    events = [event for each in rig.kept["door"].results for event in each.events]
    assert events[0].clip == "clip-1.mp4"
    assert events[0].camera == "door"


@pytest.fixture(scope="module")
def somebody(clip: Path) -> Parts:
    """Everybody in the sample clip's ninth frame, whatever the score."""
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


def consistent(parts: Parts) -> bool:
    """Whether edges end at keypoints of their joints, and owners are people."""
    joints = np.array(parts.skeleton.edges)[parts.edge_types]
    return (
        np.array_equal(parts.keypoint_types[parts.edge_ends], joints)
        and len(parts.keypoints) == len(parts.keypoint_types) == len(parts.keypoint_scores) == len(parts.owners)
        and int(parts.owners.max(initial=-1)) < len(parts.people)
    )


def test_nothing_is_ignored_unless_told(somebody: Parts):
    assert line(reported(somebody, camera(), 0.0)) == line(somebody)


def test_what_lies_in_an_ignored_region_is_left_out(somebody: Parts):
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    parts = reported(somebody, camera(ignore=(left,)), 0.0)
    boxes, everybody = parts.people.boxes(), somebody.people.boxes()
    middle = somebody.size[0] / 2
    assert 0 < len(parts.people) < len(somebody.people)
    assert (boxes[:, 0] + boxes[:, 2] / 2 >= middle).all()
    assert len(parts.people) == int((everybody[:, 0] + everybody[:, 2] / 2 >= middle).sum())
    assert (parts.keypoints[parts.owners < 0, 0] >= middle).all()
    assert consistent(parts)
    # Whose keypoint it is has not changed: it lies where one of that person's joints is.
    for point, kind, owner in zip(parts.keypoints, parts.keypoint_types, parts.owners, strict=True):
        if owner >= 0:
            assert np.allclose(parts.people.keypoints[owner, kind, :2], point, atol=0.1)


def test_everything_may_be_ignored(somebody: Parts):
    everywhere = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    parts = reported(somebody, camera(ignore=(everywhere,)), 0.0)
    assert (len(parts.people), len(parts.keypoints), len(parts.edge_ends)) == (0, 0, 0)
    assert line(reported(parts, camera(ignore=(everywhere,)), 0.0)) == line(parts)


def test_results_also_have_those_who_are_left_out(rig: Rig, clip: Path):
    """Their heads are hidden where heads are."""
    everywhere = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    rig.start(rig.camera("nobody", clip, ignore=(everywhere,)))
    rig.wait(lambda: rig.count("nobody") >= 2)
    latest = rig.kept["nobody"].results[-1]
    assert len(latest.parts.people) == 0
    assert len(latest.everybody.people) >= 3


def test_people_who_score_too_little_leave_keypoints_of_nobody(somebody: Parts):
    parts = reported(somebody, camera(min_joints=9), 0.36)
    assert 0 < len(parts.people) < len(somebody.people)
    assert (parts.people.scores >= 0.36).all()
    assert (parts.people.found.sum(1) >= 9).all()
    assert len(parts.keypoints) == len(somebody.keypoints)
    assert consistent(parts)
