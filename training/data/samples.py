"""Samples of training: sequences with their maps as tensors, each the same whichever worker makes it."""

import dataclasses
import logging
import signal
from collections.abc import Iterator
from typing import Literal, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from stm_skeletons.errors import DataError
from stm_skeletons.maps import render_maps, select_channels
from stm_skeletons.strict import Exact
from training.data.degrade import blur, occlude, recolour, soften
from training.data.labels import DataSet, LabelledPicture
from training.data.memory_maps import Mistakes, memory_maps, nobody
from training.data.sequence import Sequence, SequenceFrame
from training.data.sequences import SequenceOptions, real_sequence, synthetic_sequence
from training.data.targets import make_targets

log = logging.getLogger(__name__)

LONGEST_BLUR = 15.0
"""Network pixels of motion blur, at 256 pixels of height."""
SOFTEST = 3.0
"""Network pixels: standard deviation of the blur of a camera out of focus, at 256 pixels of height."""
MOST_OCCLUDERS = 3
MOSAICS = (4, 9)
"""Pictures of a mosaic."""
_TRIES = 20


class Sample(TypedDict):
    """A sequence of N frames; a batch has one more axis B in front of each."""

    frames: Tensor
    """uint8 [N, H, W, 3], BGR."""
    maps: Tensor
    """float32 [N, C, h, w]: what is memorised where ``given``, else what is to be predicted."""
    weights: Tensor
    """float32 [N, C, h, w]: how much a prediction counts; 0 where nothing is known."""
    given: Tensor
    """bool [N]: frames that are memorised with ``maps`` instead of being predicted."""
    readable: Tensor
    """bool [N]: frames that later ones may read from memory."""


