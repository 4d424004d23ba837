from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from export.synthetic_frames import synthetic_frames
from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.maps import render_maps
from stm_skeletons.people import People, no_people
from stm_skeletons.skeleton import COCO17
from training.data.affine import move_points, warp
from training.evaluation.controls import (
    DECAY,
    AffineMaps,
    Hold,
    Mean,
    WithoutMemory,
    camera_motion,
    warp_maps,
    with_rule,
)
from training.model import Edge
from training.model.parts import find_peaks
from training.model.session import TorchSession
from training.model.weights import load_weights

WIDTH, HEIGHT = 448, 256
SIZE = (HEIGHT, WIDTH)
RNG = np.random.default_rng(3)
POSE = np.concatenate([RNG.uniform((120, 70), (330, 190), (1, 17, 2)), np.ones((1, 17, 1))], axis=2).astype(np.float32)
KEYPOINTS = slice(1, 18)


def texture() -> np.ndarray:
    """An image with corners everywhere."""
    noise = RNG.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def affine(degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    """A transformation about the centre of the frame."""
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([WIDTH, HEIGHT]) / 2
    matrix[:2, 2] = middle + np.array([x, y]) - matrix[:2, :2] @ middle
    return matrix


def moved(pose: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.concatenate([move_points(matrix, pose[..., :2]), pose[..., 2:]], axis=-1)


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


def assert_joints_at(maps: np.ndarray, pose: np.ndarray) -> None:
    """The highest peak of each keypoint map is at the joint; half a cell would be 2 pixels."""
    peaks, _ = find_peaks(torch.from_numpy(maps), 1)
    np.testing.assert_allclose(peaks[:, 0, :2].numpy(), pose[0, :, :2], atol=0.6)


class ScriptedMaps:
    """A tracker that returns the given maps one after the other."""

    def __init__(self, *maps: np.ndarray) -> None:
        self._maps, self._number = maps, -1
        self.calls: list[str] = []

    def reset(self) -> None:
        self.calls.append("reset")

    def seed(self, poses: np.ndarray) -> None:
        self.calls.append(f"seed of {len(poses)}")

    def step(self, frame: np.ndarray) -> None:
        self._number += len(frame) > 0

    def maps(self) -> np.ndarray:
        return self._maps[self._number]

    def people(self) -> People:
        return no_people(17)


@pytest.mark.parametrize(
    "matrix", [affine(0, 1, 8, -6), affine(3, 1.03, -5.5, 2.25), affine(-3, 0.97, 0, 0)], ids=["shift", "all", "shrink"]
)
def test_camera_motion_is_estimated_and_maps_move_with_it(matrix):
    assert_joints_at(warp_maps(render_maps(POSE, COCO17, SIZE)[KEYPOINTS], matrix), moved(POSE, matrix))
    image = texture()
    found = camera_motion(grey(image), grey(warp(image, matrix)))
    corners = np.array([[60, 40], [400, 40], [60, 220], [400, 220]], float)
    np.testing.assert_allclose(move_points(found, corners), move_points(matrix, corners), atol=0.25)


def test_maps_rotate_and_scale_about_the_same_point_as_the_image():
    # With this movement, positions relative to the corners of cells instead of their centres would be 1.7 pixels off.
    matrix = affine(25, 1.4, 4, -3)
    maps = warp_maps(render_maps(POSE, COCO17, SIZE)[KEYPOINTS], matrix)
    peaks, _ = find_peaks(torch.from_numpy(maps), 1)
    errors = peaks[:, 0, :2].numpy() - moved(POSE, matrix)[0, :, :2]
    np.testing.assert_allclose(errors.mean(axis=0), [0, 0], atol=0.4)


@pytest.mark.parametrize("after", [np.zeros(SIZE, np.uint8), np.full(SIZE, 99, np.uint8)])
def test_camera_motion_without_corners_is_the_identity(after):
    np.testing.assert_array_equal(camera_motion(np.zeros(SIZE, np.uint8), after), np.eye(3))
    dots = np.zeros(SIZE, np.uint8)
    dots[50, 50] = dots[50, 200] = 255
    np.testing.assert_array_equal(camera_motion(dots, after), np.eye(3))


def test_person_seen_once_moves_with_the_image_and_fades():
    matrix, image = affine(2, 1.02, 6, 3), texture()
    frames = [image, warp(image, matrix), warp(image, matrix @ matrix)]
    seen = render_maps(POSE, COCO17, SIZE)
    nothing = np.zeros_like(seen)
    tracker = AffineMaps(ScriptedMaps(seen, nothing, nothing), COCO17, COCO17.channels)
    tracker.reset()
    for number, frame in enumerate(frames):
        tracker.step(frame)
        pose = moved(POSE, np.linalg.matrix_power(matrix, number))
        maps = tracker.maps()[KEYPOINTS]
        assert_joints_at(maps, pose)
        # Each warp also smooths a little.
        heights = maps.max(axis=(1, 2)) / render_maps(pose, COCO17, SIZE)[KEYPOINTS].max(axis=(1, 2))
        assert (heights <= DECAY**number * 1.04).all()
        assert (heights >= DECAY**number * 0.7).all()
    others = np.delete(tracker.maps(), KEYPOINTS, axis=0)
    assert (others == 0).all(), "mask and edges come from the current frame alone"


def test_detections_are_never_lowered_and_reset_clears_the_maps():
    image = texture()
    first, second = render_maps(POSE, COCO17, SIZE), render_maps(POSE[:, :, [1, 0, 2]], COCO17, SIZE)
    tracker = AffineMaps(ScriptedMaps(first, second, second), COCO17, COCO17.channels)
    for _ in range(2):
        tracker.step(image)
    maps = tracker.maps()[KEYPOINTS]
    assert (maps >= second[KEYPOINTS]).all()
    assert maps.max() == pytest.approx(1, abs=0.1)
    assert np.abs(maps - np.maximum(second, DECAY * first)[KEYPOINTS]).max() < 0.02, "nothing moved"
    tracker.reset()
    tracker.step(image)
    np.testing.assert_array_equal(tracker.maps(), second)


def test_seed_sets_the_keypoint_maps_of_the_first_frame():
    image = texture()
    nothing = np.zeros((37, HEIGHT // 4, WIDTH // 4), np.float32)
    detected = nothing + np.float32(0.5)
    inner = ScriptedMaps(detected, nothing, nothing)
    tracker = AffineMaps(WithoutMemory(inner), COCO17, COCO17.channels)
    tracker.seed(POSE)
    tracker.step(image)
    rendered = render_maps(POSE, COCO17, SIZE)
    np.testing.assert_array_equal(tracker.maps()[KEYPOINTS], rendered[KEYPOINTS])
    assert (tracker.maps()[0] == 0.5).all()
    tracker.step(image)
    np.testing.assert_allclose(tracker.maps()[KEYPOINTS], DECAY * rendered[KEYPOINTS], atol=0.02)
    tracker.reset()
    tracker.step(image)
    assert (tracker.maps() == 0).all()
    assert set(inner.calls) == {"reset"}
    assert WithoutMemory(inner).people() is not None
    assert tracker.people() is None, "only maps are carried over"


def assert_frames_are_independent(memoryless: WithoutMemory, other) -> None:
    """Check that each frame's maps equal those of a first frame and differ from those with memory."""
    images = synthetic_frames(96, 160, 4)
    memoryless.seed(np.ones((1, 17, 3), np.float32))
    without = []
    for image in images:
        memoryless.step(image)
        current = memoryless.maps().copy()
        other.reset()
        other.step(image)
        np.testing.assert_array_equal(current, other.maps())
        without.append(current)
    other.reset()
    for image in images:
        other.step(image)
    assert np.abs(other.maps() - without[-1]).max() > 1e-3, "the memory of this network changes its maps"


def test_torch_frames_are_independent_without_memory(edge_weights: Path):
    model, _ = load_weights(edge_weights)
    assert_frames_are_independent(WithoutMemory(TorchSession(model, 4, 3)), TorchSession(model, 4, 3))


def test_bundle_frames_are_independent_without_memory(edge_bundle: Path):
    with (
        Session.open(edge_bundle, BackendOptions(threads=1)) as session,
        Session.open(edge_bundle, BackendOptions(threads=1)) as other,
    ):
        assert_frames_are_independent(WithoutMemory(session), other)


def read_of(mean: float, largest: float, known: float) -> torch.Tensor:
    """A memory read of edge for one joint in one cell of stride 8, with the slots' mean, maximum and clearness."""
    return torch.tensor([mean, 0.3, largest, 7.0, known]).reshape(1, 5, 1, 1)


DETECTED = torch.tensor([[0.2, 0.8], [1.0, 0.0]]).reshape(1, 1, 2, 2)
UNUSED = torch.full((1, 128, 1, 1), torch.nan)


def test_mean_rule_averages_the_detection_and_the_slot_mean():
    mixed = Mean()(read_of(0.6, 0.9, 1), UNUSED, UNUSED, DETECTED)
    torch.testing.assert_close(mixed, torch.tensor([[0.4, 0.7], [0.8, 0.3]]).reshape(1, 1, 2, 2))


def test_hold_rule_is_the_maximum_of_the_detection_and_0_9_of_the_slot_mean():
    held = Hold()(read_of(0.6, 0.9, 1), UNUSED, UNUSED, DETECTED)
    torch.testing.assert_close(held, torch.tensor([[0.54, 0.8], [1.0, 0.54]]).reshape(1, 1, 2, 2))


@pytest.mark.parametrize("rule", [Mean(), Hold()], ids=["mean", "hold"])
def test_rules_return_the_detection_without_memory(rule: torch.nn.Module):
    assert torch.equal(rule(read_of(0, 0, 0), UNUSED, UNUSED, DETECTED), DETECTED)


def maps_of(model: Edge, images: list[np.ndarray]) -> list[np.ndarray]:
    """The maps of each image of a video."""
    session, maps = TorchSession(model, 4, 3), []
    for image in images:
        session.step(image)
        maps.append(session.maps())
    return maps


@pytest.mark.parametrize("rule", [Mean(), Hold()], ids=["mean", "hold"])
def test_with_rule_returns_a_new_network_and_keeps_the_original(edge_weights: Path, rule: torch.nn.Module):
    model, _ = load_weights(edge_weights)
    assert isinstance(model, Edge)
    images = synthetic_frames(96, 160, 3)
    before = maps_of(model, images)
    ruled = with_rule(model, rule)
    by_rule = maps_of(ruled, images)
    np.testing.assert_array_equal(by_rule[0], before[0], "nothing is memorised yet")
    assert np.abs(by_rule[2] - before[2])[KEYPOINTS].max() > 1e-3
    for parameter in ruled.parameters():
        torch.nn.init.zeros_(parameter)
    for now, then in zip(maps_of(model, images), before, strict=True):
        np.testing.assert_array_equal(now, then)
