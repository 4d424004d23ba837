"""What a watching page is sent: JSON of a frame's people, and the picture behind them."""

import json
import struct
import time
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.service.results import Event, Result
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton

WIDEST = 640
"""Pixels of a picture that is sent."""
_QUALITY = 70


def hello(version: str, images: bool, login: bool, skeleton: Skeleton | None) -> str:
    """The first message, and again when the skeleton is known or another one."""
    joints = {"joints": skeleton.joints, "edges": skeleton.edges} if skeleton else None
    return _json({"type": "hello", "version": version, "images": images, "login": login, "skeleton": joints})


def status(status_json: str) -> str:
    """``ServiceStatus`` with this machine's clock, by which its times are to be read."""
    return f'{{"type":"status","now":{time.time():.3f},"status":{status_json}}}'


def events(numbered: list[tuple[int, Event]]) -> str:
    """Events, the oldest first."""
    return _json({"type": "events", "events": [{"number": number} | asdict(event) for number, event in numbered]})


def frame(result: Result, pictured: bool) -> str:
    """The people of a frame; ``pictured``: the picture of the same number comes right behind."""
    assert result.frame.arrived is not None
    return _json(
        {
            "type": "frame",
            "camera": result.camera,
            "frame": result.frame.number,
            "time": round(result.time, 3),
            "age": round(time.monotonic() - result.frame.arrived, 3),
            "size": result.parts.size,
            "pictured": pictured,
            "people": _people(result.parts.people),
        }
    )


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (BGR) as large as it is sent."""
    scale = min(1.0, WIDEST / image.shape[1])
    if scale == 1.0:
        return image
    size = WIDEST, max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def picture(camera: str, number: int, image: NDArray[np.uint8]) -> bytes:
    """A binary message: length of the camera's name, the name, the frame's number (32 bits, big endian), a JPEG."""
    encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise ValueError("the picture cannot be encoded")
    name = camera.encode()
    return struct.pack(f">B{len(name)}sI", len(name), name, number & 0xFFFFFFFF) + jpeg.tobytes()


def _people(people: People) -> list[dict[str, Any]]:
    """As in the JSON lines."""
    points = np.round(people.keypoints.astype(np.float64), 1).tolist()
    scores = np.round(people.keypoints[..., 2].astype(np.float64), 2).tolist()
    predicted: list[list[int]] = [[] for _ in points]
    for person, joint in np.argwhere(people.predicted).tolist():
        predicted[person].append(joint)
    return [
        {
            "id": number or None,
            "score": round(score, 3),
            "keypoints": [[x, y, sure] for (x, y, _), sure in zip(joints, sures, strict=True)],
            "predicted": placed,
        }
        for number, score, joints, sures, placed in zip(
            people.ids.tolist(), people.scores.tolist(), points, scores, predicted, strict=True
        )
    ]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
