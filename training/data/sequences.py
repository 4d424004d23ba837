"""Makes sequences from images and videos, at the network's input size (paper section 2.3).

Synthetic sequences are one letterboxed image, moved repeatedly by small random affine steps together with its
keypoints. Real sequences are an ordered subset of a video's labelled frames, letterboxed.
"""

from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stm_skeletons.strict import Exact
from training.data.affine import Motion, random_step
from training.data.labels import DataSet, LabelledImage, Video
from training.data.sequence import Sequence
from training.data.still import Still, finish, flipped, letterboxed, mosaic, moved, pasted

SLOWEST, FASTEST = 4.0, 60.0
"""Speed of passing people in network pixels per frame, for an input 448 pixels wide; scaled for other widths."""
AT_ONCE = 0.3
"""Share of passing people who appear or disappear from one frame to the next."""


class SequenceOptions(Exact):
    """How sequences are made."""

    kind: Literal["synthetic", "real"]
    frames: int = Field(default=5, ge=2, le=64)
    """Frames per sequence: N of the paper, which does not state its value."""
    motion: Motion = Motion()
    """Motion of synthetic sequences."""
    flip: bool = False
    """Mirror half of the sequences at random, with left and right joints swapped; not in the paper."""
    mosaic: float = Field(default=0.0, ge=0, le=1)
    """Share of synthetic sequences composed of 4 or 9 images in a grid, to simulate crowds; not in the paper."""
    zoom: float = Field(default=1.0, ge=1, le=4)
    """Largest initial enlargement of synthetic sequences, about a random point, to simulate people who fill the frame;
    not in the paper."""
    passing: float = Field(default=0.0, ge=0, le=1)
    """Share of synthetic sequences that the people of another image enter or leave; not in the paper."""
    gap_step: int = Field(default=5, ge=0)
    gap_epochs: int = Field(default=20, ge=1)
    gap_max: int = Field(default=25, ge=0)
    """Gaps of real sequences, as in STM (Oh et al. 2019, section 3.4). The largest number of frames skipped between two
    starts at 0 and rises by ``gap_step`` every ``gap_epochs`` epochs, up to ``gap_max``."""

    def largest_gap(self, epoch: int) -> int:
        """Largest number of labelled frames skipped between two frames of a sequence, in this epoch (from 0)."""
        return min(self.gap_max, self.gap_step * (epoch // self.gap_epochs))


def synthetic_sequence(
    labelled: LabelledImage | Seq[LabelledImage],
    data: DataSet,
    size: tuple[int, int],
    options: SequenceOptions,
    random: np.random.Generator,
    passing: LabelledImage | None = None,
) -> Sequence:
    """An image and ``options.frames - 1`` moved copies of it, each moved relative to the one before.

    Args:
        labelled: an image of the data set, or 4 or 9 images for a mosaic.
        data: the data set.
        size: (width, height) of the network input in pixels.
        options: frames, motion, flip and zoom.
        random: source of randomness.
        passing: another image, whose people enter or leave the view in front of the first image.

    Raises:
        DataError: an image cannot be read, or its size differs from its labels.
    """
    still, start = _start(labelled, data, size, options, random)
    moves = [np.eye(3)]
    for _ in range(1, options.frames):
        moves.append(random_step(options.motion, size, random) @ moves[-1])
    stills = [moved(still, move @ start) for move in moves]
    if passing is not None:
        people, start = _start(passing, data, size, options, random)
        paths = _passing_paths(options.frames, size, random)
        passed = [moved(people, move @ path @ start) for move, path in zip(moves, paths, strict=True)]
        stills = [pasted(front, behind) for front, behind in zip(passed, stills, strict=True)]
    file = labelled.file if isinstance(labelled, LabelledImage) else labelled[0].file
    return Sequence(str(file), tuple(finish(still) for still in stills), data.sourced)


def _start(
    labelled: LabelledImage | Seq[LabelledImage],
    data: DataSet,
    size: tuple[int, int],
    options: SequenceOptions,
    random: np.random.Generator,
) -> tuple[Still, NDArray[np.float64]]:
    """An image or mosaic, randomly mirrored, and the 3 x 3 matrix that enlarges it."""
    still = letterboxed(labelled, size) if isinstance(labelled, LabelledImage) else mosaic(labelled, size)
    if options.flip and random.random() < 0.5:
        still = flipped(still, data.skeleton)
    return still, _enlargement(options.zoom, size, random) if options.zoom > 1 else np.eye(3)


def _passing_paths(frames: int, size: tuple[int, int], random: np.random.Generator) -> list[NDArray[np.float64]]:
    """A 3 x 3 matrix for each frame: passing people enter from one side and stay, or leave to one side.

    Their speed is SLOWEST to FASTEST, or they appear or disappear at once, as through a door or after lost frames.
    """
    speed = SLOWEST * (FASTEST / SLOWEST) ** random.uniform(0, 1) if random.random() >= AT_ONCE else 2 * 448
    away = np.maximum(random.integers(1, frames) - np.arange(frames), 0) * speed * size[0] / 448
    if random.random() < 0.5:
        away = away[::-1]
    paths = np.tile(np.eye(3), (frames, 1, 1))
    paths[:, 0, 2] = random.choice((-1, 1)) * away
    return list(paths)


def _enlargement(largest: float, size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """3 x 3 matrix of an enlargement from 1 to ``largest``, log-uniform, about a random point."""
    scale = largest ** random.uniform(0, 1)
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
    """An ordered subset of a video's labelled frames, with gaps of up to ``options.largest_gap(epoch)``.

    A video that is too short repeats its last frame. Arguments and errors as in synthetic_sequence.
    """
    steps = random.integers(1, options.largest_gap(epoch) + 2, options.frames - 1)
    offsets = np.concatenate([[0], np.cumsum(steps)])
    last = len(video.images) - 1
    offsets = np.minimum(offsets + random.integers(0, max(last - offsets[-1], 0) + 1), last)
    frames = [letterboxed(video.images[int(offset)], size) for offset in offsets]
    if options.flip and random.random() < 0.5:
        frames = [flipped(frame, data.skeleton) for frame in frames]
    return Sequence(video.name, tuple(finish(frame) for frame in frames), data.sourced)


def video_sequence(video: Video, data: DataSet, size: tuple[int, int]) -> Sequence:
    """All labelled frames of a video with their tracks, for evaluation. Errors as in synthetic_sequence."""
    frames = tuple(replace(finish(letterboxed(image, size)), tracks=image.tracks) for image in video.images)
    return Sequence(video.name, frames, data.sourced)
