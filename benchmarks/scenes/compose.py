"""Scenes: people with real motion who cross, stand before each other and pass behind a lamp post."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.geometry import box_overlaps
from benchmarks.scenes.tracks import JOINTS, Track, played
from stm_skeletons.skeleton import COCO17

WIDTH, HEIGHT = 448, 256
"""Of the picture, in network pixels."""
OVERLAPPING = 0.3
"""IoU of two people's boxes from which on they overlap."""
OVERLAP_SHARE = 0.36
"""Of the person-frames in which another's box is to overlap; people are put as far apart as that allows."""

_SIZES = {5: (80.0, 190.0), 20: (50.0, 110.0)}
"""Diagonal of a person's box in network pixels, smallest and largest, by the number of people at most."""
_ROUND = (200.0, 500.0)
"""Frames in which people walk forth and back once."""
_LIMB, _HEAD = 0.08, 0.07
"""Thickness of limbs and radius of heads, in sizes of the person."""
_POST = 10
_WALL = (70, 45)
_NUMBER = {COCO17.joints[joint]: i for i, joint in enumerate(JOINTS)}
_TORSO = [_NUMBER[name] for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
_LIMBS = [
    (_NUMBER[f"{side}_{a}"], _NUMBER[f"{side}_{b}"])
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
]


@dataclass(frozen=True)
class Scene:
    """F frames of M people, 13 joints; network pixels."""

    xy: NDArray[np.float64]
    """[F, M, 13, 2]: where the joints are, seen or not."""
    turned: NDArray[np.bool_]
    """[F, M, 13]: hidden by the person's own body."""
    covered: NDArray[np.bool_]
    """[F, M, 13]: hidden by somebody or something in front, or outside the picture."""

    @property
    def visible(self) -> NDArray[np.bool_]:
        """[F, M, 13]"""
        return ~self.turned & ~self.covered

    def sizes(self) -> NDArray[np.float64]:
        """[F, M]: diagonal of the box around the joints."""
        return np.linalg.norm(np.ptp(self.xy, axis=2), axis=-1)

    def overlaps(self) -> NDArray[np.float64]:
        """[F, M]: largest IoU of a person's box with another's."""
        return box_overlaps(self.xy.min(axis=2), self.xy.max(axis=2))


def compose(tracks: list[Track], people: int, frames: int, random: np.random.Generator) -> Scene:
    """A scene with so many people: the farthest apart at which OVERLAP_SHARE of the person-frames overlap."""
    smallest, largest = next(sizes for most, sizes in _SIZES.items() if people <= most or most == max(_SIZES))
    bodies, turned, sizes = [], [], np.sort(random.uniform(smallest, largest, people))[::-1]
    for number, size in zip(random.permutation(len(tracks))[np.arange(people) % len(tracks)], sizes, strict=True):
        track = played(tracks[number], frames, random)
        bodies.append(track.xy * size)
        turned.append(~track.seen)
    body = np.stack(bodies, axis=1)
    walks = _walks(people, frames, random)
    room = np.array([WIDTH, HEIGHT]) - np.ptp(body, axis=2).max(axis=0)
    low = body.min(axis=(0, 2))

    def spread(share: float) -> Scene:
        """Walks over the middle ``share`` of the picture, in x and y in [-1, 1] of what keeps each body inside."""
        start = (np.array([WIDTH, HEIGHT]) - np.ptp(body, axis=(0, 2))) / 2 - low
        xy = body + (start + walks * share * np.maximum(room, 0) / 2)[:, :, None]
        return Scene(xy, np.stack(turned, axis=1), np.zeros(xy.shape[:3], bool))

    near, far = 0.0, 1.0
    if (spread(far).overlaps() >= OVERLAPPING).mean() < OVERLAP_SHARE:
        for _ in range(12):
            middle = (near + far) / 2
            enough = (spread(middle).overlaps() >= OVERLAPPING).mean() >= OVERLAP_SHARE
            near, far = (middle, far) if enough else (near, middle)
        far = near
    scene = spread(far)
    return replace(scene, covered=_covered(scene.xy, random))


def _walks(people: int, frames: int, random: np.random.Generator) -> NDArray[np.float64]:
    """[F, M, 2] in [-1, 1]: to and fro about a place of one's own, much to the side and a little up and down."""
    time = np.arange(frames)[:, None, None]
    rounds = random.uniform(*_ROUND, (people, 2))
    swing = np.sin(2 * np.pi * (time / rounds + random.uniform(0, 1, (people, 2))))
    reach = random.uniform([0.3, 0.1], [0.9, 0.4], (people, 2))
    return swing * reach + random.uniform(-1, 1, (people, 2)) * (1 - reach)


def _covered(xy: NDArray, random: np.random.Generator) -> NDArray[np.bool_]:
    """[F, M, 13]: behind somebody who comes before them in the list, behind the post or the wall, or outside."""
    frames, people, joints, _ = xy.shape
    things = np.zeros((HEIGHT, WIDTH), np.uint8)
    left = int(random.uniform(0.25, 0.75) * WIDTH)
    things[:, left : left + _POST] = 1
    left = int(random.uniform(0, WIDTH - _WALL[0]))
    things[HEIGHT - _WALL[1] :, left : left + _WALL[0]] = 1
    cells = np.floor(xy).astype(int)
    outside = ((cells < 0) | (cells >= (WIDTH, HEIGHT))).any(axis=-1)
    cells = cells.clip(0, (WIDTH - 1, HEIGHT - 1))
    covered = np.empty((frames, people, joints), bool)
    for frame in range(frames):
        before = things.copy()
        for person in range(people):
            x, y = cells[frame, person].T
            covered[frame, person] = before[y, x] > 0
            draw_body(before, xy[frame, person])
    return covered | outside


def draw_body(picture: NDArray[np.uint8], pose: NDArray) -> None:
    """Set what a person [13, 2] covers to 1: torso, limbs and head."""
    size = float(np.linalg.norm(np.ptp(pose, axis=0)))
    points = np.rint(pose).astype(np.int32)
    cv2.fillConvexPoly(picture, cv2.convexHull(points[_TORSO]), 1)
    for a, b in _LIMBS:
        cv2.line(picture, points[a].tolist(), points[b].tolist(), 1, max(1, round(_LIMB * size)))
    cv2.circle(picture, points[0].tolist(), max(1, round(_HEAD * size)), 1, -1)
