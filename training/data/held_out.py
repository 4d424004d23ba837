"""Sequences to measure on: the same every time, from data that is not trained on."""

import dataclasses
import logging
from collections.abc import Iterator

import numpy as np

from stm_skeletons.errors import DataError
from training.data.degrade import occlude, soften
from training.data.labels import DataSet
from training.data.sequence import Sequence
from training.data.sequences import SequenceOptions, synthetic_sequence, video_sequence

log = logging.getLogger(__name__)

_SEED = 12345
_FIRST_OCCLUDED = 3
_SOFTENED_EVERY, _SOFTENED_SIGMA = 4, 2.5


def held_out_sequences(
    data: DataSet, size: tuple[int, int], frames: int, count: int | None = None, occluded: bool = False
) -> Iterator[Sequence]:
    """Sequences spread over a data set: of videos the first labelled frames, of single pictures synthetic ones.

    Pictures that cannot be read are left out, said in the log.

    Args:
        data: that is not trained on.
        size: (width, height) of the network input in pixels.
        frames: of each sequence; videos may have fewer.
        count: how many sequences at most; None for one of each picture or video.
        occluded: from frame 3 on a rectangle of noise moves through, and every fourth frame is blurred (sigma 2.5
            network pixels); points under the rectangle are marked as hidden.
    """
    sources = data.videos or data.pictures
    wanted = len(sources) if count is None else min(count, len(sources))
    options = SequenceOptions(kind="synthetic", frames=frames)
    for i in np.linspace(0, len(sources) - 1, wanted).round().astype(int).tolist():
        random = np.random.default_rng([_SEED, i])
        try:
            if data.videos:
                sequence = video_sequence(data.videos[i], data, size, frames)
            else:
                sequence = synthetic_sequence(data.pictures[i], data, size, options, random)
        except DataError as error:
            log.warning("left out: %s", error)
            continue
        yield _occluded(sequence, random) if occluded else sequence


def _occluded(sequence: Sequence, random: np.random.Generator) -> Sequence:
    covered = occlude(sequence, _FIRST_OCCLUDED, random)
    frames = [
        soften(frame, _SOFTENED_SIGMA) if number and number % _SOFTENED_EVERY == 0 else frame
        for number, frame in enumerate(covered.frames)
    ]
    return dataclasses.replace(covered, frames=tuple(frames))
