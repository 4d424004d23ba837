"""Filters a camera's results: people with low scores, and everything in ignored regions."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtime.service.config import CameraConfig, Polygon
from stm_skeletons.parts import Parts


def reported(parts: Parts, camera: CameraConfig, min_score: float) -> Parts:
    """Return a frame's parts, filtered by the camera's configuration.

    People whose box's centre is in an ignored region are dropped with all their keypoints. Other keypoints in an
    ignored region are dropped too, except those of people who stay. People with low scores or few joints are dropped,
    and their keypoints stay without a person, as in ``run``.

    Args:
        parts: all parts, whatever their scores.
        camera: gives ``ignore`` and ``min_joints``.
        min_score: lowest score of a reported person.
    """
    people = parts.people
    sure = (people.scores >= min_score) & (people.found.sum(axis=1) >= camera.min_joints)
    if not camera.ignore:
        return parts if sure.all() else _without_people(parts, sure)
    boxes = people.boxes()
    ignored = _inside(boxes[:, :2] + boxes[:, 2:] / 2, camera.ignore, parts.size)
    owned = parts.owners >= 0
    kept = ~_inside(parts.keypoints, camera.ignore, parts.size)
    if len(people):
        stays = (sure & ~ignored)[parts.owners]
        kept = np.where(owned, np.where(ignored[parts.owners], False, stays | kept), kept)
    return _without_people(_without_keypoints(parts, kept), sure & ~ignored)


def _without_people(parts: Parts, kept: NDArray[np.bool_]) -> Parts:
    """Keep only these people [M]; keypoints of the others have no person then."""
    owners = _renumbered(kept)[parts.owners] if len(kept) else parts.owners
    owners = np.where(parts.owners >= 0, owners, -1)
    return replace(parts, people=parts.people.chosen(kept), owners=owners)


def _without_keypoints(parts: Parts, kept: NDArray[np.bool_]) -> Parts:
    """Keep only these keypoints [N], and the edges between them."""
    edges = kept[parts.edge_ends].all(axis=1)
    return replace(
        parts,
        keypoint_types=parts.keypoint_types[kept],
        keypoints=parts.keypoints[kept],
        keypoint_scores=parts.keypoint_scores[kept],
        owners=parts.owners[kept],
        edge_types=parts.edge_types[edges],
        edge_ends=_renumbered(kept)[parts.edge_ends[edges]],
        edge_scores=parts.edge_scores[edges],
    )


def _renumbered(kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[n]: new index of each kept item; -1 for the others."""
    return np.where(kept, np.cumsum(kept) - 1, -1)


def _inside(points: NDArray, polygons: tuple[Polygon, ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """[n]: whether points [n, 2], in pixels of a frame of this size, are in one of the polygons (even-odd rule)."""
    inside = np.zeros(len(points), bool)
    x, y = points[:, 0], points[:, 1]
    for polygon in polygons:
        crossings = np.zeros(len(points), int)
        corners = np.array(polygon) * size
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y1 != y2:
                crossings += ((y1 <= y) != (y2 <= y)) & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
        inside |= crossings % 2 == 1
    return inside
