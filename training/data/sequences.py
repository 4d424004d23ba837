"""Sequences out of pictures and videos, at the network's input size (paper section 2.3).

Synthetic: one picture, letterboxed, then moved again and again by small random affine steps; keypoints go with it.
Real: an ordered subset of a video's labelled frames, letterboxed.
"""

from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.strict import Exact
from training.data.affine import Motion, random_step
from training.data.labels import DataSet, LabelledPicture, Video
from training.data.sequence import Sequence
from training.data.still import Still, finish, flipped, letterboxed, mosaic, moved, pasted

SLOWEST, FASTEST = 4.0, 60.0
"""Of who passes: network pixels a frame in an input 448 pixels wide; in proportion for other widths."""
AT_ONCE = 0.3
"""Share of those who pass that are there from one frame to the next."""


class SequenceOptions(Exact):
    """How sequences are made."""

    kind: Literal["synthetic", "real"]
    frames: int = Field(default=5, ge=2, le=64)
    """N of the paper, which does not give it."""
    motion: Motion = Motion()
    """Of synthetic sequences."""
    flip: bool = False
    """Mirror every other sequence, left and right joints exchanged; not in the paper."""
    mosaic: float = Field(default=0.0, ge=0, le=1)
    """Share of synthetic sequences that are made of 4 or 9 pictures side by side, crowds; not in the paper."""
    zoom: float = Field(default=1.0, ge=1, le=4)
    """Synthetic sequences start enlarged by up to this, around any place: people who fill the frame; not in the
    paper."""
    passing: float = Field(default=0.0, ge=0, le=1)
    """Share of synthetic sequences into which the people of another picture come, or which they leave; not in
    the paper."""
    gap_step: int = Field(default=5, ge=0)
    gap_epochs: int = Field(default=20, ge=1)
    gap_max: int = Field(default=25, ge=0)
    """Of real sequences, as STM has it (Oh et al. 2019, section 3.4): frames that may be skipped between two are at
    first 0 and grow by ``gap_step`` every ``gap_epochs`` epochs, up to ``gap_max``."""

    def largest_gap(self, epoch: int) -> int:
        """Labelled frames that may be skipped between two of a sequence, in this epoch (from 0)."""
        return min(self.gap_max, self.gap_step * (epoch // self.gap_epochs))


def synthetic_sequence(
    labelled: LabelledPicture | Seq[LabelledPicture],
    data: DataSet,
    size: tuple[int, int],
    options: SequenceOptions,
    random: np.random.Generator,
    passing: LabelledPicture | None = None,
) -> Sequence:
    """A picture and ``options.frames - 1`` moved copies of it, each moved from the one before (cumulatively).

    Args:
        labelled: one of the data set's pictures, or 4 or 9 for a mosaic of them.
        data: where it comes from.
        size: (width, height) of the network input in pixels.
        options: frames, motion, flip and zoom.
        random: decides everything that is random.
        passing: another picture, whose people come into view in front of the first one, or leave it.

    Raises:
        DataError: a picture cannot be read, or has another size than its labels say.
    """
    still, start = _start(labelled, data, size, options, random)
    moves = [np.eye(3)]
    for _ in range(1, options.frames):
        moves.append(random_step(options.motion, size, random) @ moves[-1])
    stills = [moved(still, move @ start) for move in moves]
    if passing is not None:
        people, start = _start(passing, data, size, options, random)
        ways = _ways(options.frames, size, random)
        passed = [moved(people, move @ way @ start) for move, way in zip(moves, ways, strict=True)]
        stills = [pasted(front, behind) for front, behind in zip(passed, stills, strict=True)]
    name = labelled.picture if isinstance(labelled, LabelledPicture) else labelled[0].picture
    return Sequence(str(name), tuple(finish(still) for still in stills), data.sourced)


def _start(
    labelled: LabelledPicture | Seq[LabelledPicture],
    data: DataSet,
    size: tuple[int, int],
    options: SequenceOptions,
    random: np.random.Generator,
) -> tuple[Still, NDArray[np.float64]]:
    """A picture or mosaic, mirrored by chance, and the 3 x 3 matrix that enlarges it."""
    still = letterboxed(labelled, size) if isinstance(labelled, LabelledPicture) else mosaic(labelled, size)
    if options.flip and random.random() < 0.5:
        still = flipped(still, data.skeleton)
    return still, _enlargement(options.zoom, size, random) if options.zoom > 1 else np.eye(3)


def _ways(frames: int, size: tuple[int, int], random: np.random.Generator) -> list[NDArray[np.float64]]:
    """A 3 x 3 matrix for each frame: what passes comes from one side to its place and stays, or the other way round.

    It does so at SLOWEST to FASTEST, or AT_ONCE: as through a door, or where frames between were lost.
    """
    speed = SLOWEST * (FASTEST / SLOWEST) ** random.uniform(0, 1) if random.random() >= AT_ONCE else 2 * 448
    away = np.maximum(random.integers(1, frames) - np.arange(frames), 0) * speed * size[0] / 448
    if random.random() < 0.5:
        away = away[::-1]
    ways = np.tile(np.eye(3), (frames, 1, 1))
    ways[:, 0, 2] = random.choice((-1, 1)) * away
    return list(ways)


def _enlargement(most: float, size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """3 x 3: by 1 to ``most``, each doubling as likely, around any place."""
    scale = most ** random.uniform(0, 1)
    matrix = np.diag([scale, scale, 1.0])
    matrix[:2, 2] = random.uniform(0, 1, 2) * size * np.array(1 - scale)
    return matrix


def real_sequence(
    video: Video,
    data: DataSet,
    size: tuple[int, int],
    options: SequenceOptions,
    epoch: int,
    random: np.random.Generator,
) -> Sequence:
    """An ordered subset of a video's labelled frames, with gaps as ``options.largest_gap(epoch)`` allows.

    A video with fewer labelled frames than wanted repeats its last one. Arguments and errors as synthetic_sequence.
    """
    steps = random.integers(1, options.largest_gap(epoch) + 2, options.frames - 1)
    offsets = np.concatenate([[0], np.cumsum(steps)])
    last = len(video.pictures) - 1
    offsets = np.minimum(offsets + random.integers(0, max(last - offsets[-1], 0) + 1), last)
    frames = [letterboxed(video.pictures[int(offset)], size) for offset in offsets]
    if options.flip and random.random() < 0.5:
        frames = [flipped(frame, data.skeleton) for frame in frames]
    return Sequence(video.name, tuple(finish(frame) for frame in frames), data.sourced)


def video_sequence(video: Video, data: DataSet, size: tuple[int, int]) -> Sequence:
    """All labelled frames of a video, with tracks, for evaluation; errors as synthetic_sequence."""
    frames = tuple(replace(finish(letterboxed(picture, size)), tracks=picture.tracks) for picture in video.pictures)
    return Sequence(video.name, frames, data.sourced)
