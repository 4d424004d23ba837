"""Where people stand, in shares of the picture; and what lies where."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.parts import Parts
from stm_skeletons.skeleton import Skeleton

FORGOTTEN = 10.0
"""Seconds after which nothing is known any more of a person who is not seen."""

Point = tuple[float, float]
"""Shares of the picture's width and height, from its top left corner."""
_State = TypeVar("_State")


@dataclass(frozen=True)
class Person:
    """Somebody with an id."""

    id: int
    feet: Point
    """The middle of the ankles that were found; else where they last were from the hips, else the hips, else the
    middle of the box's lower side."""
    hips: Point | None
    """Their middle."""


@dataclass(frozen=True)
class Seen:
    """A frame, as rules see it. Who has no id yet is not in it."""

    now: float
    """Seconds, monotonic."""
    shape: Point
    """Width and height of the picture, its longer side 1."""
    people: tuple[Person, ...]


@dataclass(frozen=True)
class Notice:
    """An event, but for what all events of a rule and a frame have in common."""

    what: str
    id: int | None = None
    count: int | None = None


@dataclass
class Spell:
    """Of a person, something that goes on."""

    since: float
    last: float
    told: bool = False

    def goes_on(self, now: float, seconds: float) -> bool:
        """It is so still. Whether it has been for so many seconds, which is said once."""
        self.last = now
        if self.told or now - self.since < seconds:
            return False
        self.told = True
        return True


class ById(Generic[_State]):
    """What is remembered of people: dropped when they have not been seen for ``FORGOTTEN`` seconds."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[float, _State]] = {}

    def __getitem__(self, number: int) -> _State | None:
        return self._states[number][1] if number in self._states else None

    def __len__(self) -> int:
        return len(self._states)

    def keep(self, number: int, state: _State, now: float) -> None:
        self._states[number] = now, state

    def drop(self, number: int) -> None:
        self._states.pop(number, None)

    def forget(self, now: float) -> None:
        """To be called for each frame."""
        gone = [number for number, (seen, _) in self._states.items() if now - seen > FORGOTTEN]
        for number in gone:
            del self._states[number]


class Places:
    """Where everybody of one frame after the other stands."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._ankles, self._hips = (
            [i for i, name in enumerate(skeleton.joints) if name.endswith(part)] for part in ("_ankle", "_hip")
        )
        self._ways: ById[NDArray[np.float64]] = ById()
        """From the hips to the feet, in pixels."""

    def look(self, parts: Parts, now: float) -> Seen:
        people, boxes = parts.people, parts.people.boxes().astype(float)
        size = np.array(parts.size, float)
        self._ways.forget(now)
        seen = []
        for i in np.flatnonzero(people.ids).tolist():
            number, joints = int(people.ids[i]), people.keypoints[i].astype(float)
            hips = _middle(joints, self._hips, people.found[i])
            if hips is None:
                hips = _middle(joints, self._hips, people.predicted[i])
            feet = self._feet(number, _middle(joints, self._ankles, people.found[i]), hips, boxes[i], now)
            seen.append(Person(number, _share(feet, size), None if hips is None else _share(hips, size)))
        width, height = (size / size.max()).tolist()
        return Seen(now, (width, height), tuple(seen))

    def _feet(
        self,
        number: int,
        ankles: NDArray[np.float64] | None,
        hips: NDArray[np.float64] | None,
        box: NDArray[np.float64],
        now: float,
    ) -> NDArray[np.float64]:
        # Feet that are hidden for a moment must not jump to the hips and back: that would cross lines.
        if ankles is not None and hips is not None:
            self._ways.keep(number, ankles - hips, now)
        if ankles is not None:
            return ankles
        if hips is not None:
            way = self._ways[number]
            return hips if way is None else hips + way
        return box[:2] + box[2:] * (0.5, 1)


def side_of(start: Point, end: Point, point: Point) -> float:
    """How far a point is from the line through two others, which differ: positive on the right of the way from start to
    end as it is seen in the picture (below a line drawn from left to right)."""
    along, off = (end[0] - start[0], end[1] - start[1]), (point[0] - start[0], point[1] - start[1])
    return (along[0] * off[1] - along[1] * off[0]) / math.hypot(*along)


def crosses_between(start: Point, end: Point, before: Point, after: Point) -> bool:
    """Whether the way from before to after, which lie on different sides of a line, meets it between start and end."""
    a, b = side_of(start, end, before), side_of(start, end, after)
    share = a / (a - b)
    meets = [before[i] + share * (after[i] - before[i]) for i in range(2)]
    along = [end[i] - start[i] for i in range(2)]
    place = sum((meets[i] - start[i]) * along[i] for i in range(2)) / sum(each * each for each in along)
    return 0 <= place <= 1


def is_inside(region: Sequence[Point], point: Point) -> bool:
    """Whether a point lies in a polygon (even-odd rule)."""
    x, y = point
    inside = False
    for (x1, y1), (x2, y2) in zip(region, [*region[1:], region[0]], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


def _middle(joints: NDArray[np.float64], which: list[int], known: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    chosen = [joint for joint in which if known[joint]]
    return joints[chosen, :2].mean(axis=0) if chosen else None


def _share(pixels: NDArray[np.float64], size: NDArray[np.float64]) -> Point:
    x, y = (pixels / size).tolist()
    return x, y
