"""The errors that the network makes, as measured by benchmarks.scenes.residuals: what the scenes draw theirs from.

They are kept as they came: a donor is one person of a validation image, followed through a sequence whose true motion
is known, with all that the network made of him or her in each frame. So errors that come together stay together.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.files import atomic_write

FILE = Path(__file__).parent / "residuals.npz"
LOWEST_PEAK = 0.1
"""Score of peaks that are looked at."""
_OWN_PIXELS, _OWN_SIZE = 6.0, 0.12
LOWEST_CENTRE = 0.05
CLOSE = 0.2
"""IoU of two people's boxes from which on they are close: then the network errs more."""
STRAY_BINS = (3.0, 6.0, 10.0, 16.0, 25.0, 50.0)
"""Network pixels, by which a line between two peaks strays from the nearest limb of its kind: borders of the bins."""
SURE_PEAK = 0.3
"""Score from which a peak counts as a found joint: the shipped bundle's threshold of keypoints."""
HIDDEN_BINS = (0.25, 0.5, 0.75)
"""Share of a person's joints that are hidden: borders of the bins."""
MANY_FOUND = 3
"""Found joints of a person from which on centres are looked at apart."""
LONG_HIDDEN = 8
"""Frames since a joint was hidden that are told apart; later is as then."""
_UNKNOWN = -128
_STEP = {"share": 1 / 127, "size": 1 / 200, "pixel": 1 / 4}


def own_reach(size: NDArray | float) -> NDArray:
    """Network pixels within which a peak is at the joint of somebody of that size."""
    return np.maximum(_OWN_PIXELS, _OWN_SIZE * np.asarray(size))


@dataclass(frozen=True)
class Residuals:
    """D donors, F frames each, 13 joints, 12 edges. "size" is in sizes of the person; NaN where nothing is known."""

    donor_size: NDArray
    """[D]: network pixels."""
    close: NDArray
    """[D, F]: 1 where somebody's box overlaps by CLOSE or more."""
    seen: NDArray
    """[D, 13]: 2 visible, 1 hidden by the person's own body or by something, 0 unlabelled, as COCO has it."""
    peak_at: NDArray
    """[D, F, 13, 2] size: found minus true place."""
    peak_score: NDArray
    """[D, F, 13]: 0 for a joint that was not found."""
    centre_at: NDArray
    """[D, F, 2] size: found centre minus the mean of the joints."""
    centre_score: NDArray
    """[D, F]: 0 for somebody whose centre was not found."""
    expected_at: NDArray
    """[D, F, 13, 2] size: where the centre expects a joint, minus the true place."""
    edge_score: NDArray
    """[D, F, 12]: between this person's own peaks."""
    near: NDArray
    """[R, 4] donor, frame, joint, and the true joint next to it, of false peaks near people."""
    near_at: NDArray
    """[R, 2] size: false peak minus that true joint."""
    near_score: NDArray
    """[R]"""
    extra: NDArray
    """[R, 2] donor, frame of second centres of one person."""
    extra_at: NDArray
    """[R, 2] size, as centre_at."""
    extra_score: NDArray
    """[R]"""
    extra_expected_at: NDArray
    """[R, 13, 2] size, as expected_at."""
    far: NDArray
    """[R, 2] picture, joint of false peaks far from people; pictures without any count up to ``far_pictures``."""
    far_score: NDArray
    """[R]"""
    far_pictures: NDArray
    """[]: how many pictures those are from."""
    covered: NDArray
    """[R]: frames since something covered a joint, 1 to LONG_HIDDEN."""
    covered_at: NDArray
    """[R, 2] size, as peak_at."""
    covered_score: NDArray
    """[R], as peak_score: what the memory shows where nothing is to be seen."""
    hidden_centre: NDArray
    """[2, 4, 2]: for people of whom fewer or at least MANY_FOUND joints are found, and each bin of how much of them is
    not to be seen, how often the centre is found, and its mean score."""
    moved: NDArray
    """[R, 2] pixels: a person's true mean movement back to the frame before."""
    moved_error: NDArray
    """[R, 13, 2] pixels: the movement that ``previous`` tells, minus the true one."""
    came_back_error: NDArray
    """[R, 2] pixels: the same of joints that were covered in the frame before."""
    stray_score: NDArray
    """[12, 7, 33]: quantiles of the scores of edges between two people's peaks or false ones, by how far they stray."""
    source: NDArray
    """What was measured, in a sentence."""


_KINDS = {
    "donor_size": "float16",
    "hidden_centre": "float16",
    "close": "int8",
    "seen": "int8",
    "near": "int16",
    "extra": "int16",
    "far": "int16",
    "covered": "int8",
    "far_pictures": "int16",
    "moved": "pixel",
    "moved_error": "pixel",
    "came_back_error": "pixel",
    "source": "str",
}


def _kind(name: str) -> str:
    return _KINDS.get(name) or ("share" if name.endswith("score") else "size")


def save_residuals(residuals: Residuals, path: Path) -> None:
    """Write them in steps of 1/127 (scores), 1/200 size and 1/4 pixel, whole or not at all. Raises SinkError."""
    packed = {}
    for field in fields(Residuals):
        array, kind = np.asarray(getattr(residuals, field.name)), _kind(field.name)
        if kind in _STEP:
            steps = np.clip(np.rint(np.nan_to_num(array) / _STEP[kind]), -127, 127)
            packed[field.name] = np.where(np.isnan(array), _UNKNOWN, steps).astype(np.int8)
        else:
            packed[field.name] = array.astype(kind)
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **packed)


def load_residuals(path: Path = FILE) -> Residuals:
    """Read what ``save_residuals`` wrote; whole numbers as int64, else float64. Raises BenchmarkError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            packed = {field.name: file[field.name] for field in fields(Residuals)}
    except (OSError, KeyError, ValueError) as error:
        raise BenchmarkError(f"{path} has no residuals ({error}); benchmarks.scenes.residuals measures them") from error
    unpacked = {}
    for name, array in packed.items():
        kind = _kind(name)
        if kind in _STEP:
            unpacked[name] = np.where(array == _UNKNOWN, np.nan, array * _STEP[kind])
        else:
            unpacked[name] = array.astype({"int8": np.int64, "int16": np.int64}.get(kind, array.dtype))
    return Residuals(**unpacked)
