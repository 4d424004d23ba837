"""Helpers shared by the readers of COCO's and PoseTrack's annotation files."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.geometry import MAX_COORDINATE
from training.data.labels import LABELLED


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of an annotation file; NaN and Infinity are accepted. Raises DataError."""
    content = json_content(path, "annotations", "copy it again")
    if not isinstance(content, dict):
        raise DataError(f"{path} is not an annotation file: it holds a {type(content).__name__} instead of an object")
    return content


def json_content(path: Path, what: str, remedy: str) -> Any:
    """The content of a JSON file. Raises DataError with ``what``, the kind of file, or ``remedy`` if it is damaged."""
    try:
        return json.loads(read_text(path))
    except OSError as error:
        raise DataError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON or is truncated ({one_line(error)}); {remedy}") from error


class ProblemCounts:
    """Counts problems of the data, and remembers the first case of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, object] = {}

    def add(self, problem: str, where: object, count: int = 1) -> None:
        """Count a problem; ``problem`` is in the plural, because it follows the count."""
        if count:
            self._counts[problem] = self._counts.get(problem, 0) + int(count)
            self._first.setdefault(problem, where)

    def lines(self) -> tuple[str, ...]:
        """One line for each problem."""
        return tuple(f"{count} {problem} (first: {self._first[problem]})" for problem, count in self._counts.items())


class Files:
    """The set of existing files. Each folder is listed once, which is much faster than a check for every image."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def __contains__(self, path: Path) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder))  # noqa: PTH208 - names are all that is needed
            except OSError:
                self._names[folder] = set()
        return name in self._names[folder]


def count_missing(missing: list[Path], total: int, folder: Path, problems: ProblemCounts) -> None:
    """Count missing image files. Raises DataError if more than half are missing, as the folder is probably wrong."""
    if 2 * len(missing) > total:
        raise DataError(
            f"{len(missing)} of {total} labelled images are missing in {folder}, the first is {missing[0]}; "
            "check that all images are there and that the folder is the right one"
        )
    if missing:
        problems.add(f"of {total} labelled images are missing and skipped", missing[0], len(missing))


def likely_box(
    pose: NDArray[np.float32], size: tuple[int, int], head: tuple[float, float, float, float] | None = None
) -> tuple[float, float, float, float]:
    """An estimated box of a person who has none: left, top, right, bottom in image pixels.

    It is the extent of the labelled joints and of the head's box, grown by its own size on every side. Without labelled
    joints and head it is the whole image.
    """
    points = pose[pose[:, 2] == LABELLED, :2].astype(float)
    if head:
        points = np.concatenate([points, np.reshape(head, (2, 2))])
    if not len(points):
        return 0.0, 0.0, float(size[0]), float(size[1])
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    width, height = right - left, bottom - top
    return left - width, top - height, right + width, bottom + height


def box_polygon(box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """[4, 2]: the corners of a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def count_outside(poses: NDArray[np.float32], size: tuple[int, int]) -> int:
    """Number of labelled joints of poses [P, NK, 3] outside an image of ``size`` (width, height)."""
    x, y, labelled = np.moveaxis(poses, -1, 0)
    return int(((labelled == LABELLED) & ~((x >= 0) & (y >= 0) & (x <= size[0]) & (y <= size[1]))).sum())


BAD_JOINTS = f"joints have non-finite coordinates or coordinates beyond {MAX_COORDINATE:g}; treated as unlabelled"
BAD_BOXES = "people have no usable box; estimated from their joints, else the whole image"
OUTSIDE = "labelled joints lie outside their image; kept"
