"""The common form of all data sets: images with people, videos, and regions excluded from the loss."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.skeleton import Skeleton

UNLABELLED, LABELLED = 0.0, 1.0
"""The third value of a joint: its position is unknown (it may still be there), or known (visible or occluded)."""


@dataclass(frozen=True)
class ImageFile:
    """An image file, or a frame of a video file."""

    path: Path
    frame: int | None = None
    """Frame number from 0 in a video file."""

    def __str__(self) -> str:
        return str(self.path) if self.frame is None else f"frame {self.frame} of {self.path}"


@dataclass(frozen=True)
class Regions:
    """Regions of an image as polygons and run-length codes, drawn on demand."""

    polygons: tuple[NDArray[np.float32], ...] = ()
    """Each [n, 2]: x, y in image pixels."""
    run_lengths: tuple[dict[str, Any], ...] = ()
    """pycocotools' compressed run-length codes, of the image's size."""

    def draw(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 [h, w] for an image of ``size`` (width, height): 1 inside the regions, else 0."""
        area = np.zeros((size[1], size[0]), np.uint8)
        for polygon in self.polygons:
            # One at a time: in a single call, OpenCV does not fill overlaps.
            cv2.fillPoly(area, [np.rint(polygon).astype(np.int32)], 1)
        if self.run_lengths:
            from pycocotools import mask

            codes: list[Any] = list(self.run_lengths)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 with NumPy 2
                area |= np.asarray(mask.decode(mask.merge(codes)), np.uint8)
        return area


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labels; coordinates are in pixels of the image."""

    file: ImageFile
    size: tuple[int, int]
    """(width, height) in pixels, according to the annotation file."""
    poses: NDArray[np.float32]
    """[P, NK, 3]: x, y, and UNLABELLED or LABELLED, in the order of the skeleton's joints."""
    boxes: NDArray[np.float32]
    """[P, 4]: left, top, right, bottom of each person; unlabelled joints may be anywhere in the box."""
    tracks: NDArray[np.int64]
    """[P]: track of each person in the video; -1 if unknown."""
    masks: Regions | None = None
    """Segmentation of the people; None if the data set has none, and the skeleton's outline is used."""
    ignored: Regions = field(default_factory=Regions)
    """Crowds and ignore regions, where nothing is labelled."""
    areas: NDArray[np.float32] | None = None
    """[P]: area of each person in square pixels, NaN if unknown; None if unknown for all."""
    heads: NDArray[np.float32] | None = None
    """[P]: size of each head in pixels, 0.6 times the diagonal of its box as in PoseTrack; NaN and None as in areas."""


@dataclass(frozen=True)
class Video:
    """The labelled frames of a video, in order."""

    name: str
    images: tuple[LabelledImage, ...]
    numbers: tuple[int, ...]
    """Frame number of each image in the video; unlabelled frames are not included."""


@dataclass(frozen=True)
class DataSet:
    """Images and videos of a split, with joints in the order of ``skeleton``."""

    name: str
    skeleton: Skeleton
    sourced: NDArray[np.bool_]
    """[NK]: joints of the skeleton that the data set labels."""
    images: tuple[LabelledImage, ...] = ()
    videos: tuple[Video, ...] = ()
    pseudo: bool = False
    """Labelled by a teacher network, not by people."""
    problems: tuple[str, ...] = ()
    """Messages for the user about skipped data and why, one line each."""
