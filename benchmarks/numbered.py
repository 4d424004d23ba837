"""Ids held against people numbered by eye: how often somebody's number changes.

    python -m benchmarks.numbered vtest.avi [--model edge] [--truth tests/data/vtest_people.json]

The truth gives boxes of every person at key frames, boxes in between are interpolated. In each frame the people that
are reported are matched with the boxes, one to one, whoever was matched before first (as MOTA does). A switch is a
person whose id is another than when last matched. One who left the picture and came back has a right to a new number:
such returns are counted apart.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from runtime.session import Session
from runtime.sources import open_source
from stm_skeletons.assignment import best_assignment
from stm_skeletons.people import People

TRUTH = Path(__file__).parents[1] / "tests" / "data" / "vtest_people.json"
NEAR = 0.5
"""Largest distance between the middles of a box and of a person's joints, in heights of the box."""


class Person(BaseModel):
    """One person of the truth."""

    id: int
    boxes: dict[int, tuple[float, float, float, float]]
    """Left, top, width and height at key frames, in pixels of the frame."""
    hidden: list[tuple[int, int]] = []
    """First and last of frames in which hardly anything is seen of the person: not counted as missed."""
    absent: list[tuple[int, int]] = []
    """First and last of frames between two visits."""

    def box(self, frame: int) -> NDArray | None:
        """[4] interpolated; None where the person is not in the picture."""
        keys = sorted(self.boxes)
        if not keys[0] <= frame <= keys[-1] or _within(frame, self.absent):
            return None
        boxes = np.array([self.boxes[key] for key in keys])
        return np.array([np.interp(frame, keys, side) for side in boxes.T])

    def is_hidden(self, frame: int) -> bool:
        """Whether hardly anything is seen of the person."""
        return _within(frame, self.hidden)

    def visit(self, frame: int) -> int:
        """Number of the visit to the picture, from 0."""
        return sum(last < frame for _, last in self.absent)


class Truth(BaseModel):
    """Everybody in a video."""

    frames: int
    people: list[Person]


def _within(frame: int, ranges: list[tuple[int, int]]) -> bool:
    return any(first <= frame <= last for first, last in ranges)


@dataclass
class Count:
    """What became of the numbers."""

    truth: Truth
    frames: int = 0
    person_frames: int = 0
    """Of people who are seen."""
    matched: int = 0
    """Of these, with a person reported there."""
    reported: int = 0
    strangers: int = 0
    """Reported where nobody is."""
    switches: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Frame, person, id before, id now."""
    returns: list[tuple[int, int, int, int]] = field(default_factory=list)
    """The same for those who left the picture and came back."""
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Id and visit of each person when last matched with one who had an id."""

    def add(self, frame: int, people: People) -> None:
        """Count a frame's people, coordinates in pixels of the frame."""
        there = [(person, box) for person in self.truth.people if (box := person.box(frame)) is not None]
        seen = [not person.is_hidden(frame) for person, _ in there]
        likeness = self._likeness([box for _, box in there], people)
        for row, (person, _) in enumerate(there):
            if person.id in self._last:  # as MOTA does: who was matched before is kept while near enough
                likeness[row] += (likeness[row] > 0) & (people.ids == self._last[person.id][0])
        chosen = best_assignment(likeness[None])[0].tolist()
        self.frames += 1
        self.person_frames += sum(seen)
        self.matched += sum(visible and number >= 0 for visible, number in zip(seen, chosen, strict=True))
        self.reported += len(people)
        self.strangers += len(people) - sum(number >= 0 for number in chosen)
        for (person, _), number in zip(there, chosen, strict=True):
            if number >= 0 and people.ids[number]:
                self._note(frame, person, int(people.ids[number]))

    @staticmethod
    def _likeness(boxes: list[NDArray], people: People) -> NDArray:
        """[boxes, people] in [0, 1], 0 where they are too far apart."""
        theirs = people.boxes().astype(float)
        ours = np.array(boxes).reshape(-1, 4)
        middles = ours[:, None, :2] + ours[:, None, 2:] / 2 - theirs[:, :2] - theirs[:, 2:] / 2
        return np.maximum(0, 1 - np.linalg.norm(middles, axis=-1) / (NEAR * ours[:, None, 3]))

    def _note(self, frame: int, person: Person, number: int) -> None:
        before, visit = self._last.get(person.id, (number, 0))
        if number != before:
            kind = self.switches if person.visit(frame) == visit else self.returns
            kind.append((frame, person.id, before, number))
        self._last[person.id] = number, person.visit(frame)


def count_switches(model: str, video: str, truth: Truth) -> Count:
    """Run a model through a video's numbered frames."""
    count, source = Count(truth), open_source(video)
    with Session.open(model) as session:
        for frame in source:
            if frame.number == truth.frames:
                break
            count.add(frame.number, session.step(frame.image).people)
    source.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description="Ids held against people numbered by eye")
    parser.add_argument("video")
    parser.add_argument("--model", default="edge")
    parser.add_argument("--truth", type=Path, default=TRUTH)
    arguments = parser.parse_args()
    truth = Truth.model_validate(json.loads(arguments.truth.read_text(encoding="utf-8")))
    count = count_switches(arguments.model, arguments.video, truth)
    print(f"{count.frames} frames, {len(truth.people)} people, in view {count.person_frames} times")
    print(
        f"found {count.matched / count.person_frames:.1%}; {count.reported} reported, {count.strangers} of them nobody"
    )
    for name, found in (("switches", count.switches), ("new numbers on return", count.returns)):
        told = ", ".join(f"frame {frame}: person {one}, {old} -> {new}" for frame, one, old, new in found)
        print(f"{len(found)} {name}{': ' if told else ''}{told}")


if __name__ == "__main__":
    main()
