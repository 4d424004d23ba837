"""Sequences out of pictures and videos, at the network's input size (paper section 2.3).

Synthetic: one picture, letterboxed, then moved again and again by small random affine steps; keypoints go with it.
Real: an ordered subset of a video's labelled frames, letterboxed.
"""

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.errors import DataError
from stm_skeletons.geometry import PADDING_GREY, STRIDE, Letterbox
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import Exact
from training.data.affine import Motion, move_points, random_step, warp
from training.data.labels import LABELLED, DataSet, LabelledPicture, Regions, Video
from training.data.pictures import read_picture
from training.data.sequence import Sequence, SequenceFrame


class SequenceOptions(Exact):
    """How sequences are made."""

    kind: Literal["synthetic", "real"]
    frames: int = Field(default=5, ge=2, le=64)
    """N of the paper, which does not give it."""
    motion: Motion = Motion()
    """Of synthetic sequences."""
    flip: bool = False
    """Mirror every other sequence, left and right joints exchanged; not in the paper."""
    mosaic: float = Field(default=0.0, ge=0, le=1)
    """Share of synthetic sequences that are made of 4 or 9 pictures side by side, crowds; not in the paper."""
    zoom: float = Field(default=1.0, ge=1, le=4)
    """Synthetic sequences start enlarged by up to this, around any place: people who fill the frame; not in the
    paper."""
    gap_step: int = Field(default=5, ge=0)
    gap_epochs: int = Field(default=20, ge=1)
    gap_max: int = Field(default=25, ge=0)
    """Of real sequences, as STM has it (Oh et al. 2019, section 3.4): frames that may be skipped between two are at
    first 0 and grow by ``gap_step`` every ``gap_epochs`` epochs, up to ``gap_max``."""

    def largest_gap(self, epoch: int) -> int:
        """Labelled frames that may be skipped between two of a sequence, in this epoch (from 0)."""
        return min(self.gap_max, self.gap_step * (epoch // self.gap_epochs))


def synthetic_sequence(
    labelled: LabelledPicture | Seq[LabelledPicture],
    data: DataSet,
    size: tuple[int, int],
    options: SequenceOptions,
    random: np.random.Generator,
) -> Sequence:
    """A picture and ``options.frames - 1`` moved copies of it, each moved from the one before (cumulatively).

    Args:
        labelled: one of the data set's pictures, or 4 or 9 for a mosaic of them.
        data: where it comes from.
        size: (width, height) of the network input in pixels.
        options: frames, motion, flip and zoom.
        random: decides everything that is random.

    Raises:
        DataError: a picture cannot be read, or has another size than its labels say.
    """
    first = _letterboxed(labelled, size) if isinstance(labelled, LabelledPicture) else _mosaic(labelled, size)
    if options.flip and random.random() < 0.5:
        first = _flipped(first, data.skeleton)
    if options.zoom > 1:
        first = _moved(first, _enlargement(options.zoom, size, random))
    moved = [first]
    matrix = np.eye(3)
    for _ in range(1, options.frames):
        matrix = random_step(options.motion, size, random) @ matrix
        moved.append(_moved(first, matrix))
    name = labelled.picture if isinstance(labelled, LabelledPicture) else labelled[0].picture
    return Sequence(str(name), tuple(_finish(frame) for frame in moved), data.sourced)


def _enlargement(most: float, size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """3 x 3: by 1 to ``most``, each doubling as likely, around any place."""
    scale = most ** random.uniform(0, 1)
    matrix = np.diag([scale, scale, 1.0])
    matrix[:2, 2] = random.uniform(0, 1, 2) * size * np.array(1 - scale)
    return matrix


def real_sequence(
    video: Video,
    data: DataSet,
    size: tuple[int, int],
    options: SequenceOptions,
    epoch: int,
    random: np.random.Generator,
) -> Sequence:
    """An ordered subset of a video's labelled frames, with gaps as ``options.largest_gap(epoch)`` allows.

    A video with fewer labelled frames than wanted repeats its last one. Arguments and errors as synthetic_sequence.
    """
    steps = random.integers(1, options.largest_gap(epoch) + 2, options.frames - 1)
    offsets = np.concatenate([[0], np.cumsum(steps)])
    last = len(video.pictures) - 1
    offsets = np.minimum(offsets + random.integers(0, max(last - offsets[-1], 0) + 1), last)
    frames = [_letterboxed(video.pictures[int(offset)], size) for offset in offsets]
    if options.flip and random.random() < 0.5:
        frames = [_flipped(frame, data.skeleton) for frame in frames]
    return Sequence(video.name, tuple(_finish(frame) for frame in frames), data.sourced)


def video_sequence(video: Video, data: DataSet, size: tuple[int, int]) -> Sequence:
    """All labelled frames of a video, with tracks, for evaluation; errors as synthetic_sequence."""
    frames = tuple(replace(_finish(_letterboxed(picture, size)), tracks=picture.tracks) for picture in video.pictures)
    return Sequence(video.name, frames, data.sourced)


@dataclass(frozen=True)
class _Still:
    """A letterboxed picture with its labels, before it is cut down to a frame of a sequence."""

    image: NDArray[np.uint8]
    """[H, W, 3]"""
    poses: NDArray[np.float32]
    """[P, NK, 3] network pixels"""
    corners: NDArray[np.float32]
    """[P, 4, 2] of each person's box, network pixels"""
    mask: NDArray[np.uint8] | None
    """[H, W], 255 where people are"""
    ignored: NDArray[np.uint8] | None
    """[H, W], above 0 where nothing is known; None: nowhere"""
    areas: NDArray[np.float32] | None
    """[P] square network pixels"""
    heads: NDArray[np.float32] | None
    """[P] network pixels"""


def _letterboxed(labelled: LabelledPicture, size: tuple[int, int]) -> _Still:
    picture = read_picture(labelled.picture)
    if (picture.shape[1], picture.shape[0]) != labelled.size:
        raise DataError(
            f"{labelled.picture} has {picture.shape[1]}x{picture.shape[0]} pixels, but its labels are for "
            f"{labelled.size[0]}x{labelled.size[1]}"
        )
    letterbox = Letterbox(labelled.size, size)
    image = np.full((size[1], size[0], 3), PADDING_GREY, np.uint8)
    letterbox.apply(picture, image)
    poses = labelled.poses.copy()
    poses[..., :2] = letterbox.to_network(poses[..., :2])
    left, top, right, bottom = labelled.boxes.T if len(labelled.boxes) else np.zeros((4, 0))
    corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=-1).reshape(-1, 4, 2)

    def draw(regions: Regions) -> NDArray[np.uint8]:
        area = np.zeros((size[1], size[0]), np.uint8)
        x, y, width, height = letterbox.inner
        drawn = regions.draw(labelled.size) * np.uint8(255)
        cv2.resize(drawn, (width, height), dst=area[y : y + height, x : x + width], interpolation=cv2.INTER_AREA)
        return area

    grown = np.float32(np.prod(letterbox.inner[2:]) / np.prod(letterbox.source))
    has_ignored = labelled.ignored.polygons or labelled.ignored.run_lengths
    return _Still(
        image,
        poses,
        letterbox.to_network(corners).astype(np.float32),
        None if labelled.masks is None else draw(labelled.masks),
        draw(labelled.ignored) if has_ignored else None,
        None if labelled.areas is None else labelled.areas * grown,
        None if labelled.heads is None else labelled.heads * np.sqrt(grown),
    )


def _mosaic(pictures: Seq[LabelledPicture], size: tuple[int, int]) -> _Still:
    """Pictures in a grid of as many rows as columns, each letterboxed into its cell."""
    side = math.isqrt(len(pictures))
    width, height = size[0] // side, size[1] // side
    cells = [_letterboxed(picture, (width, height)) for picture in pictures]
    corners = [(width * (i % side), height * (i // side)) for i in range(side * side)]

    def paste(areas: Seq[NDArray[np.uint8] | None], background: int) -> NDArray[np.uint8]:
        shape = next(area.shape for area in areas if area is not None)[2:]
        whole = np.full((size[1], size[0], *shape), background, np.uint8)
        for area, (left, top) in zip(areas, corners, strict=True):
            if area is not None:
                whole[top : top + height, left : left + width] = area
        return whole

    def shifted(points: NDArray[np.float32], corner: tuple[int, int]) -> NDArray[np.float32]:
        moved = points.copy()
        moved[..., :2] += corner
        return moved

    masks, ignored = ([getattr(cell, name) for cell in cells] for name in ("mask", "ignored"))
    return _Still(
        paste([cell.image for cell in cells], PADDING_GREY),
        np.concatenate([shifted(cell.poses, corner) for cell, corner in zip(cells, corners, strict=True)]),
        np.concatenate([shifted(cell.corners, corner) for cell, corner in zip(cells, corners, strict=True)]),
        None if any(mask is None for mask in masks) else paste(masks, 0),
        None if all(area is None for area in ignored) else paste(ignored, 0),
        _all_or_none([cell.areas for cell in cells]),
        _all_or_none([cell.heads for cell in cells]),
    )


def _all_or_none(arrays: Seq[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    known = [array for array in arrays if array is not None]
    return np.concatenate(known) if len(known) == len(arrays) else None


def _flipped(still: _Still, skeleton: Skeleton) -> _Still:
    width = still.image.shape[1]
    poses = still.poses[:, list(skeleton.flip)]
    poses[..., 0] = width - poses[..., 0]
    corners = still.corners.copy()
    corners[..., 0] = width - corners[..., 0]

    def mirror(area: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        return None if area is None else np.ascontiguousarray(area[:, ::-1])

    image = np.ascontiguousarray(still.image[:, ::-1])
    return replace(
        still, image=image, poses=poses, corners=corners, mask=mirror(still.mask), ignored=mirror(still.ignored)
    )


def _moved(still: _Still, matrix: NDArray[np.float64]) -> _Still:
    poses = still.poses.copy()
    poses[..., :2] = move_points(matrix, poses[..., :2])
    grown = np.float32(abs(np.linalg.det(matrix[:2, :2])))
    return _Still(
        warp(still.image, matrix),
        poses,
        move_points(matrix, still.corners),
        None if still.mask is None else warp(still.mask, matrix, border=0),
        None if still.ignored is None else warp(still.ignored, matrix, border=0),
        None if still.areas is None else still.areas * grown,
        None if still.heads is None else still.heads * np.sqrt(grown),
    )


def _finish(still: _Still) -> SequenceFrame:
    height, width = still.image.shape[:2]
    cells = (width // STRIDE, height // STRIDE)
    poses = still.poses
    labelled = poses[..., 2] == LABELLED
    inside = labelled & (poses[..., :2] >= 0).all(-1) & (poses[..., :2] < [width, height]).all(-1)
    ignored = np.zeros((cells[1], cells[0]), bool)
    if still.ignored is not None:
        ignored = cv2.resize(still.ignored, cells, interpolation=cv2.INTER_AREA) > 0
    mask = None
    if still.mask is not None:
        mask = np.asarray(cv2.resize(still.mask, cells, interpolation=cv2.INTER_AREA) / 255, np.float32)
    return SequenceFrame(
        still.image,
        poses,
        inside,
        np.zeros_like(inside),
        still.corners,
        mask,
        ignored,
        areas=still.areas,
        heads=still.heads,
    )
