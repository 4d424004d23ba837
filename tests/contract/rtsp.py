"""A camera on loopback: the RTSP server of tests/runtime/rtsp_camera.py as a process."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).parents[1] / "runtime" / "rtsp_camera.py"


def need_gstreamer() -> None:
    """Skip the test if the server cannot run; in CI, fail."""
    needs = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([SYSTEM_PYTHON, "-c", needs], capture_output=True, check=False).returncode != 0:
        reason = "needs Debian's gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-good"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    """Return a free port on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class RtspCamera:
    """A server that can be killed and restarted at the same address."""

    def __init__(self, rate: int, credentials: str = "") -> None:
        """``credentials``: part of the address, such as "USER:PASSWORD@"."""
        self.port, self.rate = free_port(), rate
        self.address = f"rtsp://{credentials}127.0.0.1:{self.port}/camera"
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
