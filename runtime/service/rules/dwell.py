"""Detects people who stay in a region for long."""

from runtime.service.config import DwellRule
from runtime.service.rules.places import ById, Notice, Period, Seen, is_inside

_ABSENCE = 2.0
"""Seconds outside or unseen that do not end a stay."""


class DwellWatch:
    """Reports "stayed" once for each stay."""

    def __init__(self, rule: DwellRule) -> None:
        self._rule = rule
        self._stays: ById[Period] = ById()

    def evaluate(self, seen: Seen) -> list[Notice]:
        self._stays.forget(seen.now)
        notices = []
        for person in seen.people:
            if not is_inside(self._rule.region, person.feet):
                continue
            stay = self._stays[person.id]
            if stay is None or seen.now - stay.last > _ABSENCE:
                stay = Period(seen.now, seen.now)
            self._stays.keep(person.id, stay, seen.now)
            if stay.extend(seen.now, self._rule.seconds):
                notices.append(Notice("stayed", person.id))
        return notices
