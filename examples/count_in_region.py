"""Counts the people who stand in a region of the image, and says when the count changes.

python examples/count_in_region.py [SOURCE] [--region X,Y X,Y X,Y ...]

The region's corners are shares of the image's width and height. The service does the same with less code:
docs/service.md, rule "region".
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from runtime import Session
from runtime.sources import open_source
from stm_skeletons.errors import StmError
from stm_skeletons.parts import Parts

LOWER_HALF = ["0,0.5", "1,0.5", "1,1", "0,1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="examples/vtest-10s.avi")
    parser.add_argument("--region", nargs="+", metavar="X,Y", default=LOWER_HALF)
    arguments = parser.parse_args()
    region = np.array([corner.split(",") for corner in arguments.region], np.float32)
    last = None
    with closing(open_source(arguments.source)) as source, Session.open("edge") as session:
        for frame in source:
            if frame.resets_memory:
                session.reset()
            parts = session.step(frame.image)
            inside = people_inside(parts, region * np.array(parts.size, np.float32))
            if len(inside) != last:
                print(f"{frame.time:7.2f} s: {len(inside)} in the region, ids {sorted(inside)}", flush=True)
                last = len(inside)


def people_inside(parts: Parts, region: np.ndarray) -> list[int]:
    """Ids of the people who stand in ``region`` (pixels [n, 2]): the middle of the lower side of their box is in it."""
    left, top, width, height = parts.people.boxes().T
    feet = np.stack([left + width / 2, top + height], axis=1)
    ids = parts.people.ids.tolist()
    return [
        number
        for number, point in zip(ids, feet.tolist(), strict=True)
        if number and cv2.pointPolygonTest(region, point, False) >= 0  # 0: no id until a second frame confirms a person
    ]


if __name__ == "__main__":
    try:
        main()
    except StmError as error:  # bad input: one line
        sys.exit(f"{Path(__file__).name}: {error}")
