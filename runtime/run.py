"""The main job: runs every frame of a source through a session into the sinks."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from runtime.ages import Ages
from runtime.frames import Frame, Source, rotated
from runtime.read_ahead import ReadAhead
from runtime.session import Session
from runtime.sinks import Sink
from stm_skeletons.errors import SourceError
from stm_skeletons.parts import Parts
from stm_skeletons.signals import stop_signals


@dataclass
class Summary:
    """Statistics of a run."""

    frames: int = 0
    people: int = 0
    """Sum over all frames, like keypoints and edges."""
    keypoints: int = 0
    edges: int = 0
    skipped: int = 0
    """Skipped camera frames."""
    seconds: float = 0.0
    """Wall time from the first frame to the last, including decoding and writing."""
    ages: Ages = field(default_factory=Ages)
    """Ages of a camera's frames when their results are written."""
    stopped: bool = False
    """Whether a signal or a sink ended the run early."""
    signalled: bool = False
    """Whether a signal ended the run."""
    broken: SourceError | None = None
    """Why the source failed before its end; the outputs were finished nevertheless."""

    def count(self, frame: Frame, parts: Parts) -> None:
        """Count a frame whose results have been written."""
        self.frames += 1
        self.people += len(parts.people)
        self.keypoints += len(parts.keypoints)
        self.edges += len(parts.edge_ends)
        self.skipped += frame.skipped
        if frame.arrived is not None:
            self.ages.add(time.monotonic() - frame.arrived)


def run(
    source: Source,
    session: Session,
    sinks: list[Sink],
    max_frames: int | None = None,
    on_frame: Callable[[Frame, Parts], None] | None = None,
    rotate: int = 0,
) -> Summary:
    """Process frames until the source ends, ``max_frames`` are done, a sink asks to stop, or a signal arrives (Ctrl-C,
    SIGTERM or SIGHUP).

    Outputs are finished in all these cases, and also if the source fails after its first frame. After any other error
    only lines already written remain. The memory is reset where the source marks unrelated frames.
    ``rotate``: rotate frames clockwise by 90, 180 or 270 degrees.

    Raises:
        SourceError: not a single frame can be read.
        SinkError, BackendError: as they occur.
    """
    summary = Summary()
    started = time.perf_counter()
    with ExitStack() as stack:
        # Entered first, left last: a signal must not interrupt finishing the files.
        asked_to_stop = stack.enter_context(stop_signals())
        source.stop_when(asked_to_stop)
        for sink in sinks:
            stack.enter_context(sink)
        try:
            frames = (replace(frame, image=rotated(frame.image, rotate)) for frame in source)
            # Not for cameras: reading ahead would wait for a frame that is no longer the newest when processed.
            ahead = None if source.live else stack.enter_context(ReadAhead(frames))
            for frame in ahead or frames:
                if frame.resets_memory:
                    session.reset()
                is_last = summary.frames + 1 == max_frames
                parts = session.step(frame.image, None if ahead is None or is_last else ahead.fetch_image)
                answers = [sink.write(frame, parts) for sink in sinks]  # every sink gets the frame before any stop
                summary.count(frame, parts)
                if on_frame is not None:
                    on_frame(frame, parts)
                summary.stopped = not all(answers) or asked_to_stop.is_set()
                if summary.stopped or summary.frames == max_frames:
                    break
        except SourceError as error:
            if not summary.frames:
                raise
            # The stop signal may also end the pipeline that feeds us, which is not an error.
            summary.stopped = asked_to_stop.is_set()
            summary.broken = None if summary.stopped else error
        summary.signalled = asked_to_stop.is_set()
        summary.stopped |= summary.signalled
    summary.seconds = time.perf_counter() - started
    return summary
