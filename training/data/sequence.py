"""A sequence: what a sample of training or evaluation is made from, at the network's input size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SequenceFrame:
    """One frame of a sequence. Coordinates are network pixels; cells are those of the maps, 4 x 4 network pixels."""

    image: NDArray[np.uint8]
    """BGR [H, W, 3]."""
    poses: NDArray[np.float32]
    """[P, NK, 3]: x, y, and UNLABELLED or LABELLED. Carried along exactly, also out of the frame."""
    inside: NDArray[np.bool_]
    """[P, NK]: labelled and inside the frame."""
    hidden: NDArray[np.bool_]
    """[P, NK]: inside, but covered by an occluder of ours."""
    boxes: NDArray[np.float32]
    """[P, 4, 2]: corners of each person's box."""
    mask: NDArray[np.float32] | None
    """[h, w] share of each cell that people cover; None where the data set has no segmentation."""
    ignored: NDArray[np.bool_]
    """[h, w]: cells of which nothing is known."""
    tracks: NDArray[np.int64] | None = None
    """[P]: which person of the video each is, -1 where the data do not tell; None in all but whole videos."""
    areas: NDArray[np.float32] | None = None
    """[P] square network pixels that each person covers, NaN where that is not known; None where it is of nobody."""
    heads: NDArray[np.float32] | None = None
    """[P] size of each head in network pixels (see LabelledPicture), NaN and None likewise."""


@dataclass(frozen=True)
class Sequence:
    """Consecutive frames with their labels."""

    name: str
    frames: tuple[SequenceFrame, ...]
    sourced: NDArray[np.bool_]
    """[NK]: which joints of the skeleton are labelled at all."""
