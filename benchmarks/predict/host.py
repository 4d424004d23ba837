"""Times the host's work for a frame on one core: letterbox, people and parts. ``bench predict`` scales it to a board.

    OMP_NUM_THREADS=1 python -m benchmarks.predict.host [MODEL]    # times of this machine, in milliseconds

The steps are interleaved with the yardstick of the soak test, a fixed workload. A step's time relative to the yardstick
is much the same on any core, and the yardstick's time on a reference core is known (REFERENCE_MS). So the times can be
scaled to the reference core, whatever machine measured them and however busy it was. From there, published ratings of
both cores give the times of a board.
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
"""The yardstick's median time on an idle core of an AMD EPYC (Zen 4), with OpenCV 5.0."""
REFERENCE_MIPS = 4270
"""Rating of the same core by `7zz b -mmt1` (7-zip 26.02), per processor time. Ratings of boards: devices.json."""
SOURCES = ((1920, 1080), (3840, 2160))
"""Sizes of the camera's frames (width, height) in pixels."""
ROUNDS, WARM_UP = 40, 5
"""Timed rounds and warm-up rounds; a round runs every step once."""


@dataclass(frozen=True)
class HostWork:
    """Median processor times on one core, in milliseconds."""

    yardstick: float
    letterbox: dict[tuple[int, int], float]
    """By size of the frames."""
    people: dict[int, float]
    """Grouping keypoints into people with ids, by number of people."""
    parts: dict[int, float]
    """Assembling the result, by number of people."""

    @property
    def to_reference(self) -> float:
        """Factor from these times to those of the reference core."""
        return REFERENCE_MS / self.yardstick


def measure(info: BundleInfo, rounds: int = ROUNDS) -> HostWork:
    """Time a session's work on the host, everything but the graphs. OpenCV runs on one thread meanwhile.

    The people are those of benchmarks.grouping: they stand in rows, with all joints found; 30 people fill all peaks.
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
    """Processor times [rounds] in milliseconds, without other processes, by name and size of each step."""
    times: dict[tuple[str, Any], list[float]] = defaultdict(list)

    def timed(step: str, size: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        started = thread_time()
        result = work(*arguments)
        times[step, size].append((thread_time() - started) * 1e3)
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
        for people, (identities, frames_of_people) in crowds.items():
            detections = next(frames_of_people)
            grouped = timed("people", people, identities.update, detections, 0)
            arguments = COCO17, info.size, detections.peaks, detections.edge_scores, grouped, *thresholds
            timed("parts", people, assemble_parts, *arguments)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the host's work for a frame on one core of this machine.")
    parser.add_argument("model", nargs="?", default="edge", help="shipped model or folder of a bundle")
    work = measure(Bundle.open(parser.parse_args().model).info)
    for (width, height), milliseconds in work.letterbox.items():
        print(f"letterbox of {width}x{height}: {milliseconds:.2f} ms")
    for people, milliseconds in work.people.items():
        print(f"{people} people: grouping {milliseconds:.2f} ms, parts {work.parts[people]:.2f} ms")
    print(f"yardstick: {work.yardstick:.2f} ms, {REFERENCE_MS:.2f} ms on the reference core")


if __name__ == "__main__":
    main()
