"""Real 2-D motion of single people: Penn Action's tracks, filtered and normalised for scenes."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import BenchmarkError
from stm_skeletons.skeleton import COCO17

JOINTS = tuple(COCO17.joints.index(name) for name in COCO17.joints if "eye" not in name and "ear" not in name)
"""Joints of the scenes as indices of COCO's, in Penn Action's order; Penn Action's head stands for the nose."""
EDGES = tuple(i for i, edge in enumerate(COCO17.edges) if set(edge) <= set(JOINTS))
"""Edges between two of these joints. None ends at the nose, because COCO joins it to eyes and ears only."""

_SHORTEST = 30  # frames
_SEEN, _JOINT_SEEN = 0.85, 0.5  # smallest visible share of all joints, and of each joint
_LARGEST_JUMP = 0.25  # largest movement between frames in body sizes; more is a labelling error


@dataclass(frozen=True)
class Track:
    """A person's motion, normalised to size 1 and centred."""

    xy: NDArray[np.float64]
    """[F, 13, 2]: x, y, in units of the median diagonal of the box around the joints."""
    seen: NDArray[np.bool_]
    """[F, 13]: joints that are not hidden by the person's own body."""


def load_tracks(path: Path) -> list[Track]:
    """The tracks that are long, complete and smooth enough. Hidden joints are interpolated over time.

    Raises BenchmarkError if the file cannot be read or has no such track.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            xy, seen, offsets = file["xy"].astype(float), file["visible"] > 0, file["offsets"]
    except (OSError, KeyError, ValueError) as error:
        raise BenchmarkError(f"cannot read {path} as Penn Action's tracks ({error}); use the shared file") from error
    pieces = [slice(start, end) for start, end in pairwise(offsets)]
    candidates = [_track(xy[piece], seen[piece]) for piece in pieces]
    tracks = [track for track in candidates if track is not None]
    if not tracks:
        raise BenchmarkError(f"{path} has no track of at least {_SHORTEST} frames with most joints visible")
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


def play(track: Track, frames: int, random: np.random.Generator) -> Track:
    """A track played back and forth from a random frame for ``frames`` frames; mirrored with probability 0.5."""
    there_and_back = np.concatenate([np.arange(len(track.xy)), np.arange(len(track.xy) - 2, 0, -1)])
    order = there_and_back[(random.integers(len(there_and_back)) + np.arange(frames)) % len(there_and_back)]
    xy, seen = track.xy[order], track.seen[order]
    if random.random() < 0.5:
        flip = [JOINTS.index(COCO17.flip[joint]) for joint in JOINTS]
        xy, seen = xy[:, flip] * (-1, 1), seen[:, flip]
    return Track(xy, seen)
