"""People from a webcam, drawn live.

python examples/webcam.py [SOURCE] [--save FILE.mp4]

SOURCE is a camera's number (default 0), a stream's address or a video such as examples/vtest-10s.avi.
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path

from runtime import Session
from runtime.overlay import Painter
from runtime.sinks import OverlaySink, WindowSink
from runtime.sources import open_source
from stm_skeletons.errors import StmError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="0")
    parser.add_argument("--save", metavar="FILE", help="write a video instead of opening a window")
    arguments = parser.parse_args()
    with closing(open_source(arguments.source)) as source, Session.open("edge") as session:
        painter = Painter()
        to_file, rate = arguments.save, source.frames_per_second
        with OverlaySink(to_file, rate, painter, force=True) if to_file else WindowSink(painter) as sink:
            for frame in source:  # of a camera the newest frame: those that come while the network works are skipped
                if frame.resets_memory:  # the camera was away, or the video has a cut
                    session.reset()
                parts = session.step(frame.image)
                print(f"{frame.time:7.2f} s: {len(parts.people)} people")
                if not sink.write(frame, parts):  # q closes the window
                    break


if __name__ == "__main__":
    try:
        main()
    except StmError as error:  # bad input: one line
        sys.exit(f"{Path(__file__).name}: {error}")
