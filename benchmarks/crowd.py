"""A video that alternates between 1, 10 and 30 people, to measure how the time of a frame depends on their number.

python -m benchmarks.crowd --coco COCO --out crowd.avi && stm-skeletons bench crowd.avi

The people are cut from labelled images. Frame size, background and jitter stay the same throughout.
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
"""Consecutive frames with the same number of people, and number of such blocks for each of COUNTS."""
WIDTH, HEIGHT = 1280, 720
COLUMNS, ROWS = 10, 3
MIN_JOINTS = 12
FPS = 25.0
JITTER = 3
"""Largest random displacement of each person in each frame, in pixels."""


def cut_people(coco: Path, count: int) -> list[NDArray[np.uint8]]:
    """Crops of the tallest upright people with at least MIN_JOINTS labelled joints, scaled to a cell of the grid.

    If there are fewer than ``count``, they are repeated. Raises DataError when there is none.
    """
    annotations = json.loads(next(coco.glob("*.json")).read_text())
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    people = [person for person in annotations["annotations"] if person.get("num_keypoints", 0) >= MIN_JOINTS]
    people = [person for person in people if person["bbox"][3] > 1.3 * person["bbox"][2]]
    people.sort(key=lambda person: -person["bbox"][3])
    crops = []
    for person in people[:count]:
        image = cv2.imread(str(coco / "images" / Path(files[person["image_id"]]).name))
        x, y, width, height = map(int, person["bbox"])
        if image is not None:
            crops.append(_fit(np.asarray(image[y : y + height, x : x + width], np.uint8)))
    if not crops:
        raise DataError(f"{coco}: no upright person has {MIN_JOINTS} labelled joints")
    return [crops[number % len(crops)] for number in range(count)]


def _fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width, height = WIDTH // COLUMNS - 4 * JITTER, HEIGHT // ROWS - 4 * JITTER
    scale = min(width / image.shape[1], height / image.shape[0])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def draw(people: list[NDArray[np.uint8]], random: np.random.Generator) -> NDArray[np.uint8]:
    """A frame with crops of people spread evenly over the grid."""
    frame = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    cells = np.linspace(0, COLUMNS * ROWS - 1, len(people)).round().astype(int)
    for cell, crop in zip(cells.tolist(), people, strict=True):
        row, column = divmod(cell, COLUMNS)
        height, width = crop.shape[:2]
        dx, dy = random.integers(-JITTER, JITTER + 1, 2)
        left = column * WIDTH // COLUMNS + (WIDTH // COLUMNS - width) // 2 + dx
        top = row * HEIGHT // ROWS + (HEIGHT // ROWS - height) // 2 + dy
        frame[top : top + height, left : left + width] = crop
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a video that alternates between 1, 10 and 30 people.")
    parser.add_argument("--coco", type=Path, required=True, help="folder of COCO keypoints, with images/")
    parser.add_argument("--out", type=Path, required=True, help=".avi file to write")
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
