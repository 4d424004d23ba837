"""Inputs of a bundle's three graphs as they are in the middle of a video."""

from itertools import islice

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.backends.onnxruntime import session_options
from runtime.session import Session
from runtime.sources import open_source
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.geometry import Letterbox
from stm_skeletons.memory_policy import readable_slots

FRAMES = 40
"""Enough to fill the memory of any bundle that is exported as usual (6 slots, every 5th frame)."""
Feeds = dict[str, NDArray]


def feeds_of(bundle: Bundle, session: Session, frames: list[NDArray[np.uint8]], threads: int) -> Feeds:
    """Run the frames through a new session, and return the inputs of all graphs for the last one, by name.

    How long some kernels take depends on values: sampling on where it goes, exponentials on how small they get.
    """
    for frame in frames:
        session.step(frame)
    info = session.info
    slots = [session.slot(number) for number in range(info.slots)]
    boxed = np.zeros((info.height, info.width, 3), np.uint8)
    Letterbox((frames[-1].shape[1], frames[-1].shape[0]), info.size).apply(frames[-1], boxed)
    valid = readable_slots(len(frames), info.slots, info.every)
    feeds: Feeds = {
        "frame": boxed,
        "memory_keys": np.stack([key for key, _ in slots]),
        "memory_values": np.stack([value for _, value in slots]),
        "memory_valid": np.array(valid).astype(info.graphs["read_decoder"].tensor("memory_valid").dtype),
    }
    for name in GRAPH_NAMES:
        graph = onnxruntime.InferenceSession(
            bundle.graph_file(name), session_options(threads), providers=["CPUExecutionProvider"]
        )
        inputs = {spec.name: feeds[spec.name] for spec in info.graphs[name].inputs}
        outputs = [spec.name for spec in info.graphs[name].outputs]
        feeds.update(zip(outputs, map(np.asarray, graph.run(outputs, inputs)), strict=True))
    return feeds


def read_frames(video: str) -> list[NDArray[np.uint8]]:
    """The first frames of a video or folder of images. Raises SourceError, and BenchmarkError for fewer than FRAMES."""
    source = open_source(video)
    try:
        frames = [frame.image for frame in islice(source, FRAMES)]
    finally:
        source.close()
    if len(frames) < FRAMES:
        raise BenchmarkError(f"{video} has {len(frames)} frames, but {FRAMES} are needed to fill the memory")
    return frames


def noise_frames(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Smooth noise that moves by a pixel a frame, where there is no video."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 16 + 1, width // 16 + 8, 3), np.uint8)
    picture = coarse.repeat(16, axis=0).repeat(16, axis=1)
    return [np.ascontiguousarray(picture[:height, number : number + width]) for number in range(FRAMES)]
