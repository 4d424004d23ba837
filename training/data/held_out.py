"""Sequences for evaluation from held-out data, the same in every run."""

import dataclasses
import logging
from collections.abc import Iterator

import numpy as np

from stm_skeletons.errors import DataError
from training.data.degrade import occlude, soften
from training.data.labels import DataSet, Video
from training.data.sequence import Sequence
from training.data.sequences import SequenceOptions, synthetic_sequence, video_sequence

log = logging.getLogger(__name__)

_SEED = 12345
_FIRST_OCCLUDED = 3
_SOFTENED_EVERY, _SOFTENED_SIGMA = 4, 2.5  # network pixels at 256 pixels of height


def held_out_sequences(
    data: DataSet, size: tuple[int, int], frames: int, count: int | None = None, occluded: bool = False
) -> Iterator[Sequence]:
    """Sequences spread over a data set: videos cut into pieces, or synthetic sequences of single images.

    Images that cannot be read are skipped with a warning in the log.

    Args:
        data: held-out data.
        size: (width, height) of the network input in pixels.
        frames: frames per sequence; the last piece of a video may have fewer, but at least two.
        count: largest number of sequences; None for one per image, or the videos in full.
        occluded: whether a rectangle of noise moves through from frame 3 on, and every 4th frame is blurred (sigma 2.5
            network pixels for a height of 256); points under the rectangle are marked as hidden.
    """
    sources = _pieces(data, frames) or data.images
    for i in _chosen(len(sources), count):
        random = np.random.default_rng([_SEED, i])
        try:
            source = sources[i]
            if isinstance(source, Video):
                sequence = video_sequence(source, data, size)
            else:
                options = SequenceOptions(kind="synthetic", frames=frames)
                sequence = synthetic_sequence(source, data, size, options, random)
        except DataError as error:
            log.warning("skipped: %s", error)
            continue
        yield _occluded(sequence, random) if occluded else sequence


def held_out_frames(data: DataSet, frames: int, count: int | None = None) -> int:
    """Number of frames of ``held_out_sequences`` with the same arguments, if all images can be read."""
    pieces = _pieces(data, frames)
    lengths = [len(piece.images) for piece in pieces] if pieces else [frames] * len(data.images)
    return sum(lengths[i] for i in _chosen(len(lengths), count))


def _chosen(total: int, count: int | None) -> list[int]:
    """Indices of the sources, evenly spread."""
    wanted = total if count is None else min(count, total)
    return np.linspace(0, total - 1, wanted).round().astype(int).tolist()


def _pieces(data: DataSet, frames: int) -> list[Video]:
    """The videos' labelled frames in pieces of ``frames`` frames."""
    pieces = []
    for video in data.videos:
        for start in range(0, len(video.images) - 1, frames):
            taken = slice(start, start + frames)
            name = f"{video.name} from {video.numbers[start]}"
            pieces.append(Video(name, video.images[taken], video.numbers[taken]))
    return pieces


def _occluded(sequence: Sequence, random: np.random.Generator) -> Sequence:
    covered = occlude(sequence, _FIRST_OCCLUDED, random)
    frames = [
        soften(frame, _SOFTENED_SIGMA * frame.image.shape[0] / 256)
        if number and number % _SOFTENED_EVERY == 0
        else frame
        for number, frame in enumerate(covered.frames)
    ]
    return dataclasses.replace(covered, frames=tuple(frames))
