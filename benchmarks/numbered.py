"""Counts how often people's ids change, compared with hand-labelled ids.

    python -m benchmarks.numbered vtest.avi [--model edge] [--ids bytetrack] [--truth tests/data/vtest_people.json]

The ground truth has boxes of every person at key frames; boxes in between are interpolated. In each frame, reported
people are matched one to one with the boxes; as in MOTA, the id of a person's last match has priority. A switch is a
person whose id differs from that of the last match. People who left the image and came back may get a new id: these
returns are counted separately.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from benchmarks.scenes.methods import ByteTrack, IdAssignment, NearestBox
from runtime.session import Session
from runtime.sources import open_source
from stm_skeletons.assignment import best_assignment
from stm_skeletons.people import People

TRUTH = Path(__file__).parents[1] / "tests" / "data" / "vtest_people.json"
IDS: dict[str, Callable[[], IdAssignment] | None] = {"ours": None, "bytetrack": ByteTrack, "nearest": NearestBox}
"""Who assigns the ids to the reported people: the session, or a peer by their boxes."""
MAX_DISTANCE = 0.5
"""Largest distance between the centres of a labelled box and of the box around a reported person, in box heights."""


class Person(BaseModel):
    """A person of the ground truth."""

    id: int
    boxes: dict[int, tuple[float, float, float, float]]
    """Left, top, width and height at key frames, in pixels of the frame."""
    hidden: list[tuple[int, int]] = []
    """Ranges of frames (first, last) in which the person is hardly visible; not counted as missed."""
    absent: list[tuple[int, int]] = []
    """Ranges of frames (first, last) between two visits."""

    def box(self, frame: int) -> NDArray | None:
        """[4]: interpolated box; None when the person is not in the image."""
        keys = sorted(self.boxes)
        if not keys[0] <= frame <= keys[-1] or _within(frame, self.absent):
            return None
        boxes = np.array([self.boxes[key] for key in keys])
        return np.array([np.interp(frame, keys, side) for side in boxes.T])

    def is_hidden(self, frame: int) -> bool:
        """Whether the person is hardly visible in this frame."""
        return _within(frame, self.hidden)

    def visit(self, frame: int) -> int:
        """Number of the person's visit, counted from 0."""
        return sum(last < frame for _, last in self.absent)


class Truth(BaseModel):
    """All people of a video."""

    frames: int
    people: list[Person]


def _within(frame: int, ranges: list[tuple[int, int]]) -> bool:
    return any(first <= frame <= last for first, last in ranges)


@dataclass
class IdCounts:
    """Counts of matches and id switches over the frames of a video."""

    truth: Truth
    frames: int = 0
    person_frames: int = 0
    """Visible people, summed over the frames."""
    matched: int = 0
    """Those of ``person_frames`` that match a reported person."""
    reported: int = 0
    false_positives: int = 0
    """Reported people that match no box."""
    switches: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Frame, person, id before, id now."""
    returns: list[tuple[int, int, int, int]] = field(default_factory=list)
    """The same for people who left the image and came back."""
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Id and visit at each person's last match with a reported person that had an id."""

    def add(self, frame: int, people: People) -> None:
        """Count a frame's people, whose coordinates are in pixels of the frame."""
        present = [(person, box) for person in self.truth.people if (box := person.box(frame)) is not None]
        visible = [not person.is_hidden(frame) for person, _ in present]
        similarity = self._similarity([box for _, box in present], people)
        for row, (person, _) in enumerate(present):
            if person.id in self._last:  # as in MOTA, the id of the last match has priority while it is near enough
                similarity[row] += (similarity[row] > 0) & (people.ids == self._last[person.id][0])
        matches = best_assignment(similarity[None])[0].tolist()
        self.frames += 1
        self.person_frames += sum(visible)
        self.matched += sum(is_visible and match >= 0 for is_visible, match in zip(visible, matches, strict=True))
        self.reported += len(people)
        self.false_positives += len(people) - sum(match >= 0 for match in matches)
        for (person, _), match in zip(present, matches, strict=True):
            if match >= 0 and people.ids[match]:
                self._record_id(frame, person, int(people.ids[match]))

    @staticmethod
    def _similarity(boxes: list[NDArray], people: People) -> NDArray:
        """[boxes, people] in [0, 1]; 0 when they are too far apart."""
        reported = people.boxes().astype(float)
        labelled = np.array(boxes).reshape(-1, 4)
        offsets = labelled[:, None, :2] + labelled[:, None, 2:] / 2 - reported[:, :2] - reported[:, 2:] / 2
        return np.maximum(0, 1 - np.linalg.norm(offsets, axis=-1) / (MAX_DISTANCE * labelled[:, None, 3]))

    def _record_id(self, frame: int, person: Person, number: int) -> None:
        before, visit = self._last.get(person.id, (number, 0))
        if number != before:
            changes = self.switches if person.visit(frame) == visit else self.returns
            changes.append((frame, person.id, before, number))
        self._last[person.id] = number, person.visit(frame)


def count_switches(model: str, video: str, truth: Truth, ids: str = "ours") -> IdCounts:
    """Run a model on the labelled frames of a video and count id switches; ``ids``: a key of IDS."""
    count, source, peer = IdCounts(truth), open_source(video), IDS[ids]
    assignment = None if peer is None else peer()
    with Session.open(model) as session:
        for frame in source:
            if frame.number == truth.frames:
                break
            people = session.step(frame.image).people
            if assignment is not None:
                people = assignment.update(people, np.empty(0, np.float32))
            count.add(frame.number, people)
    source.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description="Count id switches, compared with hand-labelled ids.")
    parser.add_argument("video", help="the video that the ground truth labels")
    parser.add_argument("--model", default="edge", help="shipped model or folder of a bundle")
    parser.add_argument("--ids", choices=IDS, default="ours", help="bytetrack needs the package trackers")
    parser.add_argument("--truth", type=Path, default=TRUTH, help="JSON file with the labelled boxes")
    arguments = parser.parse_args()
    if arguments.ids == "bytetrack" and find_spec("trackers") is None:
        parser.error("--ids bytetrack needs roboflow's package 'trackers'; pip install trackers")
    truth = Truth.model_validate(json.loads(arguments.truth.read_text(encoding="utf-8")))
    count = count_switches(arguments.model, arguments.video, truth, arguments.ids)
    print(f"{count.frames} frames, {len(truth.people)} people, {count.person_frames} visible person-frames")
    print(
        f"found {count.matched / count.person_frames:.1%}; "
        f"{count.reported} reported, {count.false_positives} of them false positives"
    )
    for name, changes in (("id switches", count.switches), ("new ids after a return", count.returns)):
        details = ", ".join(f"frame {frame}: person {person}, {old} -> {new}" for frame, person, old, new in changes)
        print(f"{len(changes)} {name}{': ' if details else ''}{details}")


if __name__ == "__main__":
    main()
