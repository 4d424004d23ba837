"""Runs the service as a process, for tests: sends it signals and reads its outputs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND
from rtsp import free_port

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "examples" / "vtest-10s.avi"
MOSQUITTO = Path("/usr/sbin/mosquitto")


class Running:
    """A running service."""

    def __init__(
        self, config: Path, environment: dict[str, str] | None = None, command: Sequence[str] = COMMAND
    ) -> None:
        self.errors: list[str] = []
        self.process = subprocess.Popen(
            [*command, "serve", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()
        self.page = self.wait_for("live page: ").rpartition(" ")[2]

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line.rstrip("\n"))

    def wait_for(self, text: str, within: float = 40.0) -> str:
        """Wait for a line on standard error with this text."""
        end = time.monotonic() + within
        while True:
            if found := [line for line in list(self.errors) if text in line]:
                return found[0]
            assert time.monotonic() < end, self.errors
            assert self.process.poll() is None, self.errors
            time.sleep(0.02)

    def status(self, timeout: float = 10) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.page}/api/status", timeout=timeout) as answer:
            return json.load(answer)

    def http_status(self, path: str) -> int:
        """HTTP status of a health request."""
        try:
            with urllib.request.urlopen(f"{self.page}{path}", timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code

    def camera(self, name: str) -> dict[str, Any]:
        return next(each for each in self.status()["cameras"] if each["name"] == name)

    def wait(self, condition: Callable[[], object], within: float = 40.0) -> None:
        end = time.monotonic() + within
        while not condition():
            assert time.monotonic() < end, (self.errors, self.status())
            time.sleep(0.05)

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and wait for the exit; return the exit code and the seconds."""
        started = time.monotonic()
        self.process.send_signal(signum)
        code = self.process.wait(20)
        return code, time.monotonic() - started

    def close(self) -> None:
        """Kill the service if it is still running."""
        self.process.kill()
        self.process.wait()
        self.listener.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


def camera(name: str, source: object = CLIP, **settings: object) -> str:
    given = {"name": name, "source": str(source), **settings}
    return "[[cameras]]\n" + "".join(f"{key} = {to_toml(value)}\n" for key, value in given.items())


def to_toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {to_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def read_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return all lines of a camera; each must be complete."""
    files = sorted(folder.glob(f"{name}-*.jsonl"))
    texts = [file.read_text() for file in files]
    assert all(text.endswith("\n") or not text for text in texts)
    return [json.loads(line) for text in texts for line in text.splitlines()]


def need(requirement: str, present: object) -> None:
    """Skip the test if a requirement is missing; in CI, fail."""
    if not present:
        if os.environ.get("CI"):
            pytest.fail(f"needs {requirement}")
        pytest.skip(f"needs {requirement}")


class Broker:
    """A real Mosquitto broker on its own port."""

    def __init__(self, folder: Path, *settings: str) -> None:
        """``settings``: lines of its configuration; by default anonymous clients are allowed."""
        need("Debian's mosquitto", MOSQUITTO.exists())
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        rest = settings or ("allow_anonymous true",)
        lines = ["user root", f"listener {self.port} 127.0.0.1", "persistence false", *rest, ""]
        self._file.write_text("\n".join(lines))
        self.start()

    def start(self) -> None:
        """Wait until it answers."""
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self._file)], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < end, "Mosquitto does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "Mosquitto ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """A broker on loopback, and its port."""
    need("Debian's mosquitto-clients", shutil.which("mosquitto_sub"))
    broker = Broker(folder)
    yield broker.port
    broker.process.terminate()
    broker.process.wait(10)
