"""Results with synthetic people, for tests of rules and outputs."""

from collections.abc import Mapping

import numpy as np

from runtime.frames import Frame
from runtime.service.results import Event, Result
from stm_skeletons.parts import assemble_parts
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17

SIZE = (400, 200)
Joints = dict[str, tuple[float, float]]
"""Pixel by joint name: "ankles" and "hips" set both sides; a leading "?" marks a predicted joint."""


def result(
    now: float,
    people: Mapping[int, Joints] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    camera: str = "door",
    number: int = 0,
    events: tuple[Event, ...] = (),
    image: np.ndarray | None = None,
) -> Result:
    """Return the result of a frame that arrived at ``now``; people by id."""
    people = people or {}
    keypoints, peaks = np.zeros((len(people), 17, 3), np.float32), np.full((len(people), 17), -1)
    for i, joints in enumerate(people.values()):
        for name, (x, y) in joints.items():
            part = name.removeprefix("?").removesuffix("s")
            indices = [k for k, joint in enumerate(COCO17.joints) if joint == part or joint.endswith(f"_{part}")]
            for k in indices:
                keypoints[i, k] = (x, y, 0.9)
                peaks[i, k] = -1 if name.startswith("?") else i
    ids = np.array(list(people), np.int64)
    assembled = People(np.full(len(people), 0.5, np.float32), keypoints, peaks, ids)
    candidates = np.where(peaks[..., None] >= 0, keypoints, 0).transpose(1, 0, 2)
    candidates = candidates if len(people) else np.zeros((17, 1, 3), np.float32)
    edges = np.zeros((19, candidates.shape[1], candidates.shape[1]), np.float32)
    parts = assemble_parts(COCO17, size, candidates, edges, assembled, 0.3, 0.3)
    pixels = np.full((size[1], size[0], 3), 90, np.uint8) if image is None else image
    return Result(camera, Frame(number, now, pixels, arrived=now), parts, 1_700_000_000 + now, parts, events)
