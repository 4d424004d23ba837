"""Controls that a network is compared with: the network without memory, and fixed rules in place of its memory.

``Mean`` and ``Hold`` replace ``edge``'s learned fusion: a fixed rule mixes the current detection with ``edge``'s memory
read. ``AffineMaps`` replaces the memory read as well.
"""

import copy

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stm_skeletons.geometry import STRIDE
from stm_skeletons.maps import render_maps, select_channels
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.tracker import Tracker
from training.model.edge import Edge, split_read
from training.model.movenet import upsample

HELD = 0.9
"""Factor of the slots' mean in ``Hold``."""
DECAY = 0.95
"""Factor of the previous frame's maps in ``AffineMaps``."""
_FEATURES, _QUALITY, _DISTANCE = 200, 0.01, 7  # number of corners, relative strength, distance in network pixels
_MIN_CORNERS = 6  # an affine through three corners is always exact and proves nothing
_RANSAC = 2.0  # network pixels
# The centre of cell (i, j) is at (4 i + 2, 4 j + 2) network pixels; OpenCV counts cells from the centre of the first.
_CELLS_TO_PIXELS = np.array([[STRIDE, 0, STRIDE / 2], [0, STRIDE, STRIDE / 2], [0, 0, 1]], float)


class WithoutMemory:
    """A Tracker: the same network with an empty memory at each frame."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def reset(self) -> None:
        """Does nothing: there is no memory."""

    def seed(self, poses: NDArray) -> None:
        """Does nothing: a seed only affects the memory."""

    def step(self, frame: NDArray[np.uint8]) -> None:
        """Detect in a single frame."""
        self._tracker.reset()
        self._tracker.step(frame)

    def maps(self) -> NDArray[np.float32]:
        """Maps [C, H/4, W/4] of the latest frame."""
        return self._tracker.maps()

    def people(self) -> People | None:
        """People in the latest frame; their ids are meaningless, because nobody is tracked."""
        return self._tracker.people()


class Mean(nn.Module):
    """Replaces ``edge``'s fusion: the mean of the current detection and of the slots' mean."""

    def forward(self, read: Tensor, context: Tensor, features: Tensor, seen: Tensor) -> Tensor:  # noqa: ARG002
        """See training.model.edge.Fusion."""
        mean, _, known = split_read(read, seen.shape[1])
        return seen + known * (upsample(mean) - seen) / 2


class Hold(nn.Module):
    """Replaces ``edge``'s fusion: the maximum of the current detection and of HELD times the slots' mean."""

    def forward(self, read: Tensor, context: Tensor, features: Tensor, seen: Tensor) -> Tensor:  # noqa: ARG002
        """See training.model.edge.Fusion."""
        mean, _, _ = split_read(read, seen.shape[1])
        return torch.maximum(seen, HELD * upsample(mean))


def with_rule(model: Edge, rule: nn.Module) -> Edge:
    """A copy of a network with a rule instead of its learned fusion."""
    model = copy.deepcopy(model)
    model.fusion = rule
    return model


class AffineMaps:
    """A Tracker with an unlearned memory: propagates keypoint maps by an affine motion of the whole frame.

    Each keypoint map is the maximum of the frame's detection and of DECAY times the previous result, warped by the
    affine. The other maps are those of the frame's detection.
    """

    def __init__(self, tracker: Tracker, skeleton: Skeleton, channels: tuple[str, ...]) -> None:
        """
        Args:
            tracker: detects in single frames, see WithoutMemory.
            skeleton: the maps of its joints are propagated.
            channels: names of the tracker's maps.
        """
        self._tracker, self._skeleton, self._channels = tracker, skeleton, channels
        self._joints = [i for i, name in enumerate(channels) if name in skeleton.joints]
        self._seed: NDArray | None = None
        self._previous: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None

    def reset(self) -> None:
        """Forget everything."""
        self._tracker.reset()
        self._seed = self._previous = None

    def seed(self, poses: NDArray) -> None:
        """Restart with people [P, NK, 3] (x, y, visibility), whose rendered maps become those of the next frame."""
        self.reset()
        self._seed = poses

    def step(self, frame: NDArray[np.uint8]) -> None:
        """Process a frame, BGR [H, W, 3]."""
        self._tracker.step(frame)
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        if self._seed is not None:
            rendered = render_maps(self._seed, self._skeleton, (frame.shape[0], frame.shape[1]))
            maps = select_channels(rendered, self._skeleton, self._channels)[self._joints]
        else:
            maps = self._tracker.maps()[self._joints]
            if self._previous is not None:
                before, carried = self._previous
                maps = np.maximum(maps, DECAY * warp_maps(carried, camera_motion(before, grey)))
        self._seed, self._previous = None, (grey, maps)

    def maps(self) -> NDArray[np.float32]:
        """Maps [C, H/4, W/4] of the latest frame."""
        maps = self._tracker.maps().copy()
        if self._previous is not None:
            maps[self._joints] = self._previous[1]
        return maps

    def people(self) -> None:
        """None: only maps are propagated."""
        return


def camera_motion(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The affine motion of most of an image: corners tracked by pyramidal Lucas-Kanade, then RANSAC.

    Args:
        before, after: grey [H, W].

    Returns:
        3 x 3 matrix from ``before`` to ``after`` for (x, y, 1) in pixels from the image's corner (see
        stm_skeletons.geometry); the identity if there are too few corners.
    """
    identity = np.eye(3)
    corners = cv2.goodFeaturesToTrack(before, _FEATURES, _QUALITY, _DISTANCE)
    if corners is None or len(corners) < _MIN_CORNERS:
        return identity
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners))
    tracked = status.ravel() == 1
    if tracked.sum() < _MIN_CORNERS:
        return identity
    # (0, 0) is the centre of the first pixel in OpenCV, and the corner of that pixel in our coordinates.
    matrix, _ = cv2.estimateAffine2D(
        corners[tracked] + 0.5, moved[tracked] + 0.5, method=cv2.RANSAC, ransacReprojThreshold=_RANSAC
    )
    if matrix is None or not np.isfinite(matrix).all():
        return identity
    return np.vstack([np.asarray(matrix, float), identity[2]])


def warp_maps(maps: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps [C, h, w] moved by a 3 x 3 matrix for points in network pixels; uncovered cells become 0."""
    cells = np.linalg.inv(_CELLS_TO_PIXELS) @ matrix @ _CELLS_TO_PIXELS
    size = (maps.shape[2], maps.shape[1])
    moved = [cv2.warpAffine(each, cells[:2], size, flags=cv2.INTER_LINEAR) for each in maps]
    return np.asarray(np.stack(moved), np.float32)
