"""Messages to watching pages: JSON with a frame's people, and JPEG images."""

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
"""Largest width of a sent image in pixels."""
_QUALITY = 70


def hello(version: str, images: bool, login: bool, skeleton: Skeleton | None) -> str:
    """Return the first message, sent again whenever the skeleton becomes known or changes."""
    joints = {"joints": skeleton.joints, "edges": skeleton.edges} if skeleton else None
    return _json({"type": "hello", "version": version, "images": images, "login": login, "skeleton": joints})


def status(status_json: str) -> str:
    """Return ``ServiceStatus`` with this machine's current time, to which its times refer."""
    return f'{{"type":"status","now":{time.time():.3f},"status":{status_json}}}'


def events(numbered: list[tuple[int, Event]]) -> str:
    """Return events, oldest first."""
    return _json({"type": "events", "events": [{"number": number} | asdict(event) for number, event in numbered]})


def frame(result: Result, pictured: bool) -> str:
    """Return the people of a frame; ``pictured``: the image with the same number follows."""
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
    """Scale an image (BGR) down to the size that is sent."""
    scale = min(1.0, WIDEST / image.shape[1])
    if scale == 1.0:
        return image
    size = WIDEST, max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg_message(camera: str, number: int, image: NDArray[np.uint8]) -> bytes:
    """Return a binary message: length of the camera's name, name, frame number (32 bits, big endian), JPEG."""
    encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise ValueError("cannot encode the image")
    name = camera.encode()
    return struct.pack(f">B{len(name)}sI", len(name), name, number & 0xFFFFFFFF) + jpeg.tobytes()


def _people(people: People) -> list[dict[str, Any]]:
    """People as in the JSON lines."""
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
