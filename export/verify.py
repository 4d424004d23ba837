"""The checks that a bundle passes before it is given its name: each graph alone, then 20 frames on its own output."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export.graphs import ReadDecoder
from export.onnx_graphs import Traced
from runtime.session import Session
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import ExportError
from stm_skeletons.memory_policy import write_slot
from training.model import SpaceTimeMemory
from training.model.parts import find_peaks
from training.model.session import TorchSession

GRAPH_BOUND = 1e-4
"""Largest difference between PyTorch and ONNX Runtime in a graph's output, relative to the output's largest value."""
LOOP_BOUND = 1e-3
"""Largest difference of any map (they lie in [0, 1]) or memorised slot (relative) at any frame of the closed loop."""
LOOP_FRAMES = 20


def verify_graph(name: str, traced: Traced, path: Path) -> float:
    """Run a graph on its traced inputs; the largest difference from PyTorch, relative to each output's largest value.

    Raises ExportError past GRAPH_BOUND.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results = session.run(list(traced.outputs), {key: tensor.numpy() for key, tensor in traced.inputs.items()})
    found = {output: np.asarray(result) for output, result in zip(traced.outputs, results, strict=True)}
    expected = {output: tensor.numpy() for output, tensor in traced.outputs.items()}
    if isinstance(traced.module, ReadDecoder) and "peaks" in found:
        _align_peaks(traced.module, found, expected)
    worst = 0.0
    for output, wanted in expected.items():
        difference = float(np.abs(wanted - found[output]).max() / max(np.abs(wanted).max(), 1e-6))
        worst = max(worst, difference)
        if not difference <= GRAPH_BOUND:
            raise ExportError(f"{output} of {name} differs by {difference:.1e} from PyTorch (bound {GRAPH_BOUND:.0e})")
    return worst


def _align_peaks(
    decoder: ReadDecoder, found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]
) -> None:
    """Make peaks and edge scores comparable, in place: which of two equal maxima comes first is nobody's promise.

    What is expected is computed anew from the maps that the graph itself gave, and peaks whose score is not unique are
    left out on both sides.
    """
    peaks, edge_scores = decoder.find_parts(torch.from_numpy(found["maps"]))
    expected["peaks"], expected["edge_scores"] = peaks.numpy(), edge_scores.numpy()
    scores = expected["peaks"][..., 2]
    unique = (scores > 0) & (np.diff(scores, axis=1, prepend=2) != 0)
    unique &= np.diff(scores, axis=1, append=_next_score(decoder, found["maps"])) != 0
    starts, ends = (list(column) for column in zip(*decoder.model.config.skeleton.edges, strict=True))
    both = unique[starts][:, :, None] & unique[ends][:, None, :]
    for side in (found, expected):
        side["peaks"] = side["peaks"] * unique[..., None]
        side["edge_scores"] = side["edge_scores"] * both


def _next_score(decoder: ReadDecoder, maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """[NK, 1] the score of the first peak that is one too many, below all scores where there is none."""
    keypoints = torch.from_numpy(maps)[1 : 1 + len(decoder.model.config.skeleton.joints)]
    if decoder.peaks >= keypoints[0].numel():
        return np.full((len(keypoints), 1), -1, np.float32)
    peaks, _ = find_peaks(keypoints, decoder.peaks + 1)
    return peaks[:, -1:, 2].numpy()


def verify_closed_loop(model: SpaceTimeMemory, bundle: Bundle) -> float:
    """Run PyTorch and the bundle side by side, each on its own predictions; the largest difference of any map.

    The slot that each frame is memorised in is compared too (relative to its largest value): a network that has not
    learnt to use its memory yet would otherwise hide a memory that does not work. Raises ExportError past LOOP_BOUND.
    """
    worst = 0.0
    slots, every = bundle.info.slots, bundle.info.every
    loop = TorchSession(model, slots, every)
    with Session.open(bundle) as session:
        for number, frame in enumerate(moving_picture(bundle.info.height, bundle.info.width, LOOP_FRAMES)):
            session.step(frame)
            loop.step(frame)
            slot = write_slot(number, slots, every)
            ours, theirs = (session.maps(), *session.slot(slot)), (loop.maps(), *loop.slot(slot))
            for name, found, wanted in zip(("maps", "key", "value"), ours, theirs, strict=True):
                scale = 1.0 if name == "maps" else max(float(np.abs(wanted).max()), 1e-6)
                difference = float(np.abs(found - wanted).max()) / scale
                worst = max(worst, difference)
                if not difference <= LOOP_BOUND:
                    raise ExportError(
                        f"{name} of frame {number} of the closed loop differs by {difference:.1e} from PyTorch "
                        f"(bound {LOOP_BOUND:.0e})"
                    )
    return worst


def moving_picture(height: int, width: int, count: int) -> list[NDArray[np.uint8]]:
    """Frames of smooth random texture that drifts, with a bright bar crossing: something to remember, no two alike."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 16 + 4, width // 16 + 4, 3), np.uint8)
    picture = cv2.resize(coarse, None, fx=16, fy=16, interpolation=cv2.INTER_CUBIC)
    frames = []
    for number in range(count):
        top, left = number % 64, 2 * number % 64
        frame = np.array(picture[top : top + height, left : left + width], np.uint8)
        bar = 8 * number % width
        frame[:, bar : bar + width // 16] = 250
        frames.append(frame)
    return frames
