"""Host time for grouping keypoints into people and assigning ids, compared with the time of a frame.

    python -m benchmarks.grouping [--model edge] [--frames 700]

5 and 30 simulated people stand in rows and sway, with every joint found; 30 people fill all peaks. Grouping and the
model's frames are timed interleaved, on one thread.
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
"""Standard deviation of a joint's random movement in a frame, in network pixels."""
# x and y as fractions of a person's box, left before right: nose, eyes, ears, shoulders, elbows, wrists, hips, knees,
# ankles.
_POSE = np.array(
    [
        *((0.5, 0.05), (0.55, 0.02), (0.45, 0.02), (0.6, 0.04), (0.4, 0.04), (0.7, 0.2), (0.3, 0.2), (0.8, 0.38)),
        *((0.2, 0.38), (0.85, 0.52), (0.15, 0.52), (0.63, 0.52), (0.37, 0.52), (0.65, 0.75), (0.35, 0.75)),
        *((0.65, 0.98), (0.35, 0.98)),
    ]
)


@dataclass(frozen=True)
class Times:
    """Times of N frames, in milliseconds."""

    frame: NDArray
    """[N]: the model's frames."""
    grouping: dict[int, NDArray]
    """[N] by number of people."""


def crowd(people: int, frames: int) -> Iterator[Detections]:
    """Simulated detections of a crowd in rows, frame by frame."""
    random = np.random.default_rng(people)
    column, row = np.arange(people) % COLUMNS, np.arange(people) // COLUMNS
    corners = np.stack([column * SIZE[0] / COLUMNS, row * SIZE[1] / 3], axis=-1)
    poses = corners[:, None] + _POSE * [SIZE[0] / COLUMNS * 0.8, SIZE[1] / 3 * 0.9] + 2
    before = poses
    for _ in range(frames):
        now = poses + random.normal(0, SWAY, poses.shape)
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
    """Time the model and the grouping interleaved; the first tenth of the frames is warm-up."""
    identities = {people: Identities(COCO17) for people in PEOPLE}
    crowds = {people: crowd(people, frames) for people in PEOPLE}
    image = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    frame_ms: list[float] = []
    grouping_ms: dict[int, list[float]] = {people: [] for people in PEOPLE}
    with Session.open(model, BackendOptions(threads=1)) as session:
        for _ in range(frames):
            started = perf_counter()
            session.step(image)
            frame_ms.append((perf_counter() - started) * 1e3)
            for people in PEOPLE:
                detections = next(crowds[people])
                started = perf_counter()
                identities[people].update(detections, 0)
                grouping_ms[people].append((perf_counter() - started) * 1e3)
    first = frames // 10
    return Times(np.array(frame_ms[first:]), {people: np.array(times[first:]) for people, times in grouping_ms.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the grouping of keypoints into people with ids.")
    parser.add_argument("--model", default="edge", help="shipped model or folder of a bundle")
    parser.add_argument("--frames", type=int, default=700, help="frames to time, including a tenth for warm-up")
    arguments = parser.parse_args()
    times = measure(arguments.model, arguments.frames)
    frame = float(np.median(times.frame))
    print(f"frame: median {frame:.1f} ms")
    for people, grouping in times.grouping.items():
        median, p99 = np.percentile(grouping, [50, 99])
        shares = f"{median / frame:.1%} and {p99 / frame:.1%} of a frame"
        print(f"grouping {people} people: median {median:.2f} ms, p99 {p99:.2f} ms; {shares}")


if __name__ == "__main__":
    main()
