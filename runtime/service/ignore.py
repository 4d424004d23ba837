"""What is not reported of a camera: people who are not sure enough, and whatever lies in regions to ignore."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtime.service.config import CameraConfig, Polygon
from stm_skeletons.parts import Parts


def reported(parts: Parts, camera: CameraConfig, min_score: float) -> Parts:
    """The parts of a frame as a camera's configuration wants them.

    People whose box's middle lies in an ignored region go with all of their keypoints, and so do other keypoints that
    lie there; people who stay keep all of theirs. People who score too little or show too few joints are left out,
    and their keypoints are nobody's then, as in ``run``.

    Args:
        parts: everybody, whatever the scores.
        camera: its ``ignore`` and ``min_joints``.
        min_score: people from this score on.
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
    """Only the people [M] that are kept; keypoints of the others are nobody's."""
    owners = _renumbered(kept)[parts.owners] if len(kept) else parts.owners
    owners = np.where(parts.owners >= 0, owners, -1)
    return replace(parts, people=parts.people.chosen(kept), owners=owners)


def _without_keypoints(parts: Parts, kept: NDArray[np.bool_]) -> Parts:
    """Only the keypoints [N] that are kept, and the edges between them."""
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
    """[n]: the new index of each of what is kept; -1 for the others."""
    return np.where(kept, np.cumsum(kept) - 1, -1)


def _inside(points: NDArray, polygons: tuple[Polygon, ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """[n]: which points [n, 2], in pixels of a frame of that (width, height), lie in one of the polygons (even-odd)."""
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
