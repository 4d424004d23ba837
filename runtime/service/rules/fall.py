"""Detects falls: hips that stay below a line."""

from runtime.service.config import FallRule
from runtime.service.rules.places import ById, Notice, Period, Point, Seen

_GAP = 1.0
"""Seconds with the hips above the line or unseen that are ignored."""


class FallWatch:
    """Reports "fell" when a person's hips have been below the line for the rule's seconds, once until the person has
    been seen upright again. The line extends beyond its ends."""

    def __init__(self, rule: FallRule) -> None:
        self._rule = rule
        self._falls: ById[Period] = ById()

    def evaluate(self, seen: Seen) -> list[Notice]:
        self._falls.forget(seen.now)
        notices = []
        for person in seen.people:
            if person.hips is None:
                continue
            fall = self._falls[person.id]
            gap = fall is not None and seen.now - fall.last > _GAP
            if not self._is_below(person.hips):
                if gap:
                    self._falls.drop(person.id)
                continue
            if fall is None or (gap and not fall.reported):
                fall = Period(seen.now, seen.now)
            self._falls.keep(person.id, fall, seen.now)
            if fall.extend(seen.now, self._rule.seconds):
                notices.append(Notice("fell", person.id))
        return notices

    def _is_below(self, hips: Point) -> bool:
        (x1, y1), (x2, y2) = self._rule.start, self._rule.end
        return hips[1] > y1 + (hips[0] - x1) / (x2 - x1) * (y2 - y1)
