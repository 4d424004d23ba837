"""Verifies a bundle against PyTorch: each graph alone, then 20 frames in a closed loop on its own output."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export.graphs import ReadDecoder
from export.onnx_graphs import Traced
from export.precision import torch_session
from export.synthetic_frames import synthetic_frames
from runtime.backends import BackendOptions
from runtime.session import Session
from runtime.session_group import SessionGroup
from stm_skeletons.bundle import Bundle, Precision
from stm_skeletons.cli.progress import Progress, no_progress
from stm_skeletons.errors import ExportError
from stm_skeletons.memory_policy import write_slot
from training.model import SpaceTimeMemory
from training.model.parts import find_parts, find_peaks
from training.model.session import TorchSession

GRAPH_BOUND = 1e-4
"""Largest difference between PyTorch and ONNX Runtime in a graph's output, relative to the output's largest value."""
LOOP_BOUND = 1e-3
"""Largest difference of any map (in [0, 1]) or memorised slot (relative) in any frame of the closed loop."""
LOOP_FRAMES = 20
SAME_PLACE = 0.02
"""Network pixels within which two peaks are the same."""
FP16_GRAPH_BOUND = 5e-2
"""GRAPH_BOUND of an FP16 graph: ONNX Runtime does not round between all nodes, so results differ by rounding; and if
two places match about equally well, ``edge``'s search may choose the other one."""
LOOSE_LOOP_BOUNDS = {"fp16": (0.3, 0.05), "int8": (1.0, 0.9)}
"""LOOP_BOUND of maps and of slots in other precisions. These bounds find miswired graphs and slots that are not
written, in INT8 nothing else; the gate measures the quality."""


