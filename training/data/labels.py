"""What every data set is read into: pictures with people, videos of pictures, and what to leave out of the loss."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.skeleton import Skeleton

UNLABELLED, LABELLED = 0.0, 1.0
"""The third number of a joint: its place is unknown (not: absent), or known (visible or covered)."""


@dataclass(frozen=True)
class Picture:
    """An image file, or one frame of a video file."""

    path: Path
    frame: int | None = None
    """Number of the frame from 0, for videos."""

    def __str__(self) -> str:
        return str(self.path) if self.frame is None else f"frame {self.frame} of {self.path}"


@dataclass(frozen=True)
class Regions:
    """Areas of a picture as annotation files have them: polygons and run-length codes, drawn only when needed."""

    polygons: tuple[NDArray[np.float32], ...] = ()
    """Each [n, 2]: x, y in picture pixels."""
    run_lengths: tuple[dict[str, Any], ...] = ()
    """pycocotools' compressed run-length codes, of the picture's own size."""

    def draw(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 [h, w] of a picture of ``size`` (width, height): 1 inside, else 0."""
        area = np.zeros((size[1], size[0]), np.uint8)
        for polygon in self.polygons:
            # One at a time: together, OpenCV would leave out where they overlap.
            cv2.fillPoly(area, [np.rint(polygon).astype(np.int32)], 1)
        if self.run_lengths:
            from pycocotools import mask

            codes: list[Any] = list(self.run_lengths)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 with NumPy 2
                area |= np.asarray(mask.decode(mask.merge(codes)), np.uint8)
        return area


@dataclass(frozen=True)
class LabelledPicture:
    """One picture and what is known about the people in it; coordinates in pixels of the picture."""

    picture: Picture
    size: tuple[int, int]
    """(width, height) in pixels, as the annotation file says."""
    poses: NDArray[np.float32]
    """[P, NK, 3]: x, y, and UNLABELLED or LABELLED, in the order of the wanted skeleton's joints."""
    boxes: NDArray[np.float32]
    """[P, 4]: left, top, right, bottom of each person; where a joint is unlabelled it may be anywhere in the box."""
    tracks: NDArray[np.int64]
    """[P]: which person of the video this is; -1 where the data set does not tell."""
    masks: Regions | None = None
    """Where people are; None where the data set has no segmentation, then the skeleton's outline has to do."""
    ignored: Regions = field(default_factory=Regions)
    """Crowds and ignore regions: nothing is known there."""
    areas: NDArray[np.float32] | None = None
    """[P] square pixels that each person covers, NaN where that is not known; None where it is of nobody."""
    heads: NDArray[np.float32] | None = None
    """[P] size of each head in pixels, 0.6 times the diagonal of its box as PoseTrack has it; NaN and None likewise."""


@dataclass(frozen=True)
class Video:
    """The labelled pictures of one video, in order."""

    name: str
    pictures: tuple[LabelledPicture, ...]
    numbers: tuple[int, ...]
    """Frame number of each in the video; unlabelled frames in between are left out."""


@dataclass(frozen=True)
class DataSet:
    """Pictures or videos of one split, their joints already put in the order of ``skeleton``."""

    name: str
    skeleton: Skeleton
    sourced: NDArray[np.bool_]
    """[NK]: which joints of the skeleton the data set labels at all."""
    pictures: tuple[LabelledPicture, ...] = ()
    videos: tuple[Video, ...] = ()
    pseudo: bool = False
    """Labelled by a teacher network, not by people."""
    problems: tuple[str, ...] = ()
    """What was left out and why, one line each, for the person who started the command."""
