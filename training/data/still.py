"""Stills: labelled images at the network's input size, which are moved to make sequences."""

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from stm_skeletons.geometry import PADDING_GREY, STRIDE, Letterbox
from stm_skeletons.skeleton import Skeleton
from training.data.affine import move_points, warp
from training.data.images import read_image
from training.data.labels import LABELLED, LabelledImage, Regions
from training.data.sequence import SequenceFrame


@dataclass(frozen=True)
class Still:
    """A letterboxed image with its labels at full resolution."""

    image: NDArray[np.uint8]
    """[H, W, 3]"""
    poses: NDArray[np.float32]
    """[P, NK, 3] in network pixels"""
    corners: NDArray[np.float32]
    """[P, 4, 2]: corners of each person's box in network pixels"""
    mask: NDArray[np.uint8] | None
    """[H, W], 255 on people"""
    ignored: NDArray[np.uint8] | None
    """[H, W], above 0 in ignored regions; None if there are none"""
    areas: NDArray[np.float32] | None
    """[P] in square network pixels"""
    heads: NDArray[np.float32] | None
    """[P] in network pixels"""
    covered: NDArray[np.bool_] | None = None
    """[P, NK]: joints behind pasted people; None if there are none"""


def letterboxed(labelled: LabelledImage, size: tuple[int, int]) -> Still:
    source = read_image(labelled.file)
    if (source.shape[1], source.shape[0]) != labelled.size:
        raise DataError(
            f"{labelled.file} has {source.shape[1]}x{source.shape[0]} pixels, but its labels are for "
            f"{labelled.size[0]}x{labelled.size[1]}"
        )
    letterbox = Letterbox(labelled.size, size)
    image = np.full((size[1], size[0], 3), PADDING_GREY, np.uint8)
    letterbox.apply(source, image)
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
    return Still(
        image,
        poses,
        letterbox.to_network(corners).astype(np.float32),
        None if labelled.masks is None else draw(labelled.masks),
        draw(labelled.ignored) if has_ignored else None,
        None if labelled.areas is None else labelled.areas * grown,
        None if labelled.heads is None else labelled.heads * np.sqrt(grown),
    )


def mosaic(images: Seq[LabelledImage], size: tuple[int, int]) -> Still:
    """Images in a square grid, each letterboxed into its cell."""
    side = math.isqrt(len(images))
    width, height = size[0] // side, size[1] // side
    cells = [letterboxed(image, (width, height)) for image in images]
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
    return Still(
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


def flipped(still: Still, skeleton: Skeleton) -> Still:
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


def moved(still: Still, matrix: NDArray[np.float64]) -> Still:
    poses = still.poses.copy()
    poses[..., :2] = move_points(matrix, poses[..., :2])
    grown = np.float32(abs(np.linalg.det(matrix[:2, :2])))
    return Still(
        warp(still.image, matrix),
        poses,
        move_points(matrix, still.corners),
        None if still.mask is None else warp(still.mask, matrix, border=0),
        None if still.ignored is None else warp(still.ignored, matrix, border=0),
        None if still.areas is None else still.areas * grown,
        None if still.heads is None else still.heads * np.sqrt(grown),
    )


def pasted(front: Still, behind: Still) -> Still:
    """The people of one still pasted onto another, cut out by their segmentation, or by their boxes without one."""
    shape = front.image.shape[:2]
    cut = front.mask
    if cut is None:
        cut = np.zeros(shape, np.uint8)
        for corners in front.corners:
            cv2.fillConvexPoly(cut, np.rint(corners).astype(np.int32), 255)
    share = cut[..., None].astype(np.float32) / 255
    image = np.rint(behind.image + share * (front.image.astype(np.float32) - behind.image)).astype(np.uint8)
    column, row = np.floor(behind.poses[..., :2]).clip(0, [shape[1] - 1, shape[0] - 1]).astype(int).transpose(2, 0, 1)
    no_regions = np.zeros(shape, np.uint8)
    front_ignored, back_ignored = (no_regions if still.ignored is None else still.ignored for still in (front, behind))
    return Still(
        image,
        np.concatenate([behind.poses, front.poses]),
        np.concatenate([behind.corners, front.corners]),
        None if behind.mask is None or front.mask is None else np.maximum(behind.mask, front.mask),
        np.where(cut > 127, front_ignored, back_ignored),
        _all_or_none([behind.areas, front.areas]),
        _all_or_none([behind.heads, front.heads]),
        np.concatenate([cut[row, column] > 127, np.zeros(front.poses.shape[:2], bool)]),
    )


def finish(still: Still) -> SequenceFrame:
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
        np.zeros_like(inside) if still.covered is None else inside & still.covered,
        still.corners,
        mask,
        ignored,
        areas=still.areas,
        heads=still.heads,
    )
