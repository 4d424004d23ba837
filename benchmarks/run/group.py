"""Compares several cameras in one group with a session for each, interleaved on the same frames."""

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
"""Warm-up rounds."""


class Group(Strict):
    """Times of a step of several cameras, from decoded frames to the parts of all."""

    cameras: int = Field(ge=1)
    batch: int = Field(ge=1, description="The bundle's batch. A single session takes as long as a whole batch.")
    group: Summary = Field(description="A step of one SessionGroup with all cameras.")
    in_turn: Summary = Field(description="A step of each camera's own session, one after the other in one thread.")
    ratio: float = Field(description="Time of the group divided by that of the sessions, median over the rounds.")


def run_group(
    cameras: int, source: str, bundle: Bundle, options: BackendOptions, seconds: float, stop: threading.Event
) -> Group | None:
    """Time the steps of a group and of separate sessions on the same frames.

    Args:
        cameras: number of cameras; each starts at another frame of the source.
        source: a video.
        bundle, options: what to run. With a batched bundle, a single session takes as long as a whole batch.
        seconds: approximate time for both together.
        stop: ends the measurement early when set; the result is None then.

    Raises:
        StmError: the source or the bundle cannot be opened.
    """
    times: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        footage = [stack.enter_context(closing(Footage(source))) for _ in range(cameras)]
        for number, each in enumerate(footage):
            for _ in range(number):
                each.read()
        group = stack.enter_context(SessionGroup.open(bundle, cameras, options))
        sessions = [stack.enter_context(SessionGroup.open(bundle, 1, options)) for _ in range(cameras)]

        def step_sessions(frames: dict[int, NDArray[np.uint8]]) -> None:
            for camera, frame in frames.items():
                sessions[camera].step({0: frame})

        steps: tuple[Callable[[dict[int, NDArray[np.uint8]]], object], ...] = (group.step, step_sessions)
        end = perf_counter() + seconds
        for number in rounds_from():
            if stop.is_set():
                return None
            frames = {camera: each.read()[0] for camera, each in enumerate(footage)}
            for index in (0, 1) if number % 2 else (1, 0):
                started = perf_counter()
                steps[index](frames)
                if number >= WARM_UP:
                    times[index].append((perf_counter() - started) * 1e3)
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
