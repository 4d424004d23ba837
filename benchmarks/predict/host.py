"""What the host does for a frame on one core: letterbox, people, parts. Measured here, and carried over to a board.

    OMP_NUM_THREADS=1 python -m benchmarks.predict.host [MODEL]    # milliseconds of the machine it runs on

Steps take turns with a fixed piece of work, the soak's. What a step takes of it is much the same on any core; what it
takes itself is known of the core that REFERENCE_MS was measured on. So figures hold for that core, whatever machine
they were made on and however busy that was; a board's are longer by what others have published of both cores.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from time import thread_time
from typing import Any

import cv2
import numpy as np

from benchmarks.grouping import PEOPLE, crowd
from benchmarks.run.yardstick import Yardstick
from stm_skeletons.bundle import Bundle, BundleInfo
from stm_skeletons.geometry import Letterbox
from stm_skeletons.identity import Identities
from stm_skeletons.parts import assemble_parts
from stm_skeletons.skeleton import COCO17

REFERENCE_MS = 1.55
"""The yardstick's median on a core of an AMD EPYC (Zen 4) that nobody else used, OpenCV 5.0."""
REFERENCE_MIPS = 4270
"""That core's rating by `7zz b -mmt1` (7-zip 26.02; for the processor time it got). Boards': devices.json."""
SOURCES = ((1920, 1080), (3840, 2160))
"""Frames, in pixels."""
ROUNDS, WARM_UP = 40, 5
"""Of everything in turn; those that do not count."""


@dataclass(frozen=True)
class HostWork:
    """Medians in milliseconds of processor time, on one core."""

    yardstick: float
    letterbox: dict[tuple[int, int], float]
    """By the size of the frames."""
    people: dict[int, float]
    """Who is who, by their number."""
    parts: dict[int, float]

    @property
    def to_reference(self) -> float:
        """What turns these milliseconds into the reference core's."""
        return REFERENCE_MS / self.yardstick


def measure(info: BundleInfo, rounds: int = ROUNDS) -> HostWork:
    """Time what a session does for a bundle besides its graphs, on this machine, OpenCV on one thread meanwhile.

    People are those of benchmarks.grouping: in rows, all joints found, all peaks filled where there are 30.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        times = _times(info, rounds + WARM_UP)
    finally:
        cv2.setNumThreads(threads)
    medians = {name: float(np.median(each[WARM_UP:])) for name, each in times.items()}
    return HostWork(
        medians["yardstick", 0],
        {size: medians["letterbox", size] for size in SOURCES},
        {people: medians["people", people] for people in PEOPLE},
        {people: medians["parts", people] for people in PEOPLE},
    )


def _times(info: BundleInfo, rounds: int) -> dict[tuple[str, Any], list[float]]:
    """Milliseconds [rounds] of the processor for each step, by its name and what it is about: others do not count."""
    times: dict[tuple[str, Any], list[float]] = defaultdict(list)

    def timed(step: str, about: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        started = thread_time()
        result = work(*arguments)
        times[step, about].append((thread_time() - started) * 1e3)
        return result

    yardstick = Yardstick()
    random = np.random.default_rng(0)
    frames = {(width, height): random.integers(0, 256, (height, width, 3), np.uint8) for width, height in SOURCES}
    network = np.zeros((info.height, info.width, 3), np.uint8)
    crowds = {people: (Identities(COCO17), crowd(people, rounds)) for people in PEOPLE}
    thresholds = info.keypoint_threshold, info.edge_threshold
    for _ in range(rounds):
        timed("yardstick", 0, yardstick.measure)
        for size, frame in frames.items():
            timed("letterbox", size, Letterbox(size, info.size).apply, frame, network)
        for people, (identities, coming) in crowds.items():
            found = next(coming)
            seen = timed("people", people, identities.update, found, 0)
            given = COCO17, info.size, found.peaks, found.edge_scores, seen, *thresholds
            timed("parts", people, assemble_parts, *given)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="What the host does for a frame, on one core of this machine")
    parser.add_argument("model", nargs="?", default="edge", help="a bundle's folder, or a shipped model's name")
    work = measure(Bundle.open(parser.parse_args().model).info)
    for (width, height), milliseconds in work.letterbox.items():
        print(f"letterbox of {width}x{height}: {milliseconds:.2f} ms")
    for people, milliseconds in work.people.items():
        print(f"{people} people: {milliseconds:.2f} ms; their parts: {work.parts[people]:.2f} ms")
    print(f"fixed piece of work: {work.yardstick:.2f} ms; on the reference core: {REFERENCE_MS:.2f} ms")


if __name__ == "__main__":
    main()
