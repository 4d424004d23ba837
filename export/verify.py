"""The checks that a bundle passes before it is given its name: each graph alone, then 20 frames on its own output."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export.onnx_graphs import Traced
from runtime.session import Session
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import ExportError
from stm_skeletons.memory_policy import readable_slots, write_slot
from training.model import SpaceTimeMemory

GRAPH_BOUND = 1e-4
"""Largest difference between PyTorch and ONNX Runtime in a graph's output, relative to the output's largest value."""
LOOP_BOUND = 1e-3
"""Largest difference of any map at any frame of the closed loop; maps lie in [0, 1]."""
LOOP_FRAMES = 20


def verify_graph(name: str, traced: Traced, path: Path) -> float:
    """Run a graph on its traced inputs; the largest relative difference.

    Peaks and edge scores are compared by score only: where two maxima score the same to the last bit their order is
    not defined. Raises ExportError past GRAPH_BOUND.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(list(traced.outputs), {key: tensor.numpy() for key, tensor in traced.inputs.items()})
    worst = 0.0
    for (output, expected), found in zip(traced.outputs.items(), outputs, strict=True):
        wanted = expected.numpy()
        if output == "peaks":
            wanted, found = wanted[..., 2], found[..., 2]
        difference = float(np.abs(wanted - found).max() / max(np.abs(wanted).max(), 1e-6))
        worst = max(worst, difference)
        if not difference <= GRAPH_BOUND:
            raise ExportError(f"{output} of {name} differs by {difference:.1e} from PyTorch (bound {GRAPH_BOUND:.0e})")
    return worst


@torch.no_grad()
def verify_closed_loop(model: SpaceTimeMemory, bundle: Bundle) -> float:
    """Run PyTorch and the bundle side by side, each on its own predictions; the largest difference of any map.

    Raises ExportError past LOOP_BOUND.
    """
    worst = 0.0
    frames = moving_picture(bundle.info.height, bundle.info.width, LOOP_FRAMES)
    with Session.open(bundle) as session:
        for number, (frame, expected) in enumerate(zip(frames, torch_loop(model, frames, bundle), strict=True)):
            session.step(frame)
            difference = float(np.abs(session.maps() - expected).max())
            worst = max(worst, difference)
            if not difference <= LOOP_BOUND:
                raise ExportError(
                    f"maps of frame {number} of the closed loop differ by {difference:.1e} from PyTorch "
                    f"(bound {LOOP_BOUND:.0e})"
                )
    return worst


@torch.no_grad()
def torch_loop(
    model: SpaceTimeMemory, frames: list[NDArray[np.uint8]], bundle: Bundle
) -> list[NDArray[np.float32]]:
    """The network in PyTorch over frames [H, W, 3] of the network's own size, as the runtime would run it.

    Returns the maps [C, H/4, W/4] of every frame.
    """
    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None
    slots, every = bundle.info.slots, bundle.info.every
    results = []
    for number, frame in enumerate(frames):
        batch = torch.from_numpy(frame)[None]
        query = model.encode_query(batch)
        if keys is None or values is None:
            keys = query.key.new_zeros(1, slots, *query.key.shape[1:])
            values = query.value.new_zeros(1, slots, *query.value.shape[1:])
        valid = torch.tensor([readable_slots(number, slots, every)], dtype=query.key.dtype)
        maps = model(query, keys, values, valid)
        slot = write_slot(number, slots, every)
        source = batch if model.memory_source == "frame" else query.features[model.memory_source]
        key, value = model.encode_memory(source, maps)
        keys[:, slot], values[:, slot] = key, value
        results.append(maps[0].numpy())
    return results


def moving_picture(height: int, width: int, count: int) -> list[NDArray[np.uint8]]:
    """Frames of smooth random texture that drifts, with a bright bar crossing: something to remember, no two alike."""
    random = np.random.default_rng(0)
    coarse = random.random((height // 16 + 4, width // 16 + 4, 3))
    texture = np.kron(coarse, np.ones((16, 16, 1)))
    for axis in (0, 1):
        texture = sum(np.roll(texture, shift, axis) for shift in range(-8, 9)) / 17
    picture = ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)
    frames = []
    for number in range(count):
        top, left = number, 2 * number
        frame = picture[top : top + height, left : left + width].copy()
        frame[:, 8 * number : 8 * number + width // 16] = 250
        frames.append(frame)
    return frames
