"""What a network is held against: itself without memory, and memories that learnt nothing.

``edge``'s own read, that is, what it remembers where that was then, is mixed with what is seen now by a fixed rule:
``Mean`` or ``Hold``. ``AffineMaps`` does without the read as well.
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
from training.model.edge import Edge, remembered
from training.model.movenet import upsample

HELD = 0.9
"""What is left of the slots' mean in ``Hold``."""
DECAY = 0.95
"""What is left of an earlier frame's maps from one frame to the next in ``AffineMaps``."""
_FEATURES, _QUALITY, _DISTANCE = 200, 0.01, 7  # corners, of the best one's strength, network pixels apart
_FEWEST = 6  # of corners; an affine through three of them is always exact and tells nothing
_RANSAC = 2.0  # network pixels
# Cell (i, j) has its middle at (4 i + 2, 4 j + 2) network pixels; OpenCV counts cells from the middle of the first one.
_CELLS_TO_PIXELS = np.array([[STRIDE, 0, STRIDE / 2], [0, STRIDE, STRIDE / 2], [0, 0, 1]], float)


class MemoryOff:
    """A Tracker: the same network, with each frame read from an empty memory."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def reset(self) -> None:
        """Nothing is to be forgotten: nothing is ever remembered."""

    def seed(self, poses: NDArray) -> None:
        """Does nothing: a seed would only be read from memory."""

    def step(self, frame: NDArray[np.uint8]) -> None:
        """Detect in a frame alone."""
        self._tracker.reset()
        self._tracker.step(frame)

    def maps(self) -> NDArray[np.float32]:
        """[C, H/4, W/4] of the latest frame."""
        return self._tracker.maps()

    def people(self) -> People | None:
        """Those of the latest frame alone, so nobody is followed: ids mean nothing."""
        return self._tracker.people()


class Mean(nn.Module):
    """In the place of ``edge``'s fusion: the mean of what is seen and of the slots' mean."""

    def forward(self, read: Tensor, context: Tensor, features: Tensor, seen: Tensor) -> Tensor:  # noqa: ARG002
        """See training.model.edge.Fusion."""
        mean, _, known = remembered(read, seen.shape[1])
        return seen + known * (upsample(mean) - seen) / 2


class Hold(nn.Module):
    """In the place of ``edge``'s fusion: the larger of what is seen and of HELD times the slots' mean."""

    def forward(self, read: Tensor, context: Tensor, features: Tensor, seen: Tensor) -> Tensor:  # noqa: ARG002
        """See training.model.edge.Fusion."""
        mean, _, _ = remembered(read, seen.shape[1])
        return torch.maximum(seen, HELD * upsample(mean))


def with_rule(model: Edge, rule: nn.Module) -> Edge:
    """A copy of a network that mixes by a rule instead of what it learnt."""
    model = copy.deepcopy(model)
    model.fusion = rule
    return model


class AffineMaps:
    """A Tracker without learning: each keypoint map is the maximum of what is detected in the frame alone and DECAY
    times the previous frame's result, warped by one affine for the whole frame. Other maps are those of the frame
    alone."""

    def __init__(self, tracker: Tracker, skeleton: Skeleton, channels: tuple[str, ...]) -> None:
        """
        Args:
            tracker: gives the maps that are carried along, see MemoryOff.
            skeleton: whose joints' maps are carried along.
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
        """Start anew with these people, [P, NK, 3] x, y, visibility: their rendered maps are the next frame's."""
        self.reset()
        self._seed = poses

    def step(self, frame: NDArray[np.uint8]) -> None:
        """Go on by a frame, BGR [H, W, 3]."""
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
        """[C, H/4, W/4] of the latest frame."""
        maps = self._tracker.maps().copy()
        if self._previous is not None:
            maps[self._joints] = self._previous[1]
        return maps

    def people(self) -> None:
        """Maps are all that is carried along."""
        return


def camera_motion(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The one affine that moves most of a picture: corners followed by pyramidal Lucas-Kanade, then RANSAC.

    Args:
        before, after: grey [H, W].

    Returns:
        3 x 3 for x, y, 1 in pixels from the picture's corner (see stm_skeletons.geometry), from ``before`` to
        ``after``; the identity where there are too few corners to tell.
    """
    still = np.eye(3)
    corners = cv2.goodFeaturesToTrack(before, _FEATURES, _QUALITY, _DISTANCE)
    if corners is None or len(corners) < _FEWEST:
        return still
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners))
    followed = status.ravel() == 1
    if followed.sum() < _FEWEST:
        return still
    # OpenCV has (0, 0) in the middle of the first pixel, we have it at that pixel's corner.
    matrix, _ = cv2.estimateAffine2D(
        corners[followed] + 0.5, moved[followed] + 0.5, method=cv2.RANSAC, ransacReprojThreshold=_RANSAC
    )
    if matrix is None or not np.isfinite(matrix).all():
        return still
    return np.vstack([np.asarray(matrix, float), still[2]])


def warp_maps(maps: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps [C, h, w] moved by the 3 x 3 matrix that moves points in network pixels; what comes into view is 0."""
    cells = np.linalg.inv(_CELLS_TO_PIXELS) @ matrix @ _CELLS_TO_PIXELS
    size = (maps.shape[2], maps.shape[1])
    moved = [cv2.warpAffine(one, cells[:2], size, flags=cv2.INTER_LINEAR) for one in maps]
    return np.asarray(np.stack(moved), np.float32)
