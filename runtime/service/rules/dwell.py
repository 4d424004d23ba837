"""Who stays in a region for long."""

from dataclasses import dataclass

from runtime.service.config import DwellRule
from runtime.service.rules.places import ById, Notice, Seen, is_inside

_ABSENCE = 2.0
"""Seconds of being outside, or unseen, that do not end a stay."""


@dataclass
class _Stay:
    """Of a person."""

    since: float
    last: float
    told: bool = False


class DwellWatch:
    """Notices "stayed" once for each stay."""

    def __init__(self, rule: DwellRule) -> None:
        self._rule = rule
        self._stays: ById[_Stay] = ById()

    def look(self, seen: Seen) -> list[Notice]:
        self._stays.forget(seen.now)
        notices = []
        for person in seen.people:
            if not is_inside(self._rule.region, person.feet):
                continue
            stay = self._stays[person.id]
            if stay is None or seen.now - stay.last > _ABSENCE:
                stay = _Stay(seen.now, seen.now)
            stay.last = seen.now
            self._stays.keep(person.id, stay, seen.now)
            if not stay.told and seen.now - stay.since >= self._rule.seconds:
                stay.told = True
                notices.append(Notice("stayed", person.id))
        return notices
