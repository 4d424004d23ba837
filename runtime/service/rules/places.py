"""Positions of people in shares of the image, and geometry of lines and regions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.parts import Parts
from stm_skeletons.skeleton import Skeleton

FORGOTTEN = 10.0
"""Seconds after which an unseen person's state is forgotten."""

Point = tuple[float, float]
"""Shares of the image's width and height, from the top left corner."""
_State = TypeVar("_State")


@dataclass(frozen=True)
class Person:
    """A person with an id."""

    id: int
    feet: Point
    """The mean of the found ankles; otherwise their last position relative to the hips, otherwise the hips, otherwise
    the middle of the box's lower edge."""
    hips: Point | None
    """The mean of the hips."""


@dataclass(frozen=True)
class Seen:
    """A frame as seen by rules. People without an id are left out."""

    now: float
    """Arrival in seconds, monotonic."""
    shape: Point
    """Width and height of the image, scaled so that the longer side is 1."""
    people: tuple[Person, ...]


@dataclass(frozen=True)
class Notice:
    """An event without the fields that all events of a rule and frame share."""

    what: str
    id: int | None = None
    count: int | None = None


@dataclass
class Period:
    """A lasting condition of a person."""

    since: float
    last: float
    reported: bool = False

    def extend(self, now: float, seconds: float) -> bool:
        """Extend the period; return True once, when it has lasted for ``seconds``."""
        self.last = now
        if self.reported or now - self.since < seconds:
            return False
        self.reported = True
        return True


class ById(Generic[_State]):
    """State by person id, dropped when the person has not been seen for ``FORGOTTEN`` seconds."""

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
        """Drop old states; call for each frame."""
        gone = [number for number, (seen, _) in self._states.items() if now - seen > FORGOTTEN]
        for number in gone:
            del self._states[number]


class Places:
    """Locates the people in consecutive frames."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._ankles, self._hips = (
            [i for i, name in enumerate(skeleton.joints) if name.endswith(part)] for part in ("_ankle", "_hip")
        )
        self._ways: ById[NDArray[np.float64]] = ById()
        """Vector from the hips to the feet, in pixels."""

    def evaluate(self, parts: Parts, now: float) -> Seen:
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
        # Briefly hidden feet must not jump to the hips and back, which would cross lines.
        if ankles is not None and hips is not None:
            self._ways.keep(number, ankles - hips, now)
        if ankles is not None:
            return ankles
        if hips is not None:
            way = self._ways[number]
            return hips if way is None else hips + way
        return box[:2] + box[2:] * (0.5, 1)


def side_of(start: Point, end: Point, point: Point) -> float:
    """Return a point's signed distance from the line through two different points: positive on the right of the
    direction from start to end as seen in the image (below a line drawn from left to right)."""
    along, off = (end[0] - start[0], end[1] - start[1]), (point[0] - start[0], point[1] - start[1])
    return (along[0] * off[1] - along[1] * off[0]) / math.hypot(*along)


def crosses_between(start: Point, end: Point, before: Point, after: Point) -> bool:
    """Whether the step from before to after, which lie on different sides of a line, crosses it between its ends."""
    a, b = side_of(start, end, before), side_of(start, end, after)
    share = a / (a - b)
    meets = [before[i] + share * (after[i] - before[i]) for i in range(2)]
    along = [end[i] - start[i] for i in range(2)]
    place = sum((meets[i] - start[i]) * along[i] for i in range(2)) / sum(each * each for each in along)
    return 0 <= place <= 1


def is_inside(region: Sequence[Point], point: Point) -> bool:
    """Whether a point is in a polygon (even-odd rule)."""
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
