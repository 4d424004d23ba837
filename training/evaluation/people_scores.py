"""OKS AP and AR of people over many frames, and the numbers of reported and labelled people.

For each frame the results of all its people at each level of similarity are kept. So evaluations can be merged,
restricted to some frames, resampled for intervals, and compared in pairs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.errors import DataError
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import Strict
from training.data.sequence import SequenceFrame
from training.evaluation.average_precision import FIGURES, Ranking
from training.evaluation.bootstrap import percentiles, resamples
from training.evaluation.keypoints import Counts, ratio
from training.evaluation.oks import LEVELS, SIZES, Matches, found_areas, in_ignored_regions, match_people

CROWD = 6
"""Largest number of people that MoveNet's own decoding reports; frames with more are also evaluated separately."""

Interval = tuple[float, float] | None


def _scores(value: ArrayLike) -> NDArray[np.float64]:
    array = np.array(value, float)
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite numbers")
    array.setflags(write=False)
    return array


Scores = Annotated[NDArray[np.float64], PlainValidator(_scores), PlainSerializer(lambda array: array.tolist())]
"""Finite numbers: an array in Python, a list in JSON."""


class PeopleEvaluation(Strict):
    """Counts on F frames of S sequences with D detected people. Can be written as JSON and read again."""

    person_threshold: float
    """Lowest score of reported people."""
    frames: Counts
    """[S]: frames of each sequence; intervals resample sequences."""
    labelled: Counts
    """[F]: people with a labelled joint inside the frame."""
    reported: Counts
    """[F]: people with at least the threshold's score, without those mostly in ignored regions."""
    people: Counts
    """[F]: people who count (see oks.LOWEST and oks.MOST)."""
    scores: Scores
    """[D]: scores of the people who count."""
    right: Counts
    """[D]: bit i is set if the person is correct at level i (see oks.LEVELS)."""
    ignored: Counts
    """[D]: bit i is set if the person is neither correct nor wrong at level i."""
    by_size: dict[str, "PeopleEvaluation"] = Field(default_factory=dict)
    """The same for people of each size (see oks.SIZES), on the same frames."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "PeopleEvaluation":
        frames, people = int(self.frames.sum()), int(self.people.sum())
        if any(array.shape != (frames,) for array in (self.labelled, self.reported, self.people)):
            raise ValueError("counts of people do not fit the frames")
        if any(array.shape != (people,) for array in (self.scores, self.right, self.ignored)):
            raise ValueError("scores do not fit the people")
        if any(len(group.frames) != len(self.frames) for group in self.by_size.values()):
            raise ValueError("people of one size do not fit the sequences")
        return self

    def figures(self) -> dict[str, float]:
        """AP, AP50, AP75 and AR; NaN if nobody is labelled."""
        return dict(zip(FIGURES, self.ranking.figures(np.ones(len(self.frames), int)).tolist(), strict=True))

    def intervals(self) -> dict[str, Interval]:
        """95% bootstrap interval of each figure over sequences; None with fewer than two."""
        return {name: percentiles(drawn, len(self.frames)) for name, drawn in zip(FIGURES, self.drawn.T, strict=True)}

    @property
    def labelled_per_frame(self) -> float:
        """Mean number of labelled people per frame."""
        return float(ratio(self.labelled.sum(), len(self.labelled)))

    @property
    def reported_per_frame(self) -> float:
        """Mean number of reported people per frame."""
        return float(ratio(self.reported.sum(), len(self.reported)))

    def with_labelled(self, at_least: int = 0, at_most: int | None = None) -> "PeopleEvaluation":
        """The same restricted to frames with a number of labelled people in this range."""
        kept = self.labelled >= at_least
        if at_most is not None:
            kept &= self.labelled <= at_most
        frames = np.bincount(np.repeat(np.arange(len(self.frames)), self.frames)[kept], minlength=len(self.frames))
        of_people = np.repeat(kept, self.people)
        return PeopleEvaluation(
            person_threshold=self.person_threshold,
            frames=frames[frames > 0],
            labelled=self.labelled[kept],
            reported=self.reported[kept],
            people=self.people[kept],
            scores=self.scores[of_people],
            right=self.right[of_people],
            ignored=self.ignored[of_people],
        )

    @cached_property
    def groups(self) -> dict[str, "PeopleEvaluation"]:
        """Groups of frames or people by name: all frames ("any"); frames with at most CROWD labelled people and with
        more, if there are both; and people by size, if there are several sizes."""
        by_crowd = {
            f"at most {CROWD}": self.with_labelled(at_most=CROWD),
            f"more than {CROWD}": self.with_labelled(at_least=CROWD + 1),
        }
        sizes = {size: group for size, group in self.by_size.items() if group.labelled.any()}
        groups = {"any": self} | (by_crowd if all(len(group.labelled) for group in by_crowd.values()) else {})
        return groups | (sizes if len(sizes) > 1 else {})

    def merged(self, other: "PeopleEvaluation") -> "PeopleEvaluation":
        """Both evaluations merged. Raises DataError if their person thresholds differ."""
        if self.person_threshold != other.person_threshold:
            raise DataError("cannot merge evaluations with different person_threshold; evaluate both in the same way")
        arrays = ("frames", "labelled", "reported", "people", "scores", "right", "ignored")
        merged = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in arrays}
        sizes = {
            size: group.merged(other.by_size[size]) for size, group in self.by_size.items() if size in other.by_size
        }
        return PeopleEvaluation(person_threshold=self.person_threshold, **merged, by_size=sizes)

    @cached_property
    def drawn(self) -> NDArray[np.float64]:
        """[RESAMPLES, FIGURES]: the figures of every resample of the sequences."""
        return np.array([self.ranking.figures(times) for times in resamples(len(self.frames))])

    @cached_property
    def ranking(self) -> Ranking:
        """The people in order of score, from which the figures of any resample are computed."""
        order = np.argsort(-self.scores, kind="stable")
        of_frame = np.repeat(np.arange(len(self.frames)), self.frames)
        bits = 1 << np.arange(len(LEVELS))[:, None]
        right, ignored = (array[order] & bits > 0 for array in (self.right, self.ignored))
        labelled = np.bincount(of_frame, self.labelled, len(self.frames)).astype(int)
        return Ranking(np.repeat(of_frame, self.people)[order], right, ~ignored, labelled)


@dataclass(frozen=True)
class PeopleComparison:
    """Comparison of two evaluations on the same frames, with paired 95% intervals (None with fewer than two
    sequences)."""

    ap: float
    other_ap: float
    difference: float
    """``ap`` minus ``other_ap``."""
    difference_interval: Interval
    ratio: float
    """``ap`` divided by ``other_ap``; NaN if that is 0."""
    ratio_interval: Interval


def compare_people(ours: PeopleEvaluation, other: PeopleEvaluation) -> PeopleComparison:
    """Compare the AP of two evaluations, paired: every resample draws the same sequences for both.

    Raises:
        DataError: the frames differ.
    """
    if not (np.array_equal(ours.frames, other.frames) and np.array_equal(ours.labelled, other.labelled)):
        raise DataError("cannot compare people on different frames; evaluate both on the same data")
    ap, other_ap = ours.figures()["AP"], other.figures()["AP"]
    drawn, other_drawn = ours.drawn[:, 0], other.drawn[:, 0]
    return PeopleComparison(
        ap,
        other_ap,
        ap - other_ap,
        percentiles(drawn - other_drawn, len(ours.frames)),
        float(ratio(ap, other_ap)),
        percentiles(ratio(drawn, other_drawn), len(ours.frames)),
    )


class PeopleTally:
    """Accumulates counts over frames and sequences."""

    def __init__(self, skeleton: Skeleton, person_threshold: float = PERSON_THRESHOLD) -> None:
        """``person_threshold``: lowest score of reported people; it does not affect AP."""
        self._skeleton, self._threshold = skeleton, person_threshold
        self._frames: list[int] = []
        self._matches: list[dict[str, Matches]] = []
        self._reported: list[dict[str, int]] = []

    def begin(self, sourced: NDArray[np.bool_]) -> None:
        """Begin a sequence whose data label these joints [NK]."""
        self._sourced = sourced
        self._frames.append(0)

    def count(self, frame: SequenceFrame, people: People) -> None:
        """Count a frame with its detected people, in network pixels."""
        self._frames[-1] += 1
        self._matches.append(match_people(people, frame, self._skeleton, self._sourced))
        reported = (people.scores >= np.float32(self._threshold)) & ~in_ignored_regions(people, frame)
        areas = found_areas(people)[reported]
        self._reported.append(
            {size: int(((areas >= low) & (areas <= high)).sum()) for size, (low, high) in SIZES.items()}
        )

    def result(self) -> PeopleEvaluation:
        """The counts of all frames."""
        every, *sizes = SIZES
        return self._result(every, {size: self._result(size) for size in sizes})

    def _result(self, size: str, by_size: dict[str, PeopleEvaluation] | None = None) -> PeopleEvaluation:
        bits = 1 << np.arange(len(LEVELS))
        none = Matches(np.zeros(0), np.zeros((0, len(LEVELS)), bool), np.zeros((0, len(LEVELS)), bool), 0)
        counted = [of_sizes[size] for of_sizes in self._matches]
        matches = [none, *counted]
        return PeopleEvaluation(
            person_threshold=self._threshold,
            frames=np.array(self._frames, int),
            labelled=np.array([each.labelled for each in counted], int),
            reported=np.array([of_sizes[size] for of_sizes in self._reported], int),
            people=np.array([len(each.scores) for each in counted], int),
            scores=np.concatenate([each.scores for each in matches]),
            right=np.concatenate([each.right @ bits for each in matches]),
            ignored=np.concatenate([each.ignored @ bits for each in matches]),
            by_size=by_size or {},
        )
