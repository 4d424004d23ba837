"""A video with 1, 10 and 30 people in turn, cut from labelled images: does the time of a frame depend on their number?

python -m benchmarks.crowd --coco COCO --out crowd.avi && stm-skeletons bench crowd.avi

All else stays as it is: the picture's size, the background, the way that everybody jitters.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from stm_skeletons.files import atomic_write

COUNTS = (1, 10, 30)
BLOCK, BLOCKS = 30, 12
"""Frames with one number of people, and how often the numbers take turns."""
WIDTH, HEIGHT = 1280, 720
COLUMNS, ROWS = 10, 3
FEWEST_JOINTS = 12
FPS = 25.0
JITTER = 3
"""Pixels, by which everybody is moved at random in each frame."""


def cut_people(coco: Path, count: int) -> list[NDArray[np.uint8]]:
    """Pictures of the largest upright people with most joints labelled, scaled to a place of the grid.

    Raises DataError when there are fewer.
    """
    annotations = json.loads(next(coco.glob("*.json")).read_text())
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    people = [one for one in annotations["annotations"] if one.get("num_keypoints", 0) >= FEWEST_JOINTS]
    people = [one for one in people if one["bbox"][3] > 1.3 * one["bbox"][2]]
    people.sort(key=lambda one: -one["bbox"][3])
    found = []
    for one in people[:count]:
        image = cv2.imread(str(coco / "images" / Path(files[one["image_id"]]).name))
        x, y, width, height = map(int, one["bbox"])
        if image is not None:
            found.append(_fit(np.asarray(image[y : y + height, x : x + width], np.uint8)))
    if not found:
        raise DataError(f"{coco} has nobody upright with {FEWEST_JOINTS} labelled joints")
    return [found[place % len(found)] for place in range(count)]


def _fit(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width, height = WIDTH // COLUMNS - 4 * JITTER, HEIGHT // ROWS - 4 * JITTER
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def draw(people: list[NDArray[np.uint8]], random: np.random.Generator) -> NDArray[np.uint8]:
    """A frame with these people on a grid, spread evenly over it."""
    frame = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    places = np.linspace(0, COLUMNS * ROWS - 1, len(people)).round().astype(int)
    for place, picture in zip(places.tolist(), people, strict=True):
        row, column = divmod(place, COLUMNS)
        height, width = picture.shape[:2]
        dx, dy = random.integers(-JITTER, JITTER + 1, 2)
        left = column * WIDTH // COLUMNS + (WIDTH // COLUMNS - width) // 2 + dx
        top = row * HEIGHT // ROWS + (HEIGHT // ROWS - height) // 2 + dy
        frame[top : top + height, left : left + width] = picture
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description="A video with 1, 10 and 30 people in turn")
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help=".avi")
    arguments = parser.parse_args()
    people = cut_people(arguments.coco, max(COUNTS))
    random = np.random.default_rng(0)
    with atomic_write(arguments.out) as partial:
        writer = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
        for number in range(len(COUNTS) * BLOCK * BLOCKS):
            writer.write(draw(people[: COUNTS[number // BLOCK % len(COUNTS)]], random))
        writer.release()
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
