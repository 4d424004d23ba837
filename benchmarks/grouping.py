"""How long the host takes to tell who is who: association and identity, beside the frame that they belong to.

    python -m benchmarks.grouping [--model edge] [--frames 700]

5 and 30 people stand in rows, every joint of everybody found, and sway; with 30 all peaks are filled. Each frame is
timed beside a frame of the model, in turn, on one thread.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.detections import Detections
from stm_skeletons.identity import Identities
from stm_skeletons.skeleton import COCO17, Skeleton

PEOPLE = (5, 30)
COLUMNS = 10
SIZE = (448, 256)
PEAKS = CENTRES = 30
SWAY = 1.5
"""Network pixels that a joint moves in a frame, at random."""
# Across and down in shares of a person, left first: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
_POSE = np.array(
    [
        *((0.5, 0.05), (0.55, 0.02), (0.45, 0.02), (0.6, 0.04), (0.4, 0.04), (0.7, 0.2), (0.3, 0.2), (0.8, 0.38)),
        *((0.2, 0.38), (0.85, 0.52), (0.15, 0.52), (0.63, 0.52), (0.37, 0.52), (0.65, 0.75), (0.35, 0.75)),
        *((0.65, 0.98), (0.35, 0.98)),
    ]
)


@dataclass(frozen=True)
class Times:
    """Milliseconds [N] of frames."""

    frame: NDArray
    """Of the model."""
    grouping: dict[int, NDArray]
    """By the number of people."""


def crowd(people: int, frames: int) -> Iterator[Detections]:
    """Frames of so many people in rows."""
    random = np.random.default_rng(people)
    column, row = np.arange(people) % COLUMNS, np.arange(people) // COLUMNS
    corners = np.stack([column * SIZE[0] / COLUMNS, row * SIZE[1] / 3], axis=-1)
    places = corners[:, None] + _POSE * [SIZE[0] / COLUMNS * 0.8, SIZE[1] / 3 * 0.9] + 2
    before = places
    for _ in range(frames):
        now = places + random.normal(0, SWAY, places.shape)
        yield _detections(now, before, COCO17, random)
        before = now


def _detections(now: NDArray, before: NDArray, skeleton: Skeleton, random: np.random.Generator) -> Detections:
    people, joints, _ = now.shape
    peaks = np.zeros((joints, PEAKS, 3), np.float32)
    previous = np.zeros((1, joints, PEAKS, 2), np.float32)
    edges = np.zeros((len(skeleton.edges), PEAKS, PEAKS), np.float32)
    order = np.stack([random.permutation(people) for _ in range(joints)])
    peaks[:, :people, :2] = now[order, np.arange(joints)[:, None]]
    previous[0, :, :people] = before[order, np.arange(joints)[:, None]]
    peaks[:, :people, 2] = np.sort(random.uniform(0.2, 0.8, (joints, people)))[:, ::-1]
    for number, (first, second) in enumerate(skeleton.edges):
        edges[number, :people, :people] = 0.5 * (order[first][:, None] == order[second])
    centres = np.zeros((CENTRES, 3), np.float32)
    centre_joints = np.zeros((CENTRES, joints, 2), np.float32)
    centres[:people] = np.column_stack([now.mean(axis=1), np.full(people, 0.5)])
    centre_joints[:people] = now + random.normal(0, 2 * SWAY, now.shape)
    return Detections(peaks, edges, previous, centres, centre_joints)


def measure(model: str, frames: int) -> Times:
    """Time all in turn; the first tenth of the frames does not count."""
    identities = {people: Identities(COCO17) for people in PEOPLE}
    crowds = {people: crowd(people, frames) for people in PEOPLE}
    picture = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    frame_ms: list[float] = []
    grouping_ms: dict[int, list[float]] = {people: [] for people in PEOPLE}
    with Session.open(model, BackendOptions(threads=1)) as session:
        for _ in range(frames):
            started = perf_counter()
            session.step(picture)
            frame_ms.append((perf_counter() - started) * 1e3)
            for people in PEOPLE:
                found = next(crowds[people])
                started = perf_counter()
                identities[people].update(found, 0)
                grouping_ms[people].append((perf_counter() - started) * 1e3)
    first = frames // 10
    return Times(np.array(frame_ms[first:]), {people: np.array(times[first:]) for people, times in grouping_ms.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="How long it takes to tell who is who")
    parser.add_argument("--model", default="edge")
    parser.add_argument("--frames", type=int, default=700)
    arguments = parser.parse_args()
    times = measure(arguments.model, arguments.frames)
    frame = float(np.median(times.frame))
    print(f"a frame: median {frame:.1f} ms")
    for people, each in times.grouping.items():
        median, p99 = np.percentile(each, [50, 99])
        print(f"{people} people: median {median:.2f} ms, {median / frame:.1%} of a frame; p99 {p99:.2f} ms", end="")
        print(f", {p99 / frame:.1%}")


if __name__ == "__main__":
    main()
