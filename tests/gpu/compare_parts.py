"""Whether two runs of one video found the same: each keypoint in one file of lines, and the nearest of its joint and
frame in the other.

    python compare_parts.py CPU.jsonl GPU.jsonl [fp32|fp16]

fp32 (unless told): all keypoints from a score of 0.3 on are found again, within 1 pixel and 0.02 of score. fp16: 99.5 %
of them within 5 pixels, since a memory that was rounded differently sees a few differently. Exit code 1 where not.
Needs nothing but Python.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

SURE = 0.3
"""Lines hold keypoints from a lower score on, so that one at the bound is there in the other file, too."""
NEAR, PIXELS, SCORE = 5.0, 1.0, 0.02
SHARE = {"fp32": 1.0, "fp16": 0.995}
PEOPLE = {"fp32": 0.01, "fp16": 0.05}
"""By which share the numbers of people may differ: some are at the threshold."""

Lines = list[dict[str, Any]]


class Match(NamedTuple):
    """A keypoint found again: how far away, and with how different a score."""

    distance: float
    score: float


def match(ours: Lines, theirs: Lines) -> tuple[list[Match], int]:
    """Keypoints of either side that are within NEAR on the other, and how many are not."""
    found, missing = [], 0
    for line, other in [*zip(ours, theirs, strict=True), *zip(theirs, ours, strict=True)]:
        for joint, points in line["keypoints"].items():
            for x, y, score in (point for point in points if point[2] >= SURE):
                others = other["keypoints"][joint]
                matches = [Match(math.hypot(x - a, y - b), abs(score - c)) for a, b, c in others]
                nearest = min(matches, default=Match(NEAR + 1, 1))
                if nearest.distance <= NEAR:
                    found.append(nearest)
                else:
                    missing += 1
    return found, missing


def main(ours: str, theirs: str, precision: str = "fp32") -> int:
    """Say what was found again. Returns the exit code."""
    files = Path(ours), Path(theirs)
    for file in files:
        if not file.is_file():
            print(f"{file} is not there: see what the run said that writes it")
            return 2
    a, b = ([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files)
    if len(a) != len(b):
        print(f"{len(a)} and {len(b)} frames")
        return 1
    found, missing = match(a, b)
    if not found and not missing:
        print(f"{len(a)} frames, no keypoint in either: that says nothing of the network")
        return 1
    share = len(found) / (len(found) + missing)
    distance, score = (max(column, default=0) for column in zip(*found, strict=True)) if found else (0, 0)
    print(f"{len(a)} frames, {len(found)} keypoints found again, {missing} not ({share:.2%})")
    print(f"largest distance {distance:.3f} px, largest difference of scores {score:.5f}")
    people = [[person["id"] for line in side for person in line["people"]] for side in (a, b)]
    print("people: " + ", ".join(f"{len(ids)} with {len({*ids} - {None})} ids" for ids in people))
    mine, other = (len(ids) for ids in people)
    missed = abs(mine - other) > PEOPLE[precision] * max(mine, other)
    return int(missed or share < SHARE[precision] or (precision == "fp32" and (distance > PIXELS or score > SCORE)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
