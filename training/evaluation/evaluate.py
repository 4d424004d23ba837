"""Runs networks over sequences and counts; works alike for a network in torch and for a bundle."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.errors import DataError, WeightsError
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.tracker import Tracker
from training.data.labels import LABELLED
from training.data.sequence import Sequence, SequenceFrame
from training.data.targets import make_targets
from training.evaluation.conditions import Start
from training.evaluation.evaluation import EvaluatedSequence, Evaluation, KeypointEvaluation, overall_joints
from training.evaluation.keypoints import (
    THRESHOLDS,
    KeypointCounts,
    count_keypoints,
    stack,
    zeros,
)
from training.evaluation.pairs import count_pairs
from training.evaluation.people_scores import PeopleTally
from training.evaluation.pixels import count_pixels
from training.evaluation.steadiness import SteadinessTally
from training.evaluation.tracking import TrackingTally, has_tracks
from training.model.parts import find_peaks

PEAKS = 30
"""Largest number of predictions of a joint in a frame."""


def evaluate(
    tracker: Tracker,
    sequences: Iterable[Sequence],
    skeleton: Skeleton,
    channels: tuple[str, ...],
    start: Start,
    threshold: float | None = None,
    progress: Callable[[], object] | None = None,
    every_frame: bool = False,
    person_threshold: float = PERSON_THRESHOLD,
) -> Evaluation:
    """Evaluate one network; arguments and errors as in evaluate_together."""
    trackers = {"": tracker}
    return evaluate_together(
        trackers, sequences, skeleton, channels, start, threshold, progress, every_frame, person_threshold
    )[""]


def evaluate_together(
    trackers: Mapping[str, Tracker],
    sequences: Iterable[Sequence],
    skeleton: Skeleton,
    channels: tuple[str, ...],
    start: Start,
    threshold: float | None = None,
    progress: Callable[[], object] | None = None,
    every_frame: bool = False,
    person_threshold: float = PERSON_THRESHOLD,
) -> dict[str, Evaluation]:
    """Evaluate several networks on the same sequences; all run a sequence before the next one is read.

    Args:
        trackers: the networks by name, all of one size.
        sequences: of the networks' size; read one after the other and not kept.
        skeleton: determines the order of the joints.
        channels: names of the trackers' maps.
        start: "seed": each sequence starts with the labelled people of its first frame, which is not counted, as in the
            paper; a sequence without labels in its first frame starts cold, and all its frames count. "cold": every
            sequence starts with an empty memory, and all its frames count.
        threshold: a threshold in (0, 1] to count in addition to those of the sweep.
        progress: called after every frame of every tracker.
        every_frame: whether the sequences have every frame of their videos, so that flicker and walk-ins are counted.
        person_threshold: lowest score of reported people; it does not affect OKS AP and PoseTrack's AP.

    Returns:
        Evaluations by the trackers' names.

    Raises:
        DataError: there is no frame to count, frames differ in size or have not the network's size, or the threshold is
            outside (0, 1].
        WeightsError: the network's maps are NaN or infinite.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise DataError(f"threshold is {threshold}, must be above 0 and at most 1")
    thresholds = THRESHOLDS if threshold is None else (*THRESHOLDS, threshold)
    counted = tuple(sorted(set(thresholds)))
    tallies = {name: _Tally(skeleton, channels, counted, every_frame, person_threshold) for name in trackers}
    for sequence in sequences:
        for name, tracker in trackers.items():
            _run_sequence(sequence, tracker, tallies[name], start, progress)
    return {name: tally.evaluation(start) for name, tally in tallies.items()}


def _run_sequence(
    sequence: Sequence, tracker: Tracker, tally: "_Tally", start: Start, progress: Callable[[], object] | None
) -> None:
    seeded = _begin(tracker, sequence, start)
    tally.begin(sequence)
    for number, frame in enumerate(sequence.frames):
        tracker.step(frame.image)
        if number >= int(seeded):
            tally.count(number, frame, tracker.maps())
            tally.count_people(frame, tracker.people())
        if progress is not None:
            progress()
    tally.end(EvaluatedSequence(name=sequence.name, frames=len(sequence.frames) - int(seeded), seeded=seeded))


def _begin(tracker: Tracker, sequence: Sequence, start: Start) -> bool:
    """Reset or seed the tracker; returns whether it was seeded."""
    if not sequence.frames:
        raise DataError(f"sequence {sequence.name} has no frames; remove it")
    first = sequence.frames[0]
    if start == "cold" or not first.inside.any():
        tracker.reset()
        return False
    labelled = first.poses[..., 2] == LABELLED
    tracker.seed(np.where(labelled[..., None], first.poses, np.float32(0))[labelled.any(axis=1)])
    return True


