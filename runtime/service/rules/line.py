"""A line that counts who crosses it."""

from dataclasses import dataclass

from runtime.service.config import LineRule
from runtime.service.rules.places import ById, Notice, Person, Point, Seen, crosses_between, side_of

_AWAY = 0.01
"""Of the picture's longer side: how far from the line somebody must be to count as on one side of it."""


@dataclass
class _Walk:
    """Of a person."""

    at: Point
    """Where the person was last, sides of the picture in proportion."""
    side: bool | None
    """The side on which the person last was for sure; True on the right of the way from start to end."""
    through: bool = False
    """Whether the last step over the line was between its ends."""


class LineWatch:
    """Notices "in" when somebody gets from the left of the way from ``start`` to ``end`` to its right, as seen in the
    picture, and "out" the other way; a line drawn from left to right is crossed "in" downwards. ``count`` is how many
    did so, this one included.

    Only the line between its ends counts. Somebody must be off the line by a hundredth of the picture on one side and
    then on the other, so who stands on it counts once at most.
    """

    def __init__(self, rule: LineRule) -> None:
        self._rule = rule
        self._walks: ById[_Walk] = ById()
        self._counts = {"in": 0, "out": 0}

    def look(self, seen: Seen) -> list[Notice]:
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
        """Which way this person has crossed the line with this frame, if at all."""
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
