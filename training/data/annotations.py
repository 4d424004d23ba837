"""What reading COCO's and PoseTrack's annotation files has in common."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.geometry import FARTHEST
from training.data.labels import LABELLED


def read_json(path: Path) -> dict[str, Any]:
    """The object in an annotation file; NaN and Infinity are let through. Raises DataError."""
    content = json_content(path, "annotations", "copy it again")
    if not isinstance(content, dict):
        raise DataError(f"{path} is not an annotation file: it holds a {type(content).__name__}, not an object")
    return content


def json_content(path: Path, what: str, remedy: str) -> Any:
    """What a JSON file holds. Raises DataError, which calls the file ``what`` and says what to do if it is damaged."""
    try:
        return json.loads(read_text(path))
    except OSError as error:
        raise DataError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON, or cut short ({one_line(error)}); {remedy}") from error


class Tally:
    """Counts what is left out or odd, with the first case of each, for one line each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, object] = {}

    def add(self, what: str, where: object, count: int = 1) -> None:
        """``what``: in the plural, as it follows a number."""
        if count:
            self._counts[what] = self._counts.get(what, 0) + int(count)
            self._first.setdefault(what, where)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{count} {what} (first: {self._first[what]})" for what, count in self._counts.items())


class Files:
    """Which files exist; each folder is listed once, which for a hundred thousand pictures saves most of the time."""

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


def tally_missing(missing: list[Path], total: int, folder: Path, tally: Tally) -> None:
    """Count missing picture files. Raises DataError when they are more than half: then the folder is the wrong one."""
    if 2 * len(missing) > total:
        raise DataError(
            f"{len(missing)} of {total} labelled pictures are missing under {folder}, the first {missing[0]}; "
            "check that the pictures are complete and in the right folder"
        )
    if missing:
        tally.add(f"of {total} labelled pictures are missing and left out", missing[0], len(missing))


def likely_box(
    pose: NDArray[np.float32], size: tuple[int, int], head: tuple[float, float, float, float] | None = None
) -> tuple[float, float, float, float]:
    """Where a person without a box may be: left, top, right, bottom in picture pixels.

    The extent of the labelled joints and of the head's box, grown by its own size on every side; without these the
    whole picture, for then the person may be anywhere.
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
    """Labelled joints of poses [P, NK, 3] that lie outside a picture of ``size`` (width, height)."""
    x, y, labelled = np.moveaxis(poses, -1, 0)
    return int(((labelled == LABELLED) & ~((x >= 0) & (y >= 0) & (x <= size[0]) & (y <= size[1]))).sum())


BAD_JOINTS = f"joints with coordinates that are no pixels (NaN or beyond {FARTHEST:g}) taken as unlabelled"
BAD_BOXES = "people without a usable box, taken to be around their joints or anywhere"
OUTSIDE = "labelled joints outside their picture, kept where they are"
