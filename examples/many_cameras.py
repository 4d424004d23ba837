"""Several cameras on one device: one model in memory, a separate memory of earlier frames for each camera.

python examples/many_cameras.py SOURCE SOURCE ... [--seconds N]

Sources are cameras, streams or videos. For months rather than minutes use `stm-skeletons serve` (docs/service.md): it
reconnects, records, and keeps one failing camera from stopping the others.
"""

import argparse
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from runtime import SessionGroup
from runtime.frames import Frame, Source
from runtime.sources import open_source
from stm_skeletons.errors import StmError


class Newest:
    """Reads a source in a thread of its own and keeps its newest frame."""

    def __init__(self, source: Source) -> None:
        self.ended = False
        self._frame: Frame | None = None
        self._lock, self._stop = threading.Lock(), threading.Event()
        source.stop_when(self._stop)
        self._thread = threading.Thread(target=self._read, args=(source,))
        self._thread.start()

    def close(self) -> None:
        """Stops reading; the source may be closed afterwards, but not before."""
        self._stop.set()
        self._thread.join()

    def take(self) -> Frame | None:
        """The newest frame that has not been taken yet, or None."""
        with self._lock:
            frame, self._frame = self._frame, None
            return frame

    def _read(self, source: Source) -> None:
        started = time.monotonic()
        for frame in source:
            if not source.live:  # a file plays at its own speed, as a camera would
                self._stop.wait(max(0.0, started + frame.time - time.monotonic()))
            if self._stop.is_set():
                break
            with self._lock:
                self._frame = frame
        self.ended = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        group = stack.enter_context(SessionGroup.open("edge", len(arguments.sources)))
        sources = [open_source(source) for source in arguments.sources]
        for source in sources:
            stack.callback(source.close)
        cameras = [Newest(source) for source in sources]
        for camera in cameras:
            stack.callback(camera.close)
        count = run(group, cameras, time.monotonic() + arguments.seconds)
    for source, frames in zip(arguments.sources, count, strict=True):
        print(f"{source}: {frames} frames")


def run(group: SessionGroup, cameras: list[Newest], until: float) -> list[int]:
    """Steps with whoever has a new frame, until every source has ended; how many frames each camera had."""
    count = [0] * len(cameras)
    while time.monotonic() < until:
        frames = {number: frame for number, camera in enumerate(cameras) if (frame := camera.take()) is not None}
        if not frames:
            if all(camera.ended for camera in cameras):
                break
            time.sleep(0.002)
            continue
        for number, frame in frames.items():
            if frame.resets_memory:
                group.reset(number)
        for number, parts in group.step({number: frame.image for number, frame in frames.items()}).items():
            count[number] += 1
            print(f"camera {number}, {frames[number].time:6.2f} s: {len(parts.people)} people")
    return count


if __name__ == "__main__":
    try:
        main()
    except StmError as error:  # bad input: one line
        sys.exit(f"{Path(__file__).name}: {error}")
