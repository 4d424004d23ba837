"""Ours, and simpler ways of doing the same: from what is found in each frame to people with numbers."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.association import PERSON_THRESHOLD, find_people
from stm_skeletons.detections import Detections
from stm_skeletons.identity import LOST_FRAMES, Identities
from stm_skeletons.people import People, nobody
from stm_skeletons.skeleton import COCO17

LOWEST = 0.1
"""Score of peaks and centres that nearest neighbour takes."""

Grouping = Callable[[Detections], People]
_NOWHERE = -1e6
"""Network pixels; nobody is near."""


class Way(Protocol):
    """Goes through a video frame by frame."""

    def step(self, found: Detections) -> People:
        """Everybody in the next frame, with ids; 0 for none yet. ``previous`` of slot 0 is of the frame before."""
        ...


class Numbering(Protocol):
    """Gives people their numbers, frame by frame."""

    def update(self, people: People, previous: NDArray[np.float32]) -> People:
        """The same people with their ids; ``previous`` [NK, K, 2] is where their peaks were in the frame before."""
        ...


class Ours:
    """As a session does it, with some of what it goes by taken away if so wanted."""

    def __init__(self, centres: bool = True, memory: bool = True, speed: bool = True) -> None:
        """
        Args:
            centres: of people, for grouping.
            memory: what it says about where peaks were; without it they were nowhere near.
            speed: of people, as far as they have been followed; without it they are expected where they were.
        """
        self._centres, self._memory = centres, memory
        self._identities = Identities(COCO17) if speed else _Standing(COCO17)

    def step(self, found: Detections) -> People:
        """See Way."""
        if not self._centres:
            found = replace(found, centres=found.centres[:0], centre_joints=found.centre_joints[:0])
        if not self._memory:
            found = replace(found, previous=np.full_like(found.previous, _NOWHERE))
        return self._identities.update(found, 0)


class _Standing(Identities):
    """Takes nobody to be moving."""

    def update(self, found: Detections, newest: int) -> People:
        people = super().update(found, newest)
        self._speed[:] = 0
        return people


class InTwo:
    """People from elsewhere, numbered afterwards."""

    def __init__(self, grouping: Grouping, numbering: Numbering) -> None:
        self._grouping, self._numbering = grouping, numbering

    def step(self, found: Detections) -> People:
        """See Way."""
        return self._numbering.update(self._grouping(found), found.previous[0])


def frame_by_frame(found: Detections) -> People:
    """Ours, without a glance at the frames before."""
    return find_people(found, COCO17)


def nearest(found: Detections) -> People:
    """Each peak to the person whose centre expects that joint nearest to it; the surest of several stays."""
    kept = found.centres[:, 2] >= LOWEST
    centres, places = found.centres[kept, 2], found.centre_joints[kept]
    if not kept.any():
        return nobody(len(found.peaks))
    peaks = np.full(places.shape[:2], -1)
    keypoints = np.concatenate([places, np.full((*places.shape[:2], 1), 0.01)], axis=-1).astype(np.float32)
    for joint, of_joint in enumerate(found.peaks):
        for peak in np.flatnonzero(of_joint[:, 2] >= LOWEST)[::-1]:  # the surest last
            person = np.linalg.norm(places[:, joint] - of_joint[peak, :2], axis=1).argmin()
            peaks[person, joint] = peak
            keypoints[person, joint] = of_joint[peak]
    people = People(centres.astype(np.float32), keypoints, peaks, np.zeros(len(centres), np.int64))
    return people.chosen(np.flatnonzero((peaks >= 0).any(axis=1)))


class NearestMiddle:
    """The number of whoever's middle was nearest in the frame before, within half a size; else a new one."""

    def __init__(self) -> None:
        self._last = 0
        self._before: list[tuple[int, NDArray]] = []

    def update(self, people: People, previous: NDArray[np.float32]) -> People:  # noqa: ARG002
        """See Numbering; people have a number from the first frame on."""
        ids = np.zeros(len(people), np.int64)
        boxes = people.boxes()
        middles = boxes[:, :2] + boxes[:, 2:] / 2
        free = list(self._before)
        for m, middle in enumerate(middles):
            distance = [float(np.linalg.norm(middle - other)) for _, other in free]
            if distance and min(distance) <= 0.5 * float(np.linalg.norm(boxes[m, 2:])):
                ids[m] = free.pop(int(np.argmin(distance)))[0]
            else:
                self._last += 1
                ids[m] = self._last
        self._before = [(int(number), middle) for number, middle in zip(ids, middles, strict=True)]
        return replace(people, ids=ids)


class ByteTrack:
    """roboflow's ByteTrack on the people's boxes; needs the package ``trackers``, which nothing else here does."""

    def __init__(self) -> None:
        """Raises ImportError without the package."""
        # Its own thresholds are for detectors' scores, which are higher than people's; of several this did best.
        self._tracker = import_module("trackers").ByteTrackTracker(
            lost_track_buffer=LOST_FRAMES,
            track_activation_threshold=PERSON_THRESHOLD,
            high_conf_det_threshold=PERSON_THRESHOLD,
        )

    def update(self, people: People, previous: NDArray[np.float32]) -> People:  # noqa: ARG002
        """See Numbering."""
        boxes = people.boxes()
        boxes[:, 2:] += boxes[:, :2]
        detections = import_module("supervision").Detections(
            xyxy=boxes, confidence=people.scores, class_id=np.arange(len(people)), data={}
        )
        tracked = self._tracker.update(detections)
        ids = np.zeros(len(people), np.int64)
        if len(tracked):
            # It counts from 0, and says -1 for who is not followed yet.
            ids[tracked.class_id] = np.asarray(tracked.tracker_id) + 1
        return replace(people, ids=ids)


WAYS: dict[tuple[str, str], Callable[[], Way]] = {
    ("ours", "ours"): Ours,
    ("ours", "ours, memory alone"): lambda: Ours(speed=False),
    ("ours", "ours, constant velocity alone"): lambda: Ours(memory=False),
    ("ours", "ours, neither"): lambda: Ours(memory=False, speed=False),
    ("ours", "ByteTrack on boxes"): lambda: InTwo(Ours().step, ByteTrack()),
    ("ours, frame by frame", "ByteTrack on boxes"): lambda: InTwo(frame_by_frame, ByteTrack()),
    ("edges alone", "ours"): lambda: Ours(centres=False),
    ("nearest neighbour", "nearest middle"): lambda: InTwo(nearest, NearestMiddle()),
}
"""By what makes the people and what numbers them."""
