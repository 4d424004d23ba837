"""Compares two runs of one video: matches each keypoint of a file with the nearest one of its joint in the other file.

    python compare_parts.py CPU.jsonl GPU.jsonl [fp32|fp16]

fp32 (default): all keypoints with a score of 0.3 or more must have a match in the same frame within 1 pixel and 0.02 of
score. fp16: 99.5% of them within 5 pixels, because a memory with other rounding gives a few other keypoints. Otherwise
exit code 1. Needs only Python.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

MIN_SCORE = 0.3
"""Lowest score of keypoints that need a match; near the files' own threshold, one side may lack a keypoint."""
NEAR, PIXELS, SCORE = 5.0, 1.0, 0.02
SHARE = {"fp32": 1.0, "fp16": 0.995}
PEOPLE = {"fp32": 0.01, "fp16": 0.05}
"""Share by which the numbers of people may differ, because some are at the threshold."""

Lines = list[dict[str, Any]]


class Match(NamedTuple):
    """A matched keypoint: distance and difference in score."""

    distance: float
    score: float


def match(ours: Lines, theirs: Lines) -> tuple[list[Match], int]:
    """Return keypoints of either side with a match within NEAR on the other, and the number of those without."""
    found, missing = [], 0
    for line, other in [*zip(ours, theirs, strict=True), *zip(theirs, ours, strict=True)]:
        for joint, points in line["keypoints"].items():
            for x, y, score in (point for point in points if point[2] >= MIN_SCORE):
                others = other["keypoints"][joint]
                matches = [Match(math.hypot(x - a, y - b), abs(score - c)) for a, b, c in others]
                nearest = min(matches, default=Match(NEAR + 1, 1))
                if nearest.distance <= NEAR:
                    found.append(nearest)
                else:
                    missing += 1
    return found, missing


def main(ours: str, theirs: str, precision: str = "fp32") -> int:
    """Print the result. Returns the exit code."""
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
