"""Compares the network's detections with people's true positions, frame by frame."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.collected import Collected, Donor
from benchmarks.scenes.errors import (
    CLOSE,
    LONG_HIDDEN,
    LOWEST_PEAK,
    SURE_PEAK,
)
from benchmarks.scenes.geometry import PAIRS, box_overlaps, stray
from benchmarks.scenes.tracks import EDGES, JOINTS
from benchmarks.scenes.view import OWN_CENTRE, View, boxes, whole_people
from stm_skeletons.detections import Detections
from training.data.sequence import Sequence

SMALLEST = 40.0
"""Smallest size of a donor in network pixels."""
_AROUND = 0.3
"""Largest distance from the nearest joint, in sizes, at which a false peak is near a person."""


def observe(
    sequence: Sequence, seen: NDArray, found: Iterable[Detections], occluded: bool, collected: Collected
) -> None:
    """Add the errors of a sequence.

    Args:
        sequence: with its ground truth.
        seen: [P, 13] COCO's visibility of the people's joints.
        found: detections of each frame.
        occluded: whether an occluder moves through the sequence; only errors under it are added then.
        collected: where the errors are added.
    """
    low, high = boxes(sequence.frames[0].poses)
    whole = whole_people(sequence.frames[0].poses) & (np.linalg.norm(high - low, axis=1) >= SMALLEST)
    donors = [Donor() for _ in np.flatnonzero(whole)]
    hidden_for = np.zeros(seen.shape, int)
    before = sequence.frames[0].poses[:, list(JOINTS), :2]
    first = len(collected.people)
    for number, (frame, detections) in enumerate(zip(sequence.frames, found, strict=True)):
        view = View(frame.poses[:, list(JOINTS)], seen, frame.inside[:, list(JOINTS)], frame.boxes, detections)
        hidden = frame.hidden[:, list(JOINTS)]
        if number:
            _add_moves(view, before, hidden, hidden_for > 0, whole, occluded, collected)
            hidden_for = np.where(hidden, hidden_for + 1, 0)
            if occluded:
                _add_covered(view, hidden_for, whole, collected)
            else:
                for i, person in enumerate(np.flatnonzero(whole)):
                    _add_donor(view, int(person), donors[i], first + i, number - 1, collected)
                _add_centres(view, collected)
                _add_false(view, whole, first, number - 1, collected)
                _add_strays(view, collected)
        before = frame.poses[:, list(JOINTS), :2]
    if not occluded:
        collected.people += donors
        collected.seen += list(seen[whole])


def _add_donor(view: View, person: int, donor: Donor, number: int, frame: int, collected: Collected) -> None:
    size, own = view.sizes[person], view.own_peak[person]
    donor.size.append(size)
    donor.close.append(box_overlaps(view.low, view.high)[person] >= CLOSE)
    peaks = np.full((len(JOINTS), 3), np.nan)
    known = view.inside[person]
    peaks[known, 2] = 0
    hit = np.flatnonzero(own >= 0)
    chosen = view.peaks[hit, own[hit]]
    peaks[hit] = np.column_stack([(chosen[:, :2] - view.xy[person, hit]) / size, chosen[:, 2]])
    donor.peaks.append(peaks)
    edges = np.full(len(EDGES), np.nan)
    for edge, (a, b) in enumerate(PAIRS):
        if own[a] >= 0 and own[b] >= 0:
            edges[edge] = view.edge_scores[edge, own[a], own[b]]
    donor.edges.append(edges)
    centre, expected = np.array([np.nan, np.nan, 0]), np.full((len(JOINTS), 2), np.nan)
    if (index := view.own_centre[person]) >= 0:
        centre, expected = _centre(view, person, int(index))
    donor.centres.append(centre)
    donor.expected.append(expected)
    # Further centres whose expected joints fit the same person.
    for other in np.flatnonzero(view.centre_error[person] < OWN_CENTRE):
        if other not in view.own_centre and view.centre_error[:, other].argmin() == person:
            second, joints = _centre(view, person, int(other))
            collected.extra.append((number, frame, *second, *joints.ravel()))


def _centre(view: View, person: int, index: int) -> tuple[NDArray, NDArray]:
    size, centre = view.sizes[person], view.centres[index]
    expected = (view.expected[index] - view.xy[person]) / size
    expected[~view.labelled[person]] = np.nan
    return np.array([*(centre[:2] - view.middle(person)) / size, centre[2]]), expected


def _add_false(view: View, whole: NDArray, first: int, frame: int, collected: Collected) -> None:
    """Add peaks that belong to nobody: near donors, or far from all people."""
    number = {person: first + i for i, person in enumerate(np.flatnonzero(whole))}
    strangers = view.expected[(view.centre_error >= OWN_CENTRE).all(axis=0)]
    for joint, peaks in enumerate(view.peaks):
        taken = view.own_peak[:, joint]
        for i in np.flatnonzero(peaks[:, 2] >= LOWEST_PEAK):
            if i in taken:
                continue
            distance = np.linalg.norm(view.xy - peaks[i, :2], axis=-1) / view.sizes[:, None]
            distance[~view.labelled] = np.inf
            person, anchor = np.unravel_index(distance.argmin(), distance.shape)
            beside = distance.min(axis=1) < _AROUND
            if (beside & ~view.inside[:, joint]).any():
                continue
            if beside.any():
                if person in number:
                    at = (peaks[i, :2] - view.xy[person, anchor]) / view.sizes[person]
                    collected.near.append((number[person], frame, joint, anchor, *at, peaks[i, 2]))
            elif not _of_strangers(peaks[i, :2], strangers):
                collected.far.append((collected.images, joint, peaks[i, 2]))
    collected.images += 1


def _of_strangers(point: NDArray, expected: NDArray) -> bool:
    """Whether a point is near a joint expected by a centre without a labelled person, who may well be there."""
    sizes = np.linalg.norm(np.ptp(expected, axis=1), axis=-1)
    return bool((np.linalg.norm(expected - point, axis=-1).min(axis=1, initial=np.inf) < _AROUND * sizes).any())


def _add_strays(view: View, collected: Collected) -> None:
    """Add scores of edges between peaks that do not belong to the same person."""
    owner = np.full(view.peaks.shape[:2], -1)
    for person, own in enumerate(view.own_peak):
        hit = np.flatnonzero(own >= 0)
        owner[hit, own[hit]] = person
    for edge, (a, b) in enumerate(PAIRS):
        starts, ends = (np.flatnonzero(view.peaks[joint, :, 2] >= LOWEST_PEAK) for joint in (a, b))
        both = view.labelled[:, a] & view.labelled[:, b]
        far = stray(view.peaks[a, starts, :2], view.peaks[b, ends, :2], view.xy[both][:, [a, b]])
        first, second = owner[a, starts][:, None], owner[b, ends][None]
        wrong = ((first != second) | (first < 0)) & np.isfinite(far)
        scores = view.edge_scores[edge][np.ix_(starts, ends)]
        collected.strays[edge] += list(zip(far[wrong].tolist(), scores[wrong].tolist(), strict=True))


def _add_covered(view: View, hidden_for: NDArray, whole: NDArray, collected: Collected) -> None:
    for person in np.flatnonzero(whole):
        joints = np.flatnonzero(view.labelled[person] & (view.seen[person] == 2))
        for joint in joints[hidden_for[person, joints] > 0]:
            row = (0.0, 0.0, 0.0)
            if (own := view.own_peak[person, joint]) >= 0:
                peak = view.peaks[joint, own]
                row = (*(peak[:2] - view.xy[person, joint]) / view.sizes[person], peak[2])
            collected.covered.append((min(hidden_for[person, joint], LONG_HIDDEN), *row))


def _add_centres(view: View, collected: Collected) -> None:
    """Add whether centres are found of people who are partly hidden or outside the frame."""
    for person in np.flatnonzero(view.inside.any(axis=1) & (view.sizes >= SMALLEST)):
        own = view.own_peak[person]
        hit = np.flatnonzero(own >= 0)
        sure = (view.peaks[hit, own[hit], 2] >= SURE_PEAK).sum()
        index = view.own_centre[person]
        score = view.centres[index, 2] if index >= 0 else 0
        collected.centre_when_hidden.append((sure, 1 - view.inside[person].mean(), score))


def _add_moves(
    view: View,
    before: NDArray,
    hidden: NDArray,
    was_hidden: NDArray,
    whole: NDArray,
    occluded: bool,
    collected: Collected,
) -> None:
    """Add the errors of ``previous``."""
    true = before - view.xy
    for person in np.flatnonzero(whole):
        own = view.own_peak[person]
        hit = np.flatnonzero((own >= 0) & ~hidden[person])
        predicted = view.previous[hit, own[hit]] - view.peaks[hit, own[hit], :2]
        error = np.full((len(JOINTS), 2), np.nan)
        error[hit] = predicted - true[person, hit]
        if occluded:
            collected.came_back += list(error[hit[was_hidden[person, hit]]])
        elif len(hit) >= 4:
            collected.moved.append((true[person][view.labelled[person]].mean(axis=0), error))
