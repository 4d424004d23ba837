"""Rules: turn a camera's results into events."""

from typing import Protocol

from runtime.service.config import CameraConfig, DwellRule, LineRule, RegionRule, Rule
from runtime.service.results import Event, Result
from runtime.service.rules.dwell import DwellWatch
from runtime.service.rules.fall import FallWatch
from runtime.service.rules.line import LineWatch
from runtime.service.rules.places import Notice, Places, Seen
from runtime.service.rules.region import RegionWatch
from stm_skeletons.skeleton import Skeleton


class _Watch(Protocol):
    def evaluate(self, seen: Seen) -> list[Notice]: ...


class Rules:
    """The rules of one camera. Times are the frames' arrival times, by the monotonic clock."""

    def __init__(self, camera: CameraConfig, skeleton: Skeleton) -> None:
        self._places = Places(skeleton)
        self._watches = [(rule, _watch(rule)) for rule in camera.rules]

    def evaluate(self, result: Result) -> tuple[Event, ...]:
        """Return the events of this result; call once per result, in order. Ignores the result's own ``events``."""
        if not self._watches:
            return ()
        seen = self._places.evaluate(result.parts, result.frame.arrived or 0.0)
        return tuple(
            Event(result.camera, rule.name, rule.kind, result.time, notice.id, notice.what, notice.count)
            for rule, watch in self._watches
            for notice in watch.evaluate(seen)
        )


def _watch(rule: Rule) -> _Watch:
    if isinstance(rule, LineRule):
        return LineWatch(rule)
    if isinstance(rule, RegionRule):
        return RegionWatch(rule)
    return DwellWatch(rule) if isinstance(rule, DwellRule) else FallWatch(rule)
