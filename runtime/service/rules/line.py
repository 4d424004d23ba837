"""Counts people who cross a line."""

from dataclasses import dataclass

from runtime.service.config import LineRule
from runtime.service.rules.places import ById, Notice, Person, Point, Seen, crosses_between, side_of

_AWAY = 0.01
"""Distance from the line at which a person counts as being on one side, as a share of the image's longer side."""


@dataclass
class _Walk:
    """A person's movement relative to the line."""

    at: Point
    """The person's last position, in shares of the longer side."""
    side: bool | None
    """The side on which the person last was for certain; True on the right of the direction from start to end."""
    through: bool = False
    """Whether the last step across the line was between its ends."""


class LineWatch:
    """Reports "in" when a person moves from the left to the right side of the direction from ``start`` to ``end``, as
    seen in the image, and "out" the other way; a line drawn from left to right is crossed "in" downwards. ``count`` is
    the number of such crossings, including this one.

    Only the line between its ends counts. A person must be off the line by 1% of the image on one side and then on the
    other, so standing on the line counts at most once.
    """

    def __init__(self, rule: LineRule) -> None:
        self._rule = rule
        self._walks: ById[_Walk] = ById()
        self._counts = {"in": 0, "out": 0}

    def evaluate(self, seen: Seen) -> list[Notice]:
        self._walks.forget(seen.now)
        ends = _proportioned(self._rule.start, seen), _proportioned(self._rule.end, seen)
        notices = []
        for person in seen.people:
            what = self._step(person, seen, *ends)
            if what is not None:
                self._counts[what] += 1
                notices.append(Notice(what, person.id, self._counts[what]))
        return notices

    def _step(self, person: Person, seen: Seen, start: Point, end: Point) -> str | None:
        """Return the direction in which the person crossed the line in this frame, or None."""
        at = _proportioned(person.feet, seen)
        off = side_of(start, end, at)
        walk = self._walks[person.id] or _Walk(at, None)
        if (off > 0) != (side_of(start, end, walk.at) > 0):
            walk.through = crosses_between(start, end, walk.at, at)
        walk.at = at
        before = walk.side
        if abs(off) >= _AWAY:
            walk.side = off > 0
        self._walks.keep(person.id, walk, seen.now)
        if before is None or before == walk.side or not walk.through:
            return None
        return "in" if walk.side else "out"


def _proportioned(point: Point, seen: Seen) -> Point:
    return point[0] * seen.shape[0], point[1] * seen.shape[1]