def verify_graph(name: str, traced: Traced, path: Path, bound: float = GRAPH_BOUND) -> float:
    """Run a graph on its traced inputs and return the largest difference from PyTorch, relative to each output's
    largest value.

    Raises ExportError if it exceeds the bound.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results = session.run(list(traced.outputs), {key: tensor.numpy() for key, tensor in traced.inputs.items()})
    found = {output: np.asarray(result) for output, result in zip(traced.outputs, results, strict=True)}
    expected = {output: tensor.numpy() for output, tensor in traced.outputs.items()}
    if isinstance(traced.module, ReadDecoder) and "peaks" in found:
        _align_peaks(traced.module, found, expected)
    worst = 0.0
    for output, wanted in expected.items():
        difference = _relative(found[output], wanted)
        worst = max(worst, difference)
        if not difference <= bound:
            raise ExportError(f"{output} of {name} differs from PyTorch by {difference:.1e} (bound {bound:.0e})")
    return worst


def _relative(found: NDArray, wanted: NDArray) -> float:
    """Largest difference relative to the largest expected value, computed in FP32."""
    found, wanted = found.astype(np.float32), wanted.astype(np.float32)
    return float(np.abs(wanted - found).max() / max(np.abs(wanted).max(), 1e-6))


def _align_peaks(
    decoder: ReadDecoder, found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]
) -> None:
    """Make outputs that depend on the order of peaks comparable, in place: the order of equal maxima is undefined.

    Expected peaks and edge scores are recomputed from the graph's own maps, and peaks with a repeated score are dropped
    on both sides. Other properties of a peak or centre are compared only if both sides have it.
    """
    found["previous"], expected["previous"] = _aligned(
        found["previous"], expected["previous"], found["peaks"][..., :2], expected["peaks"][..., :2]
    )
    parts = find_parts(torch.from_numpy(found["maps"]), decoder.model.config.skeleton, decoder.peaks)
    expected["peaks"], expected["edge_scores"] = parts.peaks.numpy(), parts.edge_scores.numpy()
    scores = expected["peaks"][..., 2]
    unique = (scores > 0) & (np.diff(scores, axis=1, prepend=2) != 0)
    unique &= np.diff(scores, axis=1, append=_next_score(decoder, found["maps"])) != 0
    starts, ends = (list(column) for column in zip(*decoder.model.config.skeleton.edges, strict=True))
    both = unique[starts][:, :, None] & unique[ends][:, None, :]
    for side in (found, expected):
        side["peaks"] = side["peaks"] * unique[..., None]
        side["edge_scores"] = side["edge_scores"] * both
    if "centres" in found:
        places = [side["centres"][None, :, :2] for side in (found, expected)]
        for name in ("centre_joints", "centres"):
            by_centre = [side[name].reshape(1, 1, len(side[name]), -1) for side in (found, expected)]
            found[name], expected[name] = _aligned(*by_centre, *places)


def _aligned(found: NDArray, expected: NDArray, places: NDArray, expected_places: NDArray) -> tuple[NDArray, NDArray]:
    """Reorder properties of peaks [T, N, K, c] to match the found peaks; zero if only one side has the peak.

    Args:
        found, expected: [T, N, K, c].
        places, expected_places: [N, K, 2]: positions of the peaks.
    """
    distance = np.abs(places[:, :, None] - expected_places[:, None]).max(-1)
    order, same = distance.argmin(-1), distance.min(-1) <= SAME_PLACE
    reordered = np.take_along_axis(expected, order[None, :, :, None], axis=2)
    return found * same[..., None], reordered * same[..., None]


def _next_score(decoder: ReadDecoder, maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """[NK, 1]: score of the best peak that was not reported; below all scores if there is none."""
    keypoints = torch.from_numpy(maps)[1 : 1 + len(decoder.model.config.skeleton.joints)]
    if decoder.peaks >= keypoints[0].numel():
        return np.full((len(keypoints), 1), -1, np.float32)
    peaks, _ = find_peaks(keypoints, decoder.peaks + 1)
    return peaks[:, -1:, 2].numpy()


def verify_closed_loop(model: SpaceTimeMemory, bundle: Bundle, progress: Progress = no_progress) -> float:
    """Run PyTorch and the bundle side by side, each on its own predictions; return the largest difference.

    Compares the maps and the memorised slot of each frame (relative to its largest value). Without the slots, a network
    that has not yet learnt to use its memory would hide a broken memory. A bundle for batches runs with as many
    cameras, each with its own frames; the first and the last camera are compared.

    Raises ExportError above LOOP_BOUND, in precisions other than FP32 above LOOSE_LOOP_BOUNDS.
    """
    worst = 0.0
    info = bundle.info
    loops = {camera: torch_session(model, info.slots, info.every) for camera in sorted({0, info.batch - 1})}
    images = synthetic_frames(info.height, info.width, LOOP_FRAMES + info.batch - 1)
    with SessionGroup.open(bundle, info.batch, BackendOptions("onnxruntime")) as group:
        for number in range(LOOP_FRAMES):
            progress("checking against PyTorch, frames", number, LOOP_FRAMES)
            group.step({camera: images[number + camera] for camera in range(info.batch)})
            slot = write_slot(number, info.slots, info.every)
            for camera, loop in loops.items():
                loop.step(images[number + camera])
                ours, theirs = (group.maps(camera), *group.slot(camera, slot)), (loop.maps(), *loop.slot(slot))
                worst = max(worst, _compare_step(ours, theirs, info.precision, number))
    return worst


def _compare_step(ours: tuple[NDArray, ...], theirs: tuple[NDArray, ...], precision: Precision, number: int) -> float:
    """Return the largest difference of maps, key and value after frame ``number``. Raises ExportError above a bound."""
    maps_bound, slot_bound = LOOSE_LOOP_BOUNDS.get(precision, (LOOP_BOUND, LOOP_BOUND))
    worst = 0.0
    for name, found, wanted in zip(("maps", "key", "value"), ours, theirs, strict=True):
        is_maps = name == "maps"
        difference = float(np.abs(found - wanted).max()) if is_maps else _relative(found, wanted)
        bound = maps_bound if is_maps else slot_bound
        worst = max(worst, difference)
        if not difference <= bound:
            raise ExportError(
                f"{name} of frame {number} in the closed loop differs from PyTorch by {difference:.1e} "
                f"(bound {bound:.0e})"
            )
    return worst


def check_finite(session: Session | TorchSession, height: int, width: int, what: str) -> None:
    """Check that maps and memory stay finite on black, white, noisy and saturated frames. Raises ExportError."""
    for name, frame in extreme_frames(height, width).items():
        session.reset()
        for number in range(2):
            session.step(frame)
            if not all(np.isfinite(array).all() for array in (session.maps(), *session.slot(number))):
                raise ExportError(
                    f"{what} gives NaN or infinite values on a {name} frame; export with --precision fp32"
                )


def extreme_frames(height: int, width: int) -> dict[str, NDArray[np.uint8]]:
    """Return frames [H, W, 3] of a covered, overexposed or defective camera."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (height, width, 3), np.uint8)
    return {
        "black": np.zeros_like(noise),
        "white": np.full_like(noise, 255),
        "noisy": noise,
        "saturated": np.where(noise > 127, 255, 0).astype(np.uint8),
    }
