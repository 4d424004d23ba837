"""Training samples: sequences and their maps as tensors. A sample does not depend on the worker that makes it."""

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
from training.data.labels import DataSet, LabelledImage
from training.data.memory_maps import Mistakes, memory_maps, without_labels
from training.data.sequence import Sequence, SequenceFrame
from training.data.sequences import SequenceOptions, real_sequence, synthetic_sequence
from training.data.targets import make_targets

log = logging.getLogger(__name__)

LONGEST_BLUR = 15.0
"""Longest motion blur in network pixels for a height of 256."""
SOFTEST = 3.0
"""Largest standard deviation of defocus blur in network pixels for a height of 256."""
MOST_OCCLUDERS = 3
MOSAICS = (4, 9)
"""Possible numbers of images in a mosaic."""
_TRIES = 20


class Sample(TypedDict):
    """A sequence of N frames. In a batch, every tensor has an additional first axis B."""

    frames: Tensor
    """uint8 [N, H, W, 3], BGR."""
    maps: Tensor
    """float32 [N, C, h, w]: maps to memorise for ``given`` frames, maps to predict for the others."""
    weights: Tensor
    """float32 [N, C, h, w]: weight of each predicted cell in the loss; 0 if its truth is unknown."""
    given: Tensor
    """bool [N]: frames that are memorised with ``maps`` and not predicted."""
    readable: Tensor
    """bool [N]: frames that later frames may read from memory."""


class Augmentation(Exact):
    """Augmentations of a sequence; 0 disables each."""

    memory: Mistakes = Mistakes()
    """The paper's augmentations: mistakes in the maps of the given frames."""
    occluders: float = Field(default=0.0, ge=0, le=1)
    """Probability of each of MOST_OCCLUDERS possible occluders, which move over the predicted frames."""
    motion_blur: float = Field(default=0.0, ge=0, le=1)
    """Share of predicted frames with motion blur of up to LONGEST_BLUR."""
    defocus: float = Field(default=0.0, ge=0, le=1)
    """Share of predicted frames with defocus blur of up to SOFTEST."""
    photometric: float = Field(default=0.0, ge=0, le=1)
    """Strength of changes of brightness, contrast and saturation."""
    cold_start: float = Field(default=0.0, ge=0, le=1)
    """Share of sequences that start without labels."""
    cold_start_with: Literal["empty_maps", "empty_memory"] = "empty_maps"
    """Form of a cold start. empty_maps: the first frame is memorised with empty maps, the other given frames with their
    labels. empty_memory: as in the runtime, no labels are given; the first frame is predicted from an empty memory, and
    every frame is memorised with its prediction."""
    drop_memory: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a frame in memory cannot be read. One given frame always stays readable."""


class SampleOptions(Exact):
    """How a sequence becomes a sample."""

    cyclic: bool = False
    given: int = Field(default=2, ge=1)
    """Number of first frames whose labels are given in cyclic training ("the first few", paper section 2.3). Without
    cyclic training, those of all frames but the last are given."""
    hidden: float = Field(default=1.0, ge=1)
    """Weight in the loss of joints and edges under an added occluder, relative to the others; not in the paper."""
    augmentation: Augmentation = Augmentation()


class Samples(Dataset):
    """Samples of a data set by (epoch, number). Their randomness depends only on these and the seed."""

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
            data: with images for synthetic sequences, or videos for real ones.
            channels: of the network.
            size: (width, height) of the network input in pixels.
            sequence: how sequences are made.
            options: given frames and augmentations.
            seed: random seed.
        """
        self._data = data
        self._channels = channels
        self._size = size
        self._sequence = sequence
        self._options = options
        self._seed = seed
        self._sources = data.images if sequence.kind == "synthetic" else data.videos
        if not self._sources:
            raise DataError(f"{data.name} has no {'images' if sequence.kind == 'synthetic' else 'videos'}")

    def __len__(self) -> int:
        """Number of images or videos; an epoch has one sequence of each."""
        return len(self._sources)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        """A sample. An image or video that cannot be read is replaced by another, with a warning in the log."""
        random = np.random.default_rng([self._seed, *index])
        return self._tensors(self._sequence_of(*index, random), random)

    def sequence(self, epoch: int, number: int) -> Sequence:
        """The sequence of a sample, for drawing."""
        return self._sequence_of(epoch, number, np.random.default_rng([self._seed, epoch, number]))

    def _sequence_of(self, epoch: int, source: int, random: np.random.Generator) -> Sequence:
        for _ in range(_TRIES):
            try:
                return self._degrade(self._make(source, epoch, random), random)
            except DataError as error:
                log.warning("skipped: %s", error)
                source = int(random.integers(len(self._sources)))
        raise DataError(f"{self._data.name}: {_TRIES} images or videos in a row cannot be used; see the log")

    def _make(self, source: int, epoch: int, random: np.random.Generator) -> Sequence:
        if self._sequence.kind == "synthetic":
            first = self._image_or_mosaic(source, random)
            return synthetic_sequence(first, self._data, self._size, self._sequence, random, self._passing(random))
        return real_sequence(self._data.videos[source], self._data, self._size, self._sequence, epoch, random)

    def _image_or_mosaic(self, source: int, random: np.random.Generator) -> LabelledImage | list[LabelledImage]:
        """The image with this number, or the images of a mosaic with it in the first cell."""
        images = self._data.images
        if not self._sequence.mosaic or random.random() >= self._sequence.mosaic:
            return images[source]
        others = random.integers(len(images), size=random.choice(MOSAICS) - 1)
        return [images[source], *(images[int(other)] for other in others)]

    def _passing(self, random: np.random.Generator) -> LabelledImage | None:
        """The image whose people pass through a sequence; None if nobody does."""
        if not self._sequence.passing or random.random() >= self._sequence.passing:
            return None
        return self._data.images[int(random.integers(len(self._data.images)))]

    def _first_predicted(self) -> int:
        last = self._sequence.frames - 1
        return min(self._options.given, last) if self._options.cyclic else last

    def _degrade(self, sequence: Sequence, random: np.random.Generator) -> Sequence:
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
                pairs.append(self._target(frame, sequence.sourced))
        maps, weights = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return {
            "frames": torch.from_numpy(np.stack([frame.image for frame in sequence.frames])),
            "maps": torch.from_numpy(maps),
            "weights": torch.from_numpy(weights),
            "given": torch.from_numpy(given),
            "readable": torch.from_numpy(readable),
        }

    def _target(self, frame: SequenceFrame, sourced: NDArray[np.bool_]) -> tuple[np.ndarray, np.ndarray]:
        """The maps to predict, and the weight of each cell."""
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
        poses = without_labels(frame.poses) if cold else frame.poses
        size = (self._size[1], self._size[0])
        maps = memory_maps(poses, skeleton, size, Mistakes() if cold else mistakes, random)
        return select_channels(maps, skeleton, self._channels)


