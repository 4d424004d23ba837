"""OKS AP and AR of people over many frames, and how many are reported beside how many are labelled.

What is kept of a frame is whether each of its people was right at each level of similarity; so evaluations can be
merged, restricted to some frames, drawn again for intervals, and compared in pairs.
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
"""Most people whom MoveNet's own decoding can report: frames with more are told apart."""

Interval = tuple[float, float] | None


def _scores(value: ArrayLike) -> NDArray[np.float64]:
    array = np.array(value, float)
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite numbers")
    array.setflags(write=False)
    return array


Scores = Annotated[NDArray[np.float64], PlainValidator(_scores), PlainSerializer(lambda array: array.tolist())]
"""Numbers, an array in Python and a list in JSON."""


class PeopleEvaluation(Strict):
    """What was counted on F frames of S sequences, with D people in them. JSON in, JSON out."""

    person_threshold: float
    """Score from which on people are reported."""
    frames: Counts
    """[S]: frames of each sequence; sequences are what intervals draw."""
    labelled: Counts
    """[F]: people with a labelled joint inside the frame."""
    reported: Counts
    """[F]: people from the threshold on, but for those mostly in ignored regions."""
    people: Counts
    """[F]: people who count (see oks.LOWEST and oks.MOST)."""
    scores: Scores
    """[D] of these."""
    right: Counts
    """[D]: bit i is set where the person is somebody labelled at level i (see oks.LEVELS)."""
    ignored: Counts
    """[D]: bit i is set where the person is neither right nor wrong at level i."""
    by_size: dict[str, "PeopleEvaluation"] = Field(default_factory=dict)
    """The same for people of one size (see oks.SIZES), of the same frames."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "PeopleEvaluation":
        frames, people = int(self.frames.sum()), int(self.people.sum())
        if any(array.shape != (frames,) for array in (self.labelled, self.reported, self.people)):
            raise ValueError("people were not counted for the same frames")
        if any(array.shape != (people,) for array in (self.scores, self.right, self.ignored)):
            raise ValueError("people and their scores do not fit")
        if any(len(one.frames) != len(self.frames) for one in self.by_size.values()):
            raise ValueError("people of one size were not counted for the same sequences")
        return self

    def figures(self) -> dict[str, float]:
        """AP, AP50, AP75 and AR; NaN where nobody is labelled."""
        return dict(zip(FIGURES, self.ranking.figures(np.ones(len(self.frames), int)).tolist(), strict=True))

    def intervals(self) -> dict[str, Interval]:
        """95 % of each figure over another choice of as many such sequences (bootstrap, always the same); None with
        fewer than two."""
        return {name: percentiles(drawn, len(self.frames)) for name, drawn in zip(FIGURES, self.drawn.T, strict=True)}

    @property
    def labelled_per_frame(self) -> float:
        """People labelled in a frame, on average."""
        return float(ratio(self.labelled.sum(), len(self.labelled)))

    @property
    def reported_per_frame(self) -> float:
        """People reported in a frame, on average."""
        return float(ratio(self.reported.sum(), len(self.reported)))

    def with_labelled(self, at_least: int = 0, at_most: int | None = None) -> "PeopleEvaluation":
        """Only the frames with so many labelled people, and the sequences that have some."""
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
        """All frames; those with at most CROWD labelled people and with more, as far as there are both; and people of
        each size, as far as there are several."""
        apart = {
            f"at most {CROWD}": self.with_labelled(at_most=CROWD),
            f"more than {CROWD}": self.with_labelled(at_least=CROWD + 1),
        }
        sizes = {size: group for size, group in self.by_size.items() if group.labelled.any()}
        groups = {"any": self} | (apart if all(len(group.labelled) for group in apart.values()) else {})
        return groups | (sizes if len(sizes) > 1 else {})

    def merged(self, other: "PeopleEvaluation") -> "PeopleEvaluation":
        """Both together. Raises DataError when they report people from different thresholds."""
        if self.person_threshold != other.person_threshold:
            raise DataError("cannot merge evaluations of different person_threshold; evaluate both in the same way")
        arrays = ("frames", "labelled", "reported", "people", "scores", "right", "ignored")
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in arrays}
        sizes = {size: one.merged(other.by_size[size]) for size, one in self.by_size.items() if size in other.by_size}
        return PeopleEvaluation(person_threshold=self.person_threshold, **both, by_size=sizes)

    @cached_property
    def drawn(self) -> NDArray[np.float64]:
        """[RESAMPLES, FIGURES]: the figures of every draw of sequences."""
        return np.array([self.ranking.figures(times) for times in resamples(len(self.frames))])

    @cached_property
    def ranking(self) -> Ranking:
        """What the figures of any draw of sequences follow from."""
        order = np.argsort(-self.scores, kind="stable")
        of_frame = np.repeat(np.arange(len(self.frames)), self.frames)
        bits = 1 << np.arange(len(LEVELS))[:, None]
        right, ignored = (array[order] & bits > 0 for array in (self.right, self.ignored))
        labelled = np.bincount(of_frame, self.labelled, len(self.frames)).astype(int)
        return Ranking(np.repeat(of_frame, self.people)[order], right, ~ignored, labelled)


@dataclass(frozen=True)
class PeopleComparison:
    """Two evaluations on the same frames. Intervals are of both drawn together, 95 %; None with fewer than two
    sequences."""

    ap: float
    other_ap: float
    difference: float
    """``ap`` less ``other_ap``."""
    difference_interval: Interval
    ratio: float
    """``ap`` over ``other_ap``; NaN where that is 0."""
    ratio_interval: Interval


def compare_people(ours: PeopleEvaluation, other: PeopleEvaluation) -> PeopleComparison:
    """AP of two, paired: every draw takes the same sequences of both.

    Raises:
        DataError: they are not of the same frames.
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
    """Counts frame by frame and sequence by sequence."""

    def __init__(self, skeleton: Skeleton, person_threshold: float = PERSON_THRESHOLD) -> None:
        """``person_threshold``: score from which on people are reported; AP does not go by it."""
        self._skeleton, self._threshold = skeleton, person_threshold
        self._frames: list[int] = []
        self._matches: list[dict[str, Matches]] = []
        self._reported: list[dict[str, int]] = []

    def begin(self, sourced: NDArray[np.bool_]) -> None:
        """Go on to the next sequence, whose data label these joints [NK]."""
        self._sourced = sourced
        self._frames.append(0)

    def count(self, frame: SequenceFrame, people: People) -> None:
        """Count a frame with the people that were found in it, in network pixels."""
        self._frames[-1] += 1
        self._matches.append(match_people(people, frame, self._skeleton, self._sourced))
        shown = (people.scores >= np.float32(self._threshold)) & ~in_ignored_regions(people, frame)
        areas = found_areas(people)[shown]
        self._reported.append(
            {size: int(((areas >= low) & (areas <= high)).sum()) for size, (low, high) in SIZES.items()}
        )

    def result(self) -> PeopleEvaluation:
        """All that was counted."""
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
            labelled=np.array([one.labelled for one in counted], int),
            reported=np.array([of_sizes[size] for of_sizes in self._reported], int),
            people=np.array([len(one.scores) for one in counted], int),
            scores=np.concatenate([one.scores for one in matches]),
            right=np.concatenate([one.right @ bits for one in matches]),
            ignored=np.concatenate([one.ignored @ bits for one in matches]),
            by_size=by_size or {},
        )
