"""Sequences to measure on: the same every time, from data that is not trained on."""

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
    """Sequences spread over a data set: videos cut into pieces, or synthetic sequences of single pictures.

    Pictures that cannot be read are left out, said in the log.

    Args:
        data: that is not trained on.
        size: (width, height) of the network input in pixels.
        frames: of each sequence; the last piece of a video may have fewer, but at least two.
        count: how many sequences at most; None for one of each picture, and all of the videos.
        occluded: from frame 3 on a rectangle of noise moves through, and every fourth frame is blurred (sigma 2.5
            network pixels at 256 pixels of height); points under the rectangle are marked as hidden.
    """
    sources = _pieces(data, frames) or data.pictures
    wanted = len(sources) if count is None else min(count, len(sources))
    for i in np.linspace(0, len(sources) - 1, wanted).round().astype(int).tolist():
        random = np.random.default_rng([_SEED, i])
        try:
            source = sources[i]
            if isinstance(source, Video):
                sequence = video_sequence(source, data, size)
            else:
                options = SequenceOptions(kind="synthetic", frames=frames)
                sequence = synthetic_sequence(source, data, size, options, random)
        except DataError as error:
            log.warning("left out: %s", error)
            continue
        yield _occluded(sequence, random) if occluded else sequence


def _pieces(data: DataSet, frames: int) -> list[Video]:
    """The videos' labelled frames in pieces of so many."""
    pieces = []
    for video in data.videos:
        for start in range(0, len(video.pictures) - 1, frames):
            taken = slice(start, start + frames)
            name = f"{video.name} from {video.numbers[start]}"
            pieces.append(Video(name, video.pictures[taken], video.numbers[taken]))
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
