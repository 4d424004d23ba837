"""Rules: movements that cause an event, and movements that must not."""

import itertools
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from people_at import SIZE, Joints, result
from pydantic import ValidationError

from runtime.service.config import CameraConfig, DwellRule, FallRule, LineRule, RegionRule
from runtime.service.results import Event
from runtime.service.rules import Rules
from runtime.service.rules.places import crosses_between, is_inside, side_of
from stm_skeletons.skeleton import COCO17

ACROSS = LineRule(kind="line", name="door", start=(0.0, 0.5), end=(1.0, 0.5))
"""From left to right: downwards is in."""
LEFT = RegionRule(kind="region", name="left", region=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
STAY = DwellRule(kind="dwell", name="stay", region=LEFT.region, seconds=3.0)
FALL = FallRule(kind="fall", name="fall", start=(0.0, 0.5), end=(1.0, 0.75), seconds=2.0)
coordinates = st.floats(0, 1, allow_subnormal=False)
points = st.tuples(coordinates, coordinates)


def rules(*of: LineRule | RegionRule | DwellRule | FallRule) -> Rules:
    return Rules(CameraConfig(name="door", source="0", rules=of), COCO17)


def ankles(x: float, y: float) -> Joints:
    """Return feet at a position in shares of the image."""
    return {"ankles": (x * SIZE[0], y * SIZE[1])}


def hips(x: float, y: float) -> Joints:
    return {"hips": (x * SIZE[0], y * SIZE[1])}


def events_of(watch: Rules, walk: list[dict[int, Joints]], step: float = 0.1, start: float = 100.0) -> list[Event]:
    """Return the events of people, given frame by frame."""
    return [event for i, people in enumerate(walk) for event in watch.evaluate(result(start + i * step, people))]


def summaries(events: list[Event]) -> list[tuple[str, int | None, int | None]]:
    return [(event.what, event.id, event.count) for event in events]


def test_line_counts_each_direction_and_reports_person_time_and_place():
    watch = rules(ACROSS)
    down = [{7: ankles(0.4, 0.4 + 0.02 * i)} for i in range(10)]
    events = events_of(watch, down + down[::-1] + down)
    assert summaries(events) == [("in", 7, 1), ("out", 7, 1), ("in", 7, 2)]
    assert [(event.camera, event.rule, event.kind) for event in events] == [("door", "door", "line")] * 3
    assert events[0].time == pytest.approx(1_700_000_100.6, abs=0.11)


def test_in_is_from_the_left_to_the_right_of_a_line():
    """A line drawn upwards has the left of the image on its left."""
    upwards = LineRule(kind="line", name="up", start=(0.5, 1.0), end=(0.5, 0.0))
    assert summaries(events_of(rules(upwards), [{1: ankles(0.3, 0.5)}, {1: ankles(0.7, 0.5)}])) == [("in", 1, 1)]
    assert summaries(events_of(rules(upwards), [{1: ankles(0.7, 0.5)}, {1: ankles(0.3, 0.5)}])) == [("out", 1, 1)]


def test_person_standing_on_a_line_is_counted_at_most_once():
    standing = [{1: ankles(0.4, 0.5 + 0.015 * math.sin(i))} for i in range(200)]  # 3 pixels; 1% is 4
    assert events_of(rules(ACROSS), standing) == []
    events = events_of(rules(ACROSS), [{1: ankles(0.4, 0.3)}, *standing, {1: ankles(0.4, 0.7)}])
    assert summaries(events) == [("in", 1, 1)]


def test_passing_beside_a_line_is_not_a_crossing():
    short = LineRule(kind="line", name="short", start=(0.4, 0.5), end=(0.6, 0.5))
    beside, over = [{1: ankles(0.7, y)} for y in (0.3, 0.7)], [{1: ankles(0.5, y)} for y in (0.3, 0.7)]
    assert events_of(rules(short), beside) == []
    assert len(events_of(rules(short), over)) == 1
    # Around the end: below the line without crossing it, then up through it.
    assert summaries(events_of(rules(short), [*beside, *over[::-1]])) == [("out", 1, 1)]


def test_people_without_id_cause_no_events():
    for watch in (rules(ACROSS), rules(LEFT), rules(STAY), rules(FALL)):
        assert events_of(watch, [{0: ankles(0.3, 0.3 + 0.005 * i) | hips(0.3, 0.9)} for i in range(100)]) == []


def test_hidden_feet_keep_their_position_below_the_hips():
    """The hips stay above the line; the feet stay below it even when hidden."""
    hidden = [{1: hips(0.3, 0.3) | (ankles(0.3, 0.6) if i % 3 else {})} for i in range(1, 30)]
    assert events_of(rules(ACROSS), hidden) == []


def test_hips_replace_missing_feet_and_the_box_replaces_both():
    assert len(events_of(rules(ACROSS), [{1: hips(0.3, 0.4)}, {1: hips(0.3, 0.6)}])) == 1
    nose = [{1: {"nose": (80.0, y), "left_eye": (60.0, 60.0)}} for y in (90.0, 110.0)]
    assert len(events_of(rules(ACROSS), nose)) == 1


def test_line_forgets_a_person_after_a_long_absence():
    watch = rules(ACROSS)
    assert events_of(watch, [{1: ankles(0.4, 0.3)}]) == []
    assert len(events_of(watch, [{1: ankles(0.4, 0.7)}], start=105)) == 1
    assert events_of(watch, [{}, {1: ankles(0.4, 0.3)}], step=1, start=120) == []


def test_region_reports_every_lasting_change():
    watch = rules(LEFT)
    both, one = {1: ankles(0.2, 0.5), 2: ankles(0.3, 0.5)}, {2: ankles(0.3, 0.5), 1: ankles(0.8, 0.5)}
    events = events_of(watch, [one] * 10 + [both] * 10 + [one] * 10 + [{}] * 10)
    assert summaries(events) == [("entered", 2, 1), ("entered", 1, 2), ("left", 1, 1), ("left", 2, 0)]
    assert [round(event.time - 1_700_000_100, 1) for event in events] == [0.5, 1.5, 2.5, 3.5]


def test_region_ignores_flickering_people():
    one, two, three = ({n: ankles(0.2, 0.5) for n in range(1, 1 + many)} for many in (1, 2, 3))
    events = events_of(rules(LEFT), [one] * 10 + [two, one] * 30)
    assert summaries(events) == [("entered", 1, 1)], "the second comes and goes"
    events = events_of(rules(LEFT), [two, three] * 30)
    assert summaries(events) == [("entered", None, 2)], "at least two are there"


def test_stay_is_reported_once_and_survives_a_short_absence():
    watch, there, away = rules(STAY), {1: ankles(0.2, 0.5)}, {1: ankles(0.9, 0.5)}
    events = events_of(watch, [there] * 15 + [{}] * 9 + [away] * 9 + [there] * 40)
    assert summaries(events) == [("stayed", 1, None)]
    assert events[0].time == pytest.approx(1_700_000_103.3, abs=0.35), "the absence counts as presence"
    assert events_of(rules(STAY), ([there] * 15 + [{}] * 25) * 3) == [], "each stay starts from zero"
    assert len(events_of(rules(STAY), ([there] * 40 + [away] * 25) * 3)) == 3


def test_fall_is_reported_once_until_the_person_is_up_again():
    up, down = {1: hips(0.5, 0.5)}, {1: hips(0.5, 0.7)}
    assert summaries(events_of(rules(FALL), [up] * 5 + [down] * 60)) == [("fell", 1, None)]
    assert len(events_of(rules(FALL), ([up] * 20 + [down] * 40) * 3)) == 3
    assert events_of(rules(FALL), ([up] * 20 + [down] * 15) * 3) == [], "sat down for a moment"
    assert len(events_of(rules(FALL), [down] * 10 + [{}] * 8 + [down] * 10)) == 1, "a short gap"
    assert len(events_of(rules(FALL), [down] * 40 + [{}] * 50 + [down] * 40)) == 1, "has not been seen up"


def test_fall_line_extends_beyond_its_ends():
    slanted = FallRule(kind="fall", name="fall", start=(0.6, 0.6), end=(0.4, 0.4), seconds=1.0)
    assert len(events_of(rules(slanted), [{1: hips(0.1, 0.2)}] * 20)) == 1
    assert events_of(rules(slanted), [{1: hips(0.9, 0.8)}] * 20) == []


def test_people_who_left_are_forgotten():
    watch = rules(ACROSS, LEFT, STAY, FALL)
    for person_id in range(1, 500):
        watch.evaluate(result(100 + person_id, {person_id: ankles(0.2, 0.9) | hips(0.2, 0.8)}))
    stores = [watch._places._ways, *(vars(each).get(name) for _, each in watch._watches for name in vars(each))]
    assert max(len(each) for each in stores if hasattr(each, "forget")) <= 12
    assert any(hasattr(each, "forget") for each in stores)


@pytest.mark.parametrize("end", [(0.3, 0.9), (0.305, 0.1)])
def test_vertical_fall_line_is_refused(end: tuple[float, float]):
    with pytest.raises(ValidationError, match="vertical line"):
        FallRule(kind="fall", name="fall", start=(0.3, 0.1), end=end)


@given(points, points, points, points)
def test_crossing_requires_each_segment_to_separate_the_others_ends(start, end, before, after):
    assume(math.dist(start, end) > 0.01)
    a, b = side_of(start, end, before), side_of(start, end, after)
    assume(a * b < 0)
    assume(math.dist(before, after) > 0.01)
    c, d = side_of(before, after, start), side_of(before, after, end)
    assume(min(abs(c), abs(d)) > 1e-9)
    assert crosses_between(start, end, before, after) == (c * d < 0)
    assert crosses_between(end, start, after, before) == crosses_between(start, end, before, after)


@given(points, points, points)
def test_reversed_line_has_opposite_sides(start, end, point):
    assume(math.dist(start, end) > 0.01)
    assert side_of(start, end, point) == pytest.approx(-side_of(end, start, point), abs=1e-9)
    assert abs(side_of(start, end, point)) <= math.dist(start, point) + 1e-9


@given(st.lists(points, min_size=3, max_size=12), points, st.integers(0, 11))
def test_region_does_not_depend_on_its_first_corner(region, point, offset):
    rotated = region[offset % len(region) :] + region[: offset % len(region)]
    assert is_inside(region, point) == is_inside(rotated, point)
    assert not is_inside(region, (1.5, point[1]))


@given(st.lists(coordinates, min_size=3, max_size=12, unique=True), points)
def test_convex_region_contains_points_inside_all_its_edges(turns, point):
    corners = [(0.5 + 0.4 * math.cos(math.tau * t), 0.5 + 0.4 * math.sin(math.tau * t)) for t in sorted(turns)]
    assume(all(math.dist(a, b) > 0.01 for a, b in zip(corners, corners[1:] + corners[:1], strict=True)))
    sides = [side_of(a, b, point) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    assume(min(map(abs, sides)) > 1e-6)
    assert is_inside(corners, point) == all(side > 0 for side in sides)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_in_and_out_alternate_for_every_walk(heights):
    events = events_of(rules(ACROSS), [{1: ankles(0.5, y)} for y in heights])
    directions = [event.what for event in events]
    assert all(a != b for a, b in itertools.pairwise(directions))
    far = [y for y in heights if abs(y - 0.5) * SIZE[1] / SIZE[0] >= 0.0101]
    if far and far[0] < 0.5 and all(abs(abs(y - 0.5) * SIZE[1] / SIZE[0] - 0.01) > 1e-4 for y in heights):
        assert directions.count("in") - directions.count("out") == (far[-1] > 0.5)
