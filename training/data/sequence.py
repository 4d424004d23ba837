"""A sequence of frames with labels at the network's input size, for training and evaluation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SequenceFrame:
    """A frame of a sequence. Coordinates are network pixels; cells are those of the maps, 4 x 4 network pixels."""

    image: NDArray[np.uint8]
    """BGR [H, W, 3]."""
    poses: NDArray[np.float32]
    """[P, NK, 3]: x, y, and UNLABELLED or LABELLED. Exact, also outside the frame."""
    inside: NDArray[np.bool_]
    """[P, NK]: labelled and inside the frame."""
    hidden: NDArray[np.bool_]
    """[P, NK]: inside the frame but under an added occluder."""
    boxes: NDArray[np.float32]
    """[P, 4, 2]: corners of each person's box."""
    mask: NDArray[np.float32] | None
    """[h, w]: share of each cell that people cover; None if the data set has no segmentation."""
    ignored: NDArray[np.bool_]
    """[h, w]: cells without known labels."""
    tracks: NDArray[np.int64] | None = None
    """[P]: track of each person in the video, -1 if unknown; None except in sequences of whole videos."""
    areas: NDArray[np.float32] | None = None
    """[P]: area of each person in square network pixels, NaN if unknown; None if unknown for all."""
    heads: NDArray[np.float32] | None = None
    """[P]: size of each head in network pixels (see LabelledImage); NaN and None as in areas."""


@dataclass(frozen=True)
class Sequence:
    """Consecutive frames with their labels."""

    name: str
    frames: tuple[SequenceFrame, ...]
    sourced: NDArray[np.bool_]
    """[NK]: joints of the skeleton that the data set labels."""
