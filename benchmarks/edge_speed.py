"""A frame of a bundle, from decoded image to parts, against MoveNet MultiPose's ONNX alone, in one run.

python -m benchmarks.edge_speed edge --video VIDEO --movenet movenet-multipose.onnx
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.ratio import Ratio, time_in_turn
from runtime.session import Session
from runtime.sources import open_source
from stm_skeletons.geometry import Letterbox

Image = NDArray[np.uint8]


def compare(bundle: str, frames: list[Image], movenet: Path, threads: int) -> Ratio:
    """Time of the bundle's whole frame over the time of MoveNet's network alone on the same frames.

    MoveNet's input is prepared beforehand and not timed; both get the same number of threads.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # As our own sessions are set: whoever waits must not keep a core from the other.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    network = onnxruntime.InferenceSession(movenet, options, providers=["CPUExecutionProvider"])
    with Session.open(bundle, threads=threads) as session:
        boxed = np.empty((session.info.height, session.info.width, 3), np.uint8)
        inputs = []
        for frame in frames:
            Letterbox((frame.shape[1], frame.shape[0]), session.info.size).apply(frame, boxed)
            inputs.append((frame, boxed[None, :, :, ::-1].astype(np.int32)))
        return time_in_turn(
            lambda pair: session.step(pair[0]), lambda pair: network.run(None, {"input:0": pair[1]}), inputs
        )


def read_frames(video: Path, count: int) -> list[Image]:
    """The first ``count`` frames of a video."""
    source = open_source(str(video))
    frames = [frame.image for frame in islice(source, count)]
    source.close()
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description="A bundle's whole frame against MoveNet's network alone")
    parser.add_argument("bundle")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--movenet", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    frames = read_frames(arguments.video, arguments.frames)
    ratio = compare(arguments.bundle, frames, arguments.movenet, arguments.threads)
    print(f"{arguments.bundle} / MoveNet MultiPose alone, {arguments.threads} threads: {ratio}")


if __name__ == "__main__":
    main()
