"""Counts the people in a region."""

from runtime.service.config import RegionRule
from runtime.service.rules.places import Notice, Seen, is_inside

_HOLDS = 0.5
"""Seconds that a change must last."""


class RegionWatch:
    """Reports "entered" or "left" when the number of people in a region has changed for half a second. ``count`` is the
    new number. ``id`` is the person's if exactly one person moved."""

    def __init__(self, rule: RegionRule) -> None:
        self._rule = rule
        self._count = 0
        """The last reported number."""
        self._who: set[int] = set()
        """Ids of the people inside when that number was last seen."""
        self._since: float | None = None
        """Time since which the number has been continuously higher, or continuously lower."""
        self._least = 0
        """Smallest change since then, which is certain."""

    def evaluate(self, seen: Seen) -> list[Notice]:
        who = {person.id for person in seen.people if is_inside(self._rule.region, person.feet)}
        change = len(who) - self._count
        if change == 0:
            self._since, self._who = None, who
            return []
        if self._since is None or (change > 0) != (self._least > 0):
            self._since, self._least = seen.now, change
        self._least = min(self._least, change, key=abs)
        if seen.now - self._since < _HOLDS:
            return []
        what, moved = ("entered", who - self._who) if change > 0 else ("left", self._who - who)
        self._count += self._least
        self._since, self._who = None, who
        return [Notice(what, moved.pop() if len(moved) == 1 else None, self._count)]