class _Tally:
    """Accumulates counts over frames and sequences."""

    def __init__(
        self,
        skeleton: Skeleton,
        channels: tuple[str, ...],
        thresholds: tuple[float, ...],
        every_frame: bool,
        person_threshold: float,
    ) -> None:
        self._skeleton, self._channels, self._thresholds = skeleton, channels, thresholds
        self._joint_channels = [channels.index(joint) for joint in skeleton.joints if joint in channels]
        self._edge_channels = [channels.index(edge) for edge in skeleton.edge_names if edge in channels]
        self._overall = overall_joints(skeleton)
        self._steadiness = SteadinessTally(thresholds, self._overall) if every_frame and self._joint_channels else None
        self._people = PeopleTally(skeleton, person_threshold)
        self._tracking = TrackingTally(len(skeleton.joints), person_threshold)
        self._has_people = True
        self._size: tuple[int, int] | None = None
        self._sourced = np.zeros(len(skeleton.joints), bool)
        self._sequences: list[EvaluatedSequence] = []
        self._pixels: list[NDArray[np.int64]] = []
        self._pairs: list[NDArray[np.int64]] = []
        self._by_joint = zeros(len(thresholds), len(skeleton.joints))
        self._by_sequence: list[KeypointCounts] = []
        self._by_frame: list[KeypointCounts] = []

    def begin(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self._sourced = self._sourced | sequence.sourced
        self._pixels.append(np.zeros((3, len(self._channels)), np.int64))
        self._pairs.append(np.zeros(2, np.int64))
        self._by_sequence.append(zeros(len(self._thresholds)))
        if self._steadiness is not None:
            self._steadiness.begin(sequence)
        self._people.begin(sequence.sourced)
        self._has_tracks = has_tracks(sequence)
        if self._has_tracks:
            self._tracking.begin(sequence.sourced)
        for frame in sequence.frames:
            size = (frame.image.shape[1], frame.image.shape[0])
            self._size = self._size or size
            if size != self._size:
                raise DataError(
                    f"sequence {sequence.name} has frames of size {size}, others {self._size}; use one size"
                )

    def count(self, number: int, frame: SequenceFrame, maps: NDArray[np.float32]) -> None:
        targets, weights = make_targets(frame, self._skeleton, self._channels, self._sequence.sourced)
        if maps.shape != targets.shape:
            raise DataError(
                f"the network's maps are {list(maps.shape)}, but those of sequence {self._sequence.name} are "
                f"{list(targets.shape)}; use sequences of the network's size and skeleton"
            )
        if not np.isfinite(maps).all():
            raise WeightsError(
                f"the network's maps are NaN or infinite at frame {number} of sequence {self._sequence.name}; "
                "use other weights"
            )
        self._pixels[-1] += count_pixels(maps, targets, weights)
        if self._edge_channels:
            self._pairs[-1] += count_pairs(maps[self._edge_channels], frame, self._skeleton)
        if self._joint_channels:
            self._count_keypoints(number, frame, maps[self._joint_channels], weights[self._joint_channels])

    def count_people(self, frame: SequenceFrame, people: People | None) -> None:
        if people is None:
            self._has_people = False
            return
        self._people.count(frame, people)
        if self._has_tracks:
            self._tracking.count(frame, people)

    def _count_keypoints(
        self, number: int, frame: SequenceFrame, maps: NDArray[np.float32], weights: NDArray[np.bool_]
    ) -> None:
        found = find_peaks(torch.from_numpy(maps), min(PEAKS, maps[0].size))
        peaks, cells = found[0].numpy(), found[1].numpy().astype(int)
        counts = stack(
            self._count_joint(frame, joint, peaks[joint], weights[joint][cells[joint, :, 0], cells[joint, :, 1]])
            for joint in range(len(maps))
        )
        overall = counts[self._overall].total()
        self._by_joint += counts
        self._by_sequence[-1] += overall
        while len(self._by_frame) <= number:
            self._by_frame.append(zeros(len(self._thresholds)))
        self._by_frame[number] += overall
        if self._steadiness is not None:
            self._steadiness.count(number, frame, peaks)

    def _count_joint(
        self, frame: SequenceFrame, joint: int, peaks: NDArray[np.float32], known: NDArray[np.bool_]
    ) -> KeypointCounts:
        if not self._sequence.sourced[joint]:
            return zeros(len(self._thresholds))
        inside = frame.inside[:, joint]
        return count_keypoints(
            frame.poses[inside, joint, :2], peaks, self._thresholds, frame.hidden[inside, joint], known
        )

    def end(self, sequence: EvaluatedSequence) -> None:
        self._sequences.append(sequence)
        if self._steadiness is not None:
            self._steadiness.end()

    def evaluation(self, start: Start) -> Evaluation:
        if self._size is None or not any(sequence.frames for sequence in self._sequences):
            raise DataError("there is no frame to count; use sequences of at least two frames")
        keypoints = None
        if self._joint_channels:
            keypoints = KeypointEvaluation(
                by_joint=self._by_joint, by_sequence=stack(self._by_sequence), by_frame=stack(self._by_frame)
            )
        return Evaluation(
            skeleton=self._skeleton,
            channels=self._channels,
            start=start,
            size=self._size,
            sourced=tuple(self._skeleton.joints[i] for i in np.flatnonzero(self._sourced)),
            thresholds=self._thresholds,
            sequences=tuple(self._sequences),
            pixels=np.stack(self._pixels),
            keypoints=keypoints,
            pairs=np.stack(self._pairs) if self._edge_channels else None,
            steadiness=None if self._steadiness is None else self._steadiness.result(),
            people=self._people.result() if self._has_people else None,
            tracking=self._tracking.result() if self._has_people else None,
        )
