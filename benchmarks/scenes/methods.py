"""Our method of grouping detections into people with ids, and baselines."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.association import PERSON_THRESHOLD, find_people
from stm_skeletons.detections import Detections
from stm_skeletons.identity import LOST_FRAMES, Identities
from stm_skeletons.people import People, no_people
from stm_skeletons.skeleton import COCO17

LOWEST = 0.1
"""Lowest score of peaks and centres that ``nearest`` uses."""

Grouping = Callable[[Detections], People]
_NOWHERE = -1e6
"""A position in network pixels that is far from everyone."""


class Method(Protocol):
    """Groups and tracks people frame by frame."""

    def step(self, found: Detections) -> People:
        """All people in the next frame, with ids (0: none yet). Slot 0 of ``previous`` is the frame before."""
        ...


class IdAssignment(Protocol):
    """Assigns ids to people frame by frame."""

    def update(self, people: People, previous: NDArray[np.float32]) -> People:
        """The same people with ids; ``previous`` [NK, K, 2]: positions of the peaks in the frame before."""
        ...


class Ours:
    """The method of a session. Each of its inputs can be disabled."""

    def __init__(self, centres: bool = True, memory: bool = True, speed: bool = True) -> None:
        """
        Args:
            centres: whether to use people's centres for grouping.
            memory: whether to use the memory's previous positions of peaks.
            speed: whether to use people's speed; without it, people are expected where they were.
        """
        self._centres, self._memory = centres, memory
        self._identities = Identities(COCO17) if speed else _Stationary(COCO17)

    def step(self, found: Detections) -> People:
        """See Method."""
        if not self._centres:
            found = replace(found, centres=found.centres[:0], centre_joints=found.centre_joints[:0])
        if not self._memory:
            found = replace(found, previous=np.full_like(found.previous, _NOWHERE))
        return self._identities.update(found, 0)


class _Stationary(Identities):
    """Assumes that people do not move."""

    def update(self, found: Detections, newest: int) -> People:
        people = super().update(found, newest)
        self._speed[:] = 0
        return people


class TwoStep:
    """A grouping followed by a separate assignment of ids."""

    def __init__(self, grouping: Grouping, assignment: IdAssignment) -> None:
        self._grouping, self._assignment = grouping, assignment

    def step(self, found: Detections) -> People:
        """See Method."""
        return self._assignment.update(self._grouping(found), found.previous[0])


def frame_by_frame(found: Detections) -> People:
    """Our grouping, without earlier frames."""
    return find_people(found, COCO17)


def nearest(found: Detections) -> People:
    """Assigns each peak to the person whose centre expects this joint nearest to it; of several, the best is kept."""
    kept = found.centres[:, 2] >= LOWEST
    centres, expected = found.centres[kept, 2], found.centre_joints[kept]
    if not kept.any():
        return no_people(len(found.peaks))
    peaks = np.full(expected.shape[:2], -1)
    keypoints = np.concatenate([expected, np.full((*expected.shape[:2], 1), 0.01)], axis=-1).astype(np.float32)
    for joint, joint_peaks in enumerate(found.peaks):
        for peak in np.flatnonzero(joint_peaks[:, 2] >= LOWEST)[::-1]:  # the best last
            person = np.linalg.norm(expected[:, joint] - joint_peaks[peak, :2], axis=1).argmin()
            peaks[person, joint] = peak
            keypoints[person, joint] = joint_peaks[peak]
    people = People(centres.astype(np.float32), keypoints, peaks, np.zeros(len(centres), np.int64))
    return people.chosen(np.flatnonzero((peaks >= 0).any(axis=1)))


class NearestBox:
    """Assigns the id of the nearest box centre in the frame before, within half a box diagonal; else a new id."""

    def __init__(self) -> None:
        self._last = 0
        self._before: list[tuple[int, NDArray]] = []

    def update(self, people: People, previous: NDArray[np.float32]) -> People:  # noqa: ARG002
        """See IdAssignment; people have an id from the first frame on."""
        ids = np.zeros(len(people), np.int64)
        boxes = people.boxes()
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        free = list(self._before)
        for m, centre in enumerate(centres):
            distance = [float(np.linalg.norm(centre - other)) for _, other in free]
            if distance and min(distance) <= 0.5 * float(np.linalg.norm(boxes[m, 2:])):
                ids[m] = free.pop(int(np.argmin(distance)))[0]
            else:
                self._last += 1
                ids[m] = self._last
        self._before = [(int(number), centre) for number, centre in zip(ids, centres, strict=True)]
        return replace(people, ids=ids)


class ByteTrack:
    """roboflow's ByteTrack on people's boxes. Needs the package ``trackers``, which is not a dependency."""

    def __init__(self) -> None:
        """Raises ImportError without the package."""
        # Its default thresholds are for detectors, whose scores are higher; these were the best of several.
        self._tracker = import_module("trackers").ByteTrackTracker(
            lost_track_buffer=LOST_FRAMES,
            track_activation_threshold=PERSON_THRESHOLD,
            high_conf_det_threshold=PERSON_THRESHOLD,
        )

    def update(self, people: People, previous: NDArray[np.float32]) -> People:  # noqa: ARG002
        """See IdAssignment."""
        boxes = people.boxes()
        boxes[:, 2:] += boxes[:, :2]
        detections = import_module("supervision").Detections(
            xyxy=boxes, confidence=people.scores, class_id=np.arange(len(people)), data={}
        )
        tracked = self._tracker.update(detections)
        ids = np.zeros(len(people), np.int64)
        if len(tracked):
            # ByteTrack counts from 0 and gives -1 to people that it does not track yet.
            ids[tracked.class_id] = np.asarray(tracked.tracker_id) + 1
        return replace(people, ids=ids)


METHODS: dict[tuple[str, str], Callable[[], Method]] = {
    ("ours", "ours"): Ours,
    ("ours", "ours, memory only"): lambda: Ours(speed=False),
    ("ours", "ours, constant velocity only"): lambda: Ours(memory=False),
    ("ours", "ours, neither"): lambda: Ours(memory=False, speed=False),
    ("ours", "ByteTrack on boxes"): lambda: TwoStep(Ours().step, ByteTrack()),
    ("ours, frame by frame", "ByteTrack on boxes"): lambda: TwoStep(frame_by_frame, ByteTrack()),
    ("edges only", "ours"): lambda: Ours(centres=False),
    ("nearest neighbour", "nearest box"): lambda: TwoStep(nearest, NearestBox()),
}
"""Methods by the names of their grouping and their id assignment."""
