"""Latency against the number of people in the frame: the network's time does not depend on it, the host's may."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.run.latency import percentile_of, samples_needed
from stm_skeletons.strict import Strict


class PeopleBin(Strict):
    """Frames with the same number of people, decoded to parts, in milliseconds. Null: too few frames."""

    people: int = Field(description="The largest number of keypoints of any one joint.")
    count: int
    mean: float
    p10: float | None
    p50: float | None
    p90: float | None


def by_people(people: NDArray, frame_ms: NDArray) -> list[PeopleBin]:
    """Group frames [N] by the number of people in them."""
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
