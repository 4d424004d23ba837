"""Composes scenes: people with real motion who cross, occlude each other and pass behind a lamp post and a wall."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.geometry import box_overlaps
from benchmarks.scenes.tracks import JOINTS, Track, play
from stm_skeletons.skeleton import COCO17

WIDTH, HEIGHT = 448, 256
"""Size of the image in network pixels."""
OVERLAPPING = 0.3
"""Smallest IoU of two people's boxes that counts as overlapping."""
OVERLAP_SHARE = 0.36
"""Share of person-frames with an overlapping box; people are spread as far apart as it allows."""

_SIZES = {5: (80.0, 190.0), 20: (50.0, 110.0)}
"""Smallest and largest diagonal of a person's box in network pixels, by the largest number of people it applies to."""
_ROUND = (200.0, 500.0)
"""Shortest and longest period of people's walks, in frames."""
_LIMB, _HEAD = 0.08, 0.07
"""Thickness of limbs and radius of heads, relative to the person's size."""
_POST = 10
"""Width of the lamp post in network pixels."""
_WALL = (70, 45)
"""Width and height of the wall in network pixels."""
_NUMBER = {COCO17.joints[joint]: i for i, joint in enumerate(JOINTS)}
_TORSO = [_NUMBER[name] for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
_LIMBS = [
    (_NUMBER[f"{side}_{a}"], _NUMBER[f"{side}_{b}"])
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
]


@dataclass(frozen=True)
class Scene:
    """F frames of M people with 13 joints, in network pixels."""

    xy: NDArray[np.float64]
    """[F, M, 13, 2]: positions of all joints, visible or not."""
    turned: NDArray[np.bool_]
    """[F, M, 13]: joints hidden by the person's own body."""
    covered: NDArray[np.bool_]
    """[F, M, 13]: joints hidden by another person or an object, or outside the image."""

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
    """A scene whose people are as far apart as possible while OVERLAP_SHARE of the person-frames overlap."""
    smallest, largest = next(sizes for most, sizes in _SIZES.items() if people <= most or most == max(_SIZES))
    bodies, turned, sizes = [], [], np.sort(random.uniform(smallest, largest, people))[::-1]
    for number, size in zip(random.permutation(len(tracks))[np.arange(people) % len(tracks)], sizes, strict=True):
        track = play(tracks[number], frames, random)
        bodies.append(track.xy * size)
        turned.append(~track.seen)
    body = np.stack(bodies, axis=1)
    walks = _walks(people, frames, random)
    room = np.array([WIDTH, HEIGHT]) - np.ptp(body, axis=2).max(axis=0)
    low = body.min(axis=(0, 2))

    def spread(share: float) -> Scene:
        """The scene with walks over the middle ``share`` of the image; walks are scaled to keep each body inside."""
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
    """[F, M, 2] in [-1, 1]: each person's walk back and forth about a random place, mostly sideways."""
    time = np.arange(frames)[:, None, None]
    rounds = random.uniform(*_ROUND, (people, 2))
    swing = np.sin(2 * np.pi * (time / rounds + random.uniform(0, 1, (people, 2))))
    reach = random.uniform([0.3, 0.1], [0.9, 0.4], (people, 2))
    return swing * reach + random.uniform(-1, 1, (people, 2)) * (1 - reach)


def _covered(xy: NDArray, random: np.random.Generator) -> NDArray[np.bool_]:
    """[F, M, 13]: joints behind an earlier person of the list, behind the post or the wall, or outside the image."""
    frames, people, joints, _ = xy.shape
    objects = np.zeros((HEIGHT, WIDTH), np.uint8)
    left = int(random.uniform(0.25, 0.75) * WIDTH)
    objects[:, left : left + _POST] = 1
    left = int(random.uniform(0, WIDTH - _WALL[0]))
    objects[HEIGHT - _WALL[1] :, left : left + _WALL[0]] = 1
    cells = np.floor(xy).astype(int)
    outside = ((cells < 0) | (cells >= (WIDTH, HEIGHT))).any(axis=-1)
    cells = cells.clip(0, (WIDTH - 1, HEIGHT - 1))
    covered = np.empty((frames, people, joints), bool)
    for frame in range(frames):
        in_front = objects.copy()
        for person in range(people):
            x, y = cells[frame, person].T
            covered[frame, person] = in_front[y, x] > 0
            draw_body(in_front, xy[frame, person])
    return covered | outside


def draw_body(image: NDArray[np.uint8], pose: NDArray) -> None:
    """Set the pixels that a person [13, 2] covers to 1: torso, limbs and head."""
    size = float(np.linalg.norm(np.ptp(pose, axis=0)))
    points = np.rint(pose).astype(np.int32)
    cv2.fillConvexPoly(image, cv2.convexHull(points[_TORSO]), 1)
    for a, b in _LIMBS:
        cv2.line(image, points[a].tolist(), points[b].tolist(), 1, max(1, round(_LIMB * size)))
    cv2.circle(image, points[0].tolist(), max(1, round(_HEAD * size)), 1, -1)
