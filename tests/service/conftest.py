"""Cameras for tests of the service."""

from collections.abc import Callable, Iterator

import pytest
from rtsp import RtspCamera, need_gstreamer


@pytest.fixture
def rtsp() -> Iterator[Callable[..., RtspCamera]]:
    """Starts cameras with this many frames per second."""
    need_gstreamer()
    cameras: list[RtspCamera] = []

    def start(rate: int = 10) -> RtspCamera:
        cameras.append(RtspCamera(rate, "somebody:s3cret@"))
        return cameras[-1]

    yield start
    for camera in cameras:
        camera.kill()
