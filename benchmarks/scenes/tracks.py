"""Real 2-D motion of single people: Penn Action's tracks, made fit to be composed."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.skeleton import COCO17

JOINTS = tuple(COCO17.joints.index(name) for name in COCO17.joints if "eye" not in name and "ear" not in name)
"""Which of COCO's joints the scenes have, in the order of Penn Action; its head is taken for the nose."""
EDGES = tuple(i for i, edge in enumerate(COCO17.edges) if set(edge) <= set(JOINTS))
"""Edges between two of them. None ends at the nose: COCO joins it to eyes and ears only."""

_SHORTEST = 30  # frames
_SEEN, _JOINT_SEEN = 0.85, 0.5  # least shares of all joints, and of each
_LARGEST_JUMP = 0.25  # body sizes from one frame to the next: more is a mistake of the labels


@dataclass(frozen=True)
class Track:
    """One person's motion; sizes of 1, about the middle of the frames' boxes."""

    xy: NDArray[np.float64]
    """[F, 13, 2]: x, y, the diagonal of the box around the joints being 1 in the median frame."""
    seen: NDArray[np.bool_]
    """[F, 13]: not hidden by the person's own body."""


def load_tracks(path: Path) -> list[Track]:
    """The tracks that are long, complete and smooth enough.

    Joints that are not seen are put between where they were seen before and after.

    Raises BenchmarkError when the file is missing, is another one or holds no such track.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            xy, seen, offsets = file["xy"].astype(float), file["visible"] > 0, file["offsets"]
    except (OSError, KeyError, ValueError) as error:
        raise BenchmarkError(f"{path} cannot be read as Penn Action's tracks ({error}); see the shared data") from error
    pieces = [slice(start, end) for start, end in pairwise(offsets)]
    found = [_track(xy[piece], seen[piece]) for piece in pieces]
    tracks = [track for track in found if track is not None]
    if not tracks:
        raise BenchmarkError(f"{path} has no track of {_SHORTEST} frames on which most joints are seen")
    return tracks


def _track(xy: NDArray, seen: NDArray[np.bool_]) -> Track | None:
    if len(xy) < _SHORTEST or seen.mean() < _SEEN or seen.mean(axis=0).min() < _JOINT_SEEN:
        return None
    frames = np.arange(len(xy))
    whole = np.empty_like(xy)
    for joint, where in enumerate(seen.T):
        for axis in range(2):
            whole[:, joint, axis] = np.interp(frames, frames[where], xy[where, joint, axis])
    low, high = whole.min(axis=1), whole.max(axis=1)
    size = np.median(np.linalg.norm(high - low, axis=-1))
    if size <= 0 or np.linalg.norm(np.diff(whole, axis=0), axis=-1).max() > _LARGEST_JUMP * size:
        return None
    return Track((whole - np.median((low + high) / 2, axis=0)) / size, seen)


def played(track: Track, frames: int, random: np.random.Generator) -> Track:
    """As many frames of a track, forth and back without a jump, from a random frame on; mirrored half of the times."""
    there_and_back = np.concatenate([np.arange(len(track.xy)), np.arange(len(track.xy) - 2, 0, -1)])
    order = there_and_back[(random.integers(len(there_and_back)) + np.arange(frames)) % len(there_and_back)]
    xy, seen = track.xy[order], track.seen[order]
    if random.random() < 0.5:
        flip = [JOINTS.index(COCO17.flip[joint]) for joint in JOINTS]
        xy, seen = xy[:, flip] * (-1, 1), seen[:, flip]
    return Track(xy, seen)
