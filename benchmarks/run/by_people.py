"""Latency by number of people in the frame. The network's time does not depend on it; the host's may."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.run.latency import percentile_of, samples_needed
from stm_skeletons.strict import Strict


class PeopleBin(Strict):
    """Times of the frames with one number of people, from decoded frame to parts, in ms. Null: too few frames."""

    people: int = Field(description="Number of people: the most keypoints of any joint.")
    count: int
    mean: float
    p10: float | None
    p50: float | None
    p90: float | None


def by_people(people: NDArray, frame_ms: NDArray) -> list[PeopleBin]:
    """Statistics of the times [N] of frames for each number of people [N]."""
    bins = []
    for number in np.unique(people):
        times = frame_ms[people == number].astype(float)
        bins.append(
            PeopleBin(
                people=int(number),
                count=len(times),
                mean=round(float(times.mean()), 3),
                p10=percentile_of(times, 10) if len(times) >= samples_needed(90) else None,
                p50=percentile_of(times, 50),
                p90=percentile_of(times, 90),
            )
        )
    return bins
