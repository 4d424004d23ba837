"""How many people are in a region."""

from runtime.service.config import RegionRule
from runtime.service.rules.places import Notice, Seen, is_inside

_HOLDS = 0.5
"""Seconds that a change must last."""


class RegionWatch:
    """Notices "entered" or "left" whenever the number of people in a region has changed for half a second; ``count`` is
    how many are in it now. ``id`` tells who it was where that was one person."""

    def __init__(self, rule: RegionRule) -> None:
        self._rule = rule
        self._count = 0
        """As it was last told."""
        self._who: set[int] = set()
        """Who was in it when that many last were."""
        self._since: float | None = None
        """When there were first more, or fewer, than that; without a break since."""
        self._least = 0
        """The smallest change since then: so much is sure."""

    def look(self, seen: Seen) -> list[Notice]:
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