class InterleavedSamples(Dataset):
    """Two kinds of samples, interleaved. An epoch has every sample of the first kind, and as many of the second."""

    def __init__(self, first: Samples, second: Samples) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return 2 * len(self._first)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        """Even numbers are of the first kind. The second kind counts its own epochs over its images or videos."""
        epoch, number = index
        index_in_kind, is_second = divmod(number, 2)
        if not is_second:
            return self._first[epoch, index_in_kind]
        return self._second[divmod(epoch * len(self._first) + index_in_kind, len(self._second))]


class SampleOrder(Sampler[tuple[int, int]]):
    """(epoch, number) of the samples of one process, starting at any point of the training.

    Each epoch has every sample once, in random order. Consecutive samples go to different processes, so that these
    together use the same batch as a single process.
    """

    def __init__(self, length: int, seed: int, start: int, rank: int = 0, processes: int = 1) -> None:
        """``start``: number of samples that all processes together have used before."""
        self._length = length
        self._seed = seed
        self._start = start
        self._rank = rank
        self._processes = processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Endless; training stops by itself."""
        position = self._start + self._rank
        epoch, order = -1, np.empty(0, int)
        while True:
            if position // self._length != epoch:
                epoch = position // self._length
                order = np.random.default_rng([self._seed, epoch]).permutation(self._length)
            yield epoch, int(order[position % self._length])
            position += self._processes


def prepare_worker(worker: int) -> None:  # noqa: ARG001 - the number that PyTorch passes
    """Prepare a data loader process: one thread, since it shares the cores with the network, and no reaction to Ctrl-C,
    which the main process handles."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
