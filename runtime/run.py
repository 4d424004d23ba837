"""The main job: every frame of a source through a session into the sinks."""

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
    """What a run did."""

    frames: int = 0
    people: int = 0
    """Over all frames, as are keypoints and edges."""
    keypoints: int = 0
    edges: int = 0
    skipped: int = 0
    """Frames of a camera for which there was no time."""
    seconds: float = 0.0
    """Wall time from the first frame to the last, decoding and writing included."""
    ages: Ages = field(default_factory=Ages)
    """Of a camera's frames once their results are written."""
    stopped: bool = False
    """Whether a signal or a sink ended it early."""
    signalled: bool = False
    """Whether it was a signal."""
    broken: SourceError | None = None
    """Why the source ended before its end; the outputs were finished all the same."""

    def count(self, frame: Frame, parts: Parts) -> None:
        """One more frame, whose results are written."""
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
    """Process frames until the source ends, ``max_frames`` are done, a sink asks to stop, or a signal comes: Ctrl-C,
    SIGTERM or SIGHUP.

    Outputs are finished in all these cases, and also when the source breaks after its first frame. Any other error
    leaves none but the lines that were written. Where a source says that it begins anew, so does the memory.
    ``rotate``: turn frames clockwise by 90, 180 or 270 degrees, for cameras that hang on their side.

    Raises:
        SourceError: not one frame can be read.
        SinkError, BackendError: as they occur.
    """
    summary = Summary()
    started = time.perf_counter()
    with ExitStack() as stack:
        # First in, last out: a signal while the files are being finished must not cut them off.
        asked_to_stop = stack.enter_context(stop_signals())
        source.stop_when(asked_to_stop)
        for sink in sinks:
            stack.enter_context(sink)
        try:
            frames = (replace(frame, image=rotated(frame.image, rotate)) for frame in source)
            # A camera's next frame is not there yet, and will not be the newest.
            ahead = None if source.live else stack.enter_context(ReadAhead(frames))
            for frame in ahead or frames:
                if frame.anew:
                    session.reset()
                is_last = summary.frames + 1 == max_frames
                parts = session.step(frame.image, None if ahead is None or is_last else ahead.fetch_image)
                answers = [sink.write(frame, parts) for sink in sinks]  # every sink gets the frame, whatever one says
                summary.count(frame, parts)
                if on_frame is not None:
                    on_frame(frame, parts)
                summary.stopped = not all(answers) or asked_to_stop.is_set()
                if summary.stopped or summary.frames == max_frames:
                    break
        except SourceError as error:
            if not summary.frames:
                raise
            # The signal that stops us may also end the pipeline that feeds us: that is no fault.
            summary.stopped = asked_to_stop.is_set()
            summary.broken = None if summary.stopped else error
        summary.signalled = asked_to_stop.is_set()
        summary.stopped |= summary.signalled
    summary.seconds = time.perf_counter() - started
    return summary