class Augmentation(Exact):
    """What is made harder in training; everything at 0 is off."""

    memory: Mistakes = Mistakes()
    """The paper's: mistakes in the maps of the frames that are given."""
    occluders: float = Field(default=0.0, ge=0, le=1)
    """Probability of each of MOST_OCCLUDERS occluders that may move through a sequence, over the predicted frames."""
    motion_blur: float = Field(default=0.0, ge=0, le=1)
    """Share of predicted frames that are blurred along a line of up to LONGEST_BLUR."""
    defocus: float = Field(default=0.0, ge=0, le=1)
    """Share of predicted frames that are out of focus, up to SOFTEST."""
    photometric: float = Field(default=0.0, ge=0, le=1)
    """Strength of changes of brightness, contrast and saturation."""
    cold_start: float = Field(default=0.0, ge=0, le=1)
    """Share of sequences that start without any labels."""
    cold_start_with: Literal["empty_maps", "empty_memory"] = "empty_maps"
    """The first frame is memorised with empty maps and the others as they are; or, as the runtime does, nothing is
    given: the first frame is predicted from an empty memory and all are memorised with what was predicted."""
    drop_memory: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a frame of the memory cannot be read; one of the given ones always stays."""


class SampleOptions(Exact):
    """How a sequence becomes a sample."""

    cyclic: bool = False
    given: int = Field(default=2, ge=1)
    """How many first frames are given in cyclic training ("the first few", paper section 2.3); without it all but the
    last are."""
    hidden: float = Field(default=1.0, ge=1)
    """How many times as much cells count at joints and edges that an occluder of ours covers; not in the paper."""
    augmentation: Augmentation = Augmentation()


class Samples(Dataset):
    """Samples of a data set by (epoch, number): all that is random in one follows from these and the seed."""

    def __init__(
        self,
        data: DataSet,
        channels: tuple[str, ...],
        size: tuple[int, int],
        sequence: SequenceOptions,
        options: SampleOptions,
        seed: int,
    ) -> None:
        """
        Args:
            data: pictures for synthetic sequences, or videos for real ones.
            channels: of the network.
            size: (width, height) of the network input in pixels.
            sequence: how sequences are made.
            options: what is given and what is made harder.
            seed: of everything that is random.
        """
        self._data = data
        self._channels = channels
        self._size = size
        self._sequence = sequence
        self._options = options
        self._seed = seed
        self._sources = data.pictures if sequence.kind == "synthetic" else data.videos
        if not self._sources:
            raise DataError(f"{data.name} has no {'pictures' if sequence.kind == 'synthetic' else 'videos'}")

    def __len__(self) -> int:
        """Pictures or videos: an epoch is one sequence of each."""
        return len(self._sources)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        """A picture or video that cannot be read is left out, said in the log, and another taken in its place."""
        random = np.random.default_rng([self._seed, *index])
        return self._tensors(self._sequence_of(*index, random), random)

    def sequence(self, epoch: int, number: int) -> Sequence:
        """The sequence that a sample is made of, to look at."""
        return self._sequence_of(epoch, number, np.random.default_rng([self._seed, epoch, number]))

    def _sequence_of(self, epoch: int, source: int, random: np.random.Generator) -> Sequence:
        for _ in range(_TRIES):
            try:
                return self._harder(self._make(source, epoch, random), random)
            except DataError as error:
                log.warning("left out: %s", error)
                source = int(random.integers(len(self._sources)))
        raise DataError(f"{_TRIES} pictures or videos of {self._data.name} in a row cannot be used; see the log")

    def _make(self, source: int, epoch: int, random: np.random.Generator) -> Sequence:
        if self._sequence.kind == "synthetic":
            first = self._pictured(source, random)
            return synthetic_sequence(first, self._data, self._size, self._sequence, random, self._passing(random))
        return real_sequence(self._data.videos[source], self._data, self._size, self._sequence, epoch, random)

    def _pictured(self, source: int, random: np.random.Generator) -> LabelledPicture | list[LabelledPicture]:
        """The picture of this number, or a mosaic's with it in the first place."""
        pictures = self._data.pictures
        if not self._sequence.mosaic or random.random() >= self._sequence.mosaic:
            return pictures[source]
        others = random.integers(len(pictures), size=random.choice(MOSAICS) - 1)
        return [pictures[source], *(pictures[int(other)] for other in others)]

    def _passing(self, random: np.random.Generator) -> LabelledPicture | None:
        """The picture whose people pass in front of a sequence, if any do."""
        if not self._sequence.passing or random.random() >= self._sequence.passing:
            return None
        return self._data.pictures[int(random.integers(len(self._data.pictures)))]

    def _first_predicted(self) -> int:
        last = self._sequence.frames - 1
        return min(self._options.given, last) if self._options.cyclic else last

    def _harder(self, sequence: Sequence, random: np.random.Generator) -> Sequence:
        augmentation, first = self._options.augmentation, self._first_predicted()
        if augmentation.photometric:
            sequence = recolour(sequence, augmentation.photometric, random)
        for _ in range(MOST_OCCLUDERS):
            if random.random() < augmentation.occluders:
                sequence = occlude(sequence, int(random.integers(first, len(sequence.frames))), random)
        frames = list(sequence.frames)
        for n in range(first, len(frames)):
            if random.random() < augmentation.motion_blur:
                length = random.uniform(3, LONGEST_BLUR) * self._size[1] / 256
                frames[n] = blur(frames[n], length, random.uniform(0, np.pi))
            if random.random() < augmentation.defocus:
                frames[n] = soften(frames[n], random.uniform(1, SOFTEST) * self._size[1] / 256)
        return dataclasses.replace(sequence, frames=tuple(frames))

    def _tensors(self, sequence: Sequence, random: np.random.Generator) -> Sample:
        count, first = len(sequence.frames), self._first_predicted()
        augmentation = self._options.augmentation
        cold = random.random() < augmentation.cold_start
        if cold and augmentation.cold_start_with == "empty_memory":
            first = 0
        given = np.arange(count) < first
        readable = random.random(count) >= augmentation.drop_memory
        readable[int(random.integers(max(first, 1)))] = True
        pairs = []
        for n, frame in enumerate(sequence.frames):
            if given[n]:
                maps = self._memorised(frame, n == 0 and cold, random)
                pairs.append((maps, np.zeros(maps.shape, np.float32)))
            else:
                pairs.append(self._wanted(frame, sequence.sourced))
        maps, weights = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return {
            "frames": torch.from_numpy(np.stack([frame.image for frame in sequence.frames])),
            "maps": torch.from_numpy(maps),
            "weights": torch.from_numpy(weights),
            "given": torch.from_numpy(given),
            "readable": torch.from_numpy(readable),
        }

    def _wanted(self, frame: SequenceFrame, sourced: NDArray[np.bool_]) -> tuple[np.ndarray, np.ndarray]:
        """Maps to be predicted and how much each cell counts."""
        skeleton = self._data.skeleton
        maps, known = make_targets(frame, skeleton, self._channels, sourced)
        weights = known.astype(np.float32)
        if self._options.hidden > 1 and frame.hidden.any():
            covered = np.concatenate([frame.poses[..., :2], frame.hidden[..., None]], axis=-1)
            at_hidden = select_channels(render_maps(covered, skeleton, frame.image.shape[:2]), skeleton, self._channels)
            weights *= 1 + (self._options.hidden - 1) * at_hidden
        return maps, weights

    def _memorised(self, frame: SequenceFrame, cold: bool, random: np.random.Generator) -> np.ndarray:
        skeleton, mistakes = self._data.skeleton, self._options.augmentation.memory
        poses = nobody(frame.poses) if cold else frame.poses
        size = (self._size[1], self._size[0])
        maps = memory_maps(poses, skeleton, size, Mistakes() if cold else mistakes, random)
        return select_channels(maps, skeleton, self._channels)


class InterleavedSamples(Dataset):
    """Two kinds of samples that take turns: in an epoch every one of the first, and as many of the second."""

    def __init__(self, first: Samples, second: Samples) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return 2 * len(self._first)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        """Even numbers are of the first. The second has epochs of its own: passes over its pictures or videos."""
        epoch, number = index
        turn, second = divmod(number, 2)
        if not second:
            return self._first[epoch, turn]
        return self._second[divmod(epoch * len(self._first) + turn, len(self._second))]


class SampleOrder(Sampler[tuple[int, int]]):
    """(epoch, number) of the samples that one of several processes is to take, from any point of the training on.

    Each epoch has every sample once, in an order of its own. Consecutive ones go to different processes, so that these
    together take the same batch as a single process does.
    """

    def __init__(self, length: int, seed: int, start: int, rank: int = 0, processes: int = 1) -> None:
        """``start``: how many samples all processes together have taken before."""
        self._length = length
        self._seed = seed
        self._start = start
        self._rank = rank
        self._processes = processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Without end: training decides when it stops."""
        position = self._start + self._rank
        epoch, order = -1, np.empty(0, int)
        while True:
            if position // self._length != epoch:
                epoch = position // self._length
                order = np.random.default_rng([self._seed, epoch]).permutation(self._length)
            yield epoch, int(order[position % self._length])
            position += self._processes


def prepare_worker(worker: int) -> None:  # noqa: ARG001 - the number that PyTorch passes
    """One thread for each data loader's worker, since they share the cores with the network; and Ctrl-C, which reaches
    them too, is the main process's business."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
