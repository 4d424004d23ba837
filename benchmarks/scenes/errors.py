"""The network's errors, as measured by benchmarks.scenes.residuals. The scenes draw their errors from them.

A donor is a person of a validation image, followed through a sequence of known motion. All of a donor's errors in a
frame are kept together, so that their correlations are preserved.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.files import atomic_write

FILE = Path(__file__).parent / "residuals.npz"
LOWEST_PEAK = 0.1
"""Lowest score of the peaks that are used."""
_OWN_PIXELS, _OWN_SIZE = 6.0, 0.12
LOWEST_CENTRE = 0.05
"""Lowest score of the centres that are used."""
CLOSE = 0.2
"""Smallest IoU of two people's boxes that counts as close; the network makes more errors then."""
STRAY_BINS = (3.0, 6.0, 10.0, 16.0, 25.0, 50.0)
"""Limits of the bins of stray: distance in network pixels of a line between two peaks from the nearest real limb."""
SURE_PEAK = 0.3
"""Lowest score of a peak that counts as a found joint: the shipped bundle's keypoint threshold."""
HIDDEN_BINS = (0.25, 0.5, 0.75)
"""Limits of the bins of the share of a person's joints that are hidden."""
MANY_FOUND = 3
"""Centres of people with fewer, and with at least this many, found joints are counted separately."""
LONG_HIDDEN = 8
"""Longest time since a joint was hidden, in frames, that is counted separately."""
_UNKNOWN = -128
_STEP = {"share": 1 / 127, "size": 1 / 200, "pixel": 1 / 4}


def own_reach(size: NDArray | float) -> NDArray:
    """Distance in network pixels within which a peak belongs to the joint of a person of this size."""
    return np.maximum(_OWN_PIXELS, _OWN_SIZE * np.asarray(size))


@dataclass(frozen=True)
class Residuals:
    """Errors of D donors over F frames, with 13 joints and 12 edges. Unknown values are NaN.

    The unit "size" is relative to the person's size. R, the number of rows, differs from array to array.
    """

    donor_size: NDArray
    """[D]: size in network pixels."""
    close: NDArray
    """[D, F]: 1 where another person's box overlaps by CLOSE or more."""
    seen: NDArray
    """[D, 13]: COCO's visibility: 2 visible, 1 hidden by the person's own body or an object, 0 unlabelled."""
    peak_at: NDArray
    """[D, F, 13, 2] size: peak minus true position."""
    peak_score: NDArray
    """[D, F, 13]: 0 for a joint that was not found."""
    centre_at: NDArray
    """[D, F, 2] size: centre minus mean of the joints."""
    centre_score: NDArray
    """[D, F]: 0 for a person whose centre was not found."""
    expected_at: NDArray
    """[D, F, 13, 2] size: position at which the centre expects a joint, minus the true position."""
    edge_score: NDArray
    """[D, F, 12]: score of the edge between the person's own peaks."""
    near: NDArray
    """[R, 4]: false peaks near people: donor, frame, joint, nearest true joint."""
    near_at: NDArray
    """[R, 2] size: false peak minus its nearest true joint."""
    near_score: NDArray
    """[R]"""
    extra: NDArray
    """[R, 2]: further centres of a person: donor, frame."""
    extra_at: NDArray
    """[R, 2] size: as centre_at."""
    extra_score: NDArray
    """[R]"""
    extra_expected_at: NDArray
    """[R, 13, 2] size: as expected_at."""
    far: NDArray
    """[R, 2]: false peaks far from people: image (0 to ``far_pictures`` - 1), joint."""
    far_score: NDArray
    """[R]"""
    far_pictures: NDArray
    """[]: number of images that ``far`` is from."""
    covered: NDArray
    """[R]: frames since an object covered a joint, 1 to LONG_HIDDEN."""
    covered_at: NDArray
    """[R, 2] size: as peak_at."""
    covered_score: NDArray
    """[R]: as peak_score; only the memory can find these joints."""
    hidden_centre: NDArray
    """[2, 4, 2]: how often a centre is found and its mean score, for people with fewer or at least MANY_FOUND found
    joints, and by bin of the hidden share (HIDDEN_BINS)."""
    moved: NDArray
    """[R, 2] pixels: a person's true mean movement back to the frame before."""
    moved_error: NDArray
    """[R, 13, 2] pixels: movement according to ``previous``, minus the true one."""
    came_back_error: NDArray
    """[R, 2] pixels: the same for joints that were covered in the frame before."""
    stray_score: NDArray
    """[12, 7, 33]: quantiles of the scores of edges that join two people's peaks or false peaks, by bin of stray."""
    source: NDArray
    """Description of the data and weights."""


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
    """Write residuals atomically, quantised to 1/127 (scores), 1/200 size and 1/4 pixel. Raises SinkError."""
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
    """Read the file of ``save_residuals``; integers become int64, others float64. Raises BenchmarkError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            packed = {field.name: file[field.name] for field in fields(Residuals)}
    except (OSError, KeyError, ValueError) as error:
        raise BenchmarkError(f"{path} has no residuals ({error}); make it with benchmarks.scenes.residuals") from error
    unpacked = {}
    for name, array in packed.items():
        kind = _kind(name)
        if kind in _STEP:
            unpacked[name] = np.where(array == _UNKNOWN, np.nan, array * _STEP[kind])
        else:
            unpacked[name] = array.astype({"int8": np.int64, "int16": np.int64}.get(kind, array.dtype))
    return Residuals(**unpacked)
