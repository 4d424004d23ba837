"""Cameras for tests of the service: a real RTSP server on loopback (tests/runtime/rtsp_camera.py)."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).parents[1] / "runtime" / "rtsp_camera.py"


class RtspCamera:
    """The server as a process, which can be killed and started again under the same address."""

    def __init__(self, rate: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.rate = rate
        self.address = f"rtsp://somebody:s3cret@127.0.0.1:{self.port}/camera"
        self.start()

    def start(self) -> None:
        command = [SYSTEM_PYTHON, str(SERVER), str(self.port), str(self.rate)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def rtsp() -> Iterator[Callable[..., RtspCamera]]:
    """Starts cameras of so many frames a second."""
    needs = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([SYSTEM_PYTHON, "-c", needs], capture_output=True, check=False).returncode != 0:
        reason = "needs Debian's gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-good"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    cameras: list[RtspCamera] = []

    def start(rate: int = 10) -> RtspCamera:
        cameras.append(RtspCamera(rate))
        return cameras[-1]

    yield start
    for camera in cameras:
        camera.kill()
