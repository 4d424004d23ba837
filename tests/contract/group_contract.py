"""Tests of a group of cameras that every backend must pass.

A subclass provides the fixture ``open_group`` and, optionally, ``bundles``: two bundles of one network, the first
without batches, so that cameras step one after the other.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.session_group import SessionGroup
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError, FrameError, SeedError, SessionError
from stm_skeletons.memory_policy import write_slot
from stm_skeletons.parts import Parts

OpenGroup = Callable[[Bundle, int], SessionGroup]
CAMERAS = 5
"""Two batches of four, the second with one camera."""


def make_frame(camera: int, number: int) -> np.ndarray:
    """Return drifting blobs of colour, different for every camera."""
    coarse = np.random.default_rng(camera).integers(0, 256, (5, 9, 3), np.uint8)
    drawn = cv2.resize(coarse, (320, 160), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(drawn[number : number + 96, 2 * number : 2 * number + 160])


def assert_equal(found: Parts, wanted: Parts) -> None:
    for name in ("keypoint_types", "keypoints", "keypoint_scores", "edge_types", "edge_scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    for name in ("ids", "keypoints", "scores", "peaks"):
        np.testing.assert_array_equal(getattr(found.people, name), getattr(wanted.people, name), err_msg=name)


class GroupContract:
    """The tests; the fixtures come from the subclass."""

    exact = True
    """Whether the encoders give identical bits in a batch and alone."""

    @pytest.fixture
    def bundles(self, edge_bundle: Path, edge_batch_bundle: Path) -> tuple[Bundle, Bundle]:
        return Bundle.open(edge_bundle), Bundle.open(edge_batch_bundle)

    @pytest.fixture(params=["sequential", "batched"])
    def bundle(self, request: pytest.FixtureRequest, bundles: tuple[Bundle, Bundle]) -> Bundle:
        return bundles[request.param == "batched"]

    @pytest.fixture
    def group(self, bundle: Bundle, open_group: OpenGroup):
        with open_group(bundle, CAMERAS) as opened:
            yield opened

    @pytest.fixture
    def alone(self, bundles: tuple[Bundle, Bundle], open_group: OpenGroup):
        """Each camera in its own group."""
        with ExitStack() as stack:
            yield [stack.enter_context(open_group(bundles[0], 1)) for _ in range(CAMERAS)]

    def compare(self, group: SessionGroup, alone: list[SessionGroup], parts: dict[int, Parts], number: int) -> None:
        """Step the same cameras alone and compare maps, memory and, if the arithmetic is identical, parts."""
        every, slots = group.info.every, group.info.slots
        for camera, found in parts.items():
            wanted = alone[camera].step({0: make_frame(camera, number)})[0]
            if self.exact or group.info.batch == 1:
                assert_equal(found, wanted)
                np.testing.assert_array_equal(group.maps(camera), alone[camera].maps(0))
            np.testing.assert_allclose(group.maps(camera), alone[camera].maps(0), atol=1e-4)
            for slot in range(min(slots, write_slot(number, slots, every) + 1)):
                for ours, theirs in zip(group.slot(camera, slot), alone[camera].slot(0, slot), strict=True):
                    np.testing.assert_allclose(ours, theirs, atol=1e-3)

    def test_each_camera_gives_the_same_results_as_alone(self, group: SessionGroup, alone: list[SessionGroup]):
        for number in range(7):
            parts = group.step({camera: make_frame(camera, number) for camera in range(CAMERAS)})
            self.compare(group, alone, parts, number)

    def test_any_cameras_may_step_and_the_others_stay_unchanged(self, group: SessionGroup, alone: list[SessionGroup]):
        random = np.random.default_rng(0)
        all_slots = range(group.info.slots)
        for number in range(12):
            chosen = [int(camera) for camera in np.flatnonzero(random.random(CAMERAS) < 0.5)]
            absent = [camera for camera in range(CAMERAS) if camera not in chosen]
            before = {camera: [group.maps(camera), *(group.slot(camera, s) for s in all_slots)] for camera in absent}
            parts = group.step({camera: make_frame(camera, number) for camera in reversed(chosen)})
            assert sorted(parts) == chosen
            self.compare(group, alone, parts, number)
            for camera, (maps, *slots) in before.items():
                np.testing.assert_array_equal(group.maps(camera), maps)
                for slot, (key, value) in enumerate(slots):
                    np.testing.assert_array_equal(group.slot(camera, slot)[0], key)
                    np.testing.assert_array_equal(group.slot(camera, slot)[1], value)

    def test_seed_affects_one_camera_only(self, group: SessionGroup, alone: list[SessionGroup]):
        poses = np.random.default_rng(0).uniform(20, 90, (2, 17, 3))
        for number in range(6):
            if number == 3:
                for each in (group, alone[1]):
                    each.seed(1 if each is group else 0, poses)
            parts = group.step({camera: make_frame(camera, number) for camera in (0, 1, 4)})
            self.compare(group, alone, parts, number)

    def test_reset_affects_one_camera_only(self, group: SessionGroup, alone: list[SessionGroup]):
        for number in range(6):
            if number == 3:
                group.reset(2)
                alone[2].reset(0)
            parts = group.step({camera: make_frame(camera, number) for camera in (2, 3)})
            self.compare(group, alone, parts, number)

    def test_invalid_frame_or_camera_rejects_the_whole_step(self, group: SessionGroup, alone: list[SessionGroup]):
        for number in range(3):
            with pytest.raises(FrameError):
                group.step({0: make_frame(0, number), 1: np.zeros((3, 3))})  # pyright: ignore[reportArgumentType]
            with pytest.raises(SessionError, match="no camera 5: the group has 5, numbered from 0"):
                group.step({0: make_frame(0, number), 5: make_frame(5, number)})
            assert group.step({}) == {}
            self.compare(group, alone, group.step({0: make_frame(0, number)}), number)

    def test_errors_in_the_next_frames_do_not_affect_this_step(self, group: SessionGroup, alone: list[SessionGroup]):
        """This step's frames are in the memory: the next step continues from there."""
        for number in range(4):
            frames = {camera: make_frame(camera, number) for camera in (0, 1)}
            if number in (1, 2):
                wrong = {0: np.zeros((3, 3))} if number == 1 else {9: make_frame(0, 0)}
                with pytest.raises(FrameError if number == 1 else SessionError):
                    group.step(frames, lambda wrong=wrong: wrong)  # pyright: ignore[reportArgumentType]
                for camera in frames:
                    alone[camera].step({0: make_frame(camera, number)})
            else:
                self.compare(group, alone, group.step(frames, dict), number)

    def test_frames_may_have_any_size(self, group: SessionGroup):
        sizes = {0: (96, 160), 1: (480, 640), 2: (1080, 1920), 4: (31, 17)}
        parts = group.step({camera: np.zeros((*size, 3), np.uint8) for camera, size in sizes.items()})
        assert {camera: each.size for camera, each in parts.items()} == {c: size[::-1] for c, size in sizes.items()}

    def test_addresses_never_change(self, group: SessionGroup):
        before = group.addresses()
        assert {name.partition("/")[2] for name in before} == {"", *map(str, range(CAMERAS))}
        for number in range(5):
            group.step({camera: make_frame(camera, number) for camera in range(number % 2, CAMERAS)})
        assert group.addresses() == before

    def test_methods_reject_unknown_cameras_and_slots(self, group: SessionGroup):
        for method in (group.reset, group.people, group.maps, lambda camera: group.slot(camera, 0)):
            for camera in (-1, CAMERAS):
                with pytest.raises(SessionError, match="no camera"):
                    method(camera)
        for slot in (-1, group.info.slots):
            with pytest.raises(SessionError, match="no slot"):
                group.slot(0, slot)
        with pytest.raises(SeedError):
            group.seed(0, np.zeros((1, 17, 3)))

    def test_closed_group_raises_an_error(self, group: SessionGroup):
        group.close()
        group.close()
        with pytest.raises(BackendError, match="is closed"):
            group.step({0: make_frame(0, 0)})

    @pytest.mark.parametrize("cameras", [0, -1, 65, 2.0])
    def test_invalid_camera_counts_are_rejected(self, bundle: Bundle, open_group: OpenGroup, cameras: int):
        with pytest.raises(SessionError, match=f"cameras is {cameras}, must be between 1 and 64"):
            open_group(bundle, cameras)
