"""The main job: every frame of a source through a session into the sinks."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from runtime.session import Session
from runtime.sinks import Sink
from runtime.sources import Frame, Source
from stm_skeletons.errors import SourceError
from stm_skeletons.parts import Parts
from stm_skeletons.signals import stop_signals


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    frames: int
    people: int
    """Over all frames, as are keypoints and edges."""
    keypoints: int
    edges: int
    seconds: float
    """Wall time from the first frame to the last, decoding and writing included."""
    stopped: bool
    """Whether a signal or a sink ended it early."""
    signalled: bool
    """Whether it was a signal."""
    broken: SourceError | None
    """Why a live source ended; its outputs were finished all the same."""


def run(
    source: Source,
    session: Session,
    sinks: list[Sink],
    max_frames: int | None = None,
    on_frame: Callable[[Frame, Parts], None] | None = None,
) -> Summary:
    """Process frames until the source ends, ``max_frames`` are done, a sink asks to stop, or Ctrl-C or SIGTERM.

    Outputs are finished in all these cases, and also when a camera or stream breaks. Any other error leaves none.

    Raises:
        SourceError: the source cannot be read to its end and is not live.
        SinkError, BackendError: as they occur.
    """
    frames = people = keypoints = edges = 0
    broken: SourceError | None = None
    stopped = False
    started = time.perf_counter()
    with ExitStack() as stack:
        # First in, last out: a signal while the files are being finished must not cut them off.
        asked_to_stop = stack.enter_context(stop_signals())
        for sink in sinks:
            stack.enter_context(sink)
        try:
            for frame in source:
                parts = session.step(frame.image)
                answers = [sink.write(frame, parts) for sink in sinks]  # every sink gets the frame, whatever one says
                frames += 1
                people += len(parts.people)
                keypoints += len(parts.keypoints)
                edges += len(parts.edge_ends)
                if on_frame is not None:
                    on_frame(frame, parts)
                stopped = not all(answers) or asked_to_stop.is_set()
                if stopped or frames == max_frames:
                    break
        except SourceError as error:
            if not source.live or not frames:
                raise
            # The signal that stops us may also end the pipeline that feeds us: that is no fault.
            stopped = asked_to_stop.is_set()
            broken = None if stopped else error
        signalled = asked_to_stop.is_set()
    return Summary(frames, people, keypoints, edges, time.perf_counter() - started, stopped, signalled, broken)
