"""Several cameras in one group beside a session for each, in turn: both see the same frames, round by round."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import count as rounds_from
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.run.footage import Footage
from benchmarks.run.latency import Summary, summarise
from runtime.backends import BackendOptions
from runtime.session_group import SessionGroup
from stm_skeletons.bundle import Bundle
from stm_skeletons.strict import Strict

WARM_UP = 5
"""Rounds that do not count."""


class Group(Strict):
    """What a step of so many cameras takes, from decoded frames to parts of all of them."""

    cameras: int = Field(ge=1)
    batch: int = Field(ge=1, description="Of the bundle. A session alone takes as long as such a batch.")
    group: Summary = Field(description="One step of a SessionGroup.")
    in_turn: Summary = Field(description="A step of a session for each camera, one after the other in one thread.")
    ratio: float = Field(description="Median over the rounds of the group's time divided by that of the sessions.")


def run_group(
    cameras: int, source: str, bundle: Bundle, options: BackendOptions, seconds: float, stop: threading.Event
) -> Group | None:
    """Step a group and as many sessions for about so many seconds.

    Args:
        cameras: how many; each reads the source from another frame on.
        source: a video.
        bundle, options: what runs. Of a bundle for batches a session alone takes as long as a batch.
        seconds: for both together.
        stop: ends it early; None is returned then.

    Raises:
        StmError: what opening the source or the bundle raises.
    """
    times: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        footage = [stack.enter_context(closing(Footage(source))) for _ in range(cameras)]
        for number, each in enumerate(footage):
            for _ in range(number):
                each.read()
        group = stack.enter_context(SessionGroup.open(bundle, cameras, options))
        alone = [stack.enter_context(SessionGroup.open(bundle, 1, options)) for _ in range(cameras)]

        def in_turn(frames: dict[int, NDArray[np.uint8]]) -> None:
            for camera, frame in frames.items():
                alone[camera].step({0: frame})

        ways: tuple[Callable[[dict[int, NDArray[np.uint8]]], object], ...] = (group.step, in_turn)
        end = perf_counter() + seconds
        for number in rounds_from():
            if stop.is_set():
                return None
            frames = {camera: each.read()[0] for camera, each in enumerate(footage)}
            for way in (0, 1) if number % 2 else (1, 0):
                started = perf_counter()
                ways[way](frames)
                if number >= WARM_UP:
                    times[way].append((perf_counter() - started) * 1e3)
            if number > WARM_UP and perf_counter() >= end:
                break
    ratio = float(np.median(np.divide(*times)))
    return Group(
        cameras=cameras,
        batch=bundle.info.batch,
        group=summarise(times[0]),
        in_turn=summarise(times[1]),
        ratio=round(ratio, 4),
    )
