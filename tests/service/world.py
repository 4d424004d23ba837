"""A service with four cameras and everything around it that can fail, for fault tests."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from proxy import Proxy
from running import ROOT, Broker, Running, camera, need
from websockets.sync.client import connect

NAMES = ("door", "yard", "hall", "calm")
"""Cameras; the last one gets no faults of its own except changed settings."""
RATE = 4
STALL = 2.0
_HERE = Path(__file__).parent
PAUSE_EFFECT = 20.0
"""Seconds for which a pause of the whole machine has effects."""
_POLL_INTERVAL = 0.2
"""Interval in seconds between status requests."""


@dataclass(frozen=True)
class Sample:
    """The state of everything at one time."""

    time: float
    states: dict[str, str]
    frames: dict[str, int]
    widths: dict[str, int]
    outputs: dict[str, dict[str, dict[str, Any]]]
    memory: int
    rebuilds: int


class World:
    """Everything in its healthy state, before faults are injected."""

    def __init__(self, folder: Path, bundle: Path, start_camera: Callable[..., Any]) -> None:
        self.folder, self.bundle = folder, bundle
        self.cameras = {name: start_camera(rate=RATE) for name in NAMES}
        self.cables = {name: Proxy(each.port, seed) for seed, (name, each) in enumerate(self.cameras.items())}
        self.disk = folder / "disk"
        self.disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "none", self.disk], stderr=subprocess.DEVNULL
        )
        self.has_disk = mounted.returncode == 0
        """Whether the disk is a small file system of its own; otherwise the size of written files is limited."""
        self.broker = Broker(folder)
        self.failures, self.offset = folder / "failures", folder / "offset"
        self.offset.write_bytes(bytes(8))
        self.config = folder / "serve.toml"
        self.write_config()
        command = [sys.executable, "-W", "error", str(_HERE / "failing_backend.py")]
        environment = {"PYTHONPATH": str(ROOT), "FAILURES": str(self.failures), "CLOCK_OFFSET": str(self.offset)}
        self.service = Running(self.config, environment | {"LD_PRELOAD": str(_clock_shim(folder))}, command)
        self.process = psutil.Process(self.service.process.pid)
        self.samples: list[Sample] = []
        self._ended = threading.Event()
        self._poller = threading.Thread(target=self._poll_status, name="watches")
        self._poller.start()
        self.pauses: list[tuple[float, float]] = []
        """Times when nothing ran, not even the test, because the machine was busy."""
        threading.Thread(target=self._detect_pauses, name="beats", daemon=True).start()
        self.lines = Lines(self.disk)
        self.random = random.Random(24)
        self.clients = ExitStack()
        """Clients that watch the page."""
        self.faults: list[Any] = []
        self._gate = threading.Condition()
        self._running = 0
        """Active faults; -1 if a fault excludes all others."""
        self.faulty: list[str] = []
        """Cameras that have a fault of their own."""
        ready = self.wait_for(lambda sample: all(sample.frames[name] >= 3 for name in NAMES), 60)
        assert ready is not None, (self.service.errors, self.samples[-1:])
        time.sleep(1)
        self.began, self.descriptors = time.monotonic(), self.process.num_fds()

    def write_config(self, calm_score: float = 0.1, broken: bool = False) -> None:
        region = {"kind": "region", "name": "all", "region": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]}
        extra: dict[str, dict[str, Any]] = {
            "door": {"recording": {"folder": self.disk / "door", "minutes": 0.5, "gigabytes": 0.004}},
            "yard": {"clips": {"folder": self.disk / "yard", "gigabytes": 0.004}, "rules": [region]},
            "calm": {"min_score": calm_score},
        }
        text = (
            f"[model]\nbundle = '{self.bundle}'\nthreads = 1\n[mqtt]\nhost = '127.0.0.1'\nport = {self.broker.port}\n"
        )
        text += "[web]\nport = 0\nimages = true\nrequests_per_minute = 100000\n" + "nonsense = 1\n" * broken
        for name in NAMES:
            source = f"rtsp://somebody:s3cret@127.0.0.1:{self.cables[name].port}/camera"
            lines = {"folder": self.disk / "lines", "keep": 100_000, "megabytes": 1}
            text += camera(name, source, stall=STALL, lines=lines, **extra.get(name, {}))
        self.config.write_text(text)

    def reload(self) -> None:
        self.service.process.send_signal(signal.SIGHUP)

    def fail(self, index: int, steps: int, loads: int = 0) -> None:
        """Make the backend fail; see failing_backend.py."""
        file = self.folder / "new"
        file.write_text(f"{index} {steps} {loads}")
        file.replace(self.failures)

    def set_clock(self, seconds: int) -> None:
        with self.offset.open("r+b") as file:  # in place, because it is memory-mapped
            file.write(struct.pack("=q", seconds))

    def fill_disk(self) -> None:
        if not self.has_disk:
            self.process.rlimit(psutil.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        with suppress(OSError), (self.disk / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(bytes(1 << 16)):
                pass
            while ballast.write(b"x"):
                pass

    def empty_disk(self) -> None:
        self.process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (self.disk / "ballast").unlink(missing_ok=True)

    @contextmanager
    def fault(self, camera: str, alone: bool) -> Iterator[None]:
        """Context of a fault; ``alone`` excludes all other faults."""
        with self._gate:
            self._gate.wait_for(lambda: self._running == 0 if alone else self._running >= 0)
            self._running = -1 if alone else self._running + 1
            self.faulty.append(camera)
        try:
            yield
        finally:
            with self._gate:
                self._running = 0 if alone else self._running - 1
                self.faulty.remove(camera)
                self._gate.notify_all()

    def is_healthy(self, name: str) -> bool:
        """Return whether this camera has no fault of its own."""
        return name not in self.faulty

    def since(self, then: float) -> list[Sample]:
        return [sample for sample in self.samples if sample.time >= then]

    def was_paused(self, start: float, end: float) -> bool:
        """Return whether a pause of the machine may have had effects at that time."""
        return any(began < end and ended + PAUSE_EFFECT > start for began, ended in self.pauses)

    def healthy_times(self, end: float, margin: float) -> dict[str, list[tuple[float, float]]]:
        """Return the times when each camera had no fault, and none shortly before."""
        times: dict[str, list[tuple[float, float]]] = {}
        for name in NAMES:
            at, times[name] = self.began, []
            faulty = [(each.began, (each.recovered or end) + margin) for each in self.faults if name in each.affected]
            for began, ended in sorted(faulty + [(began, ended + PAUSE_EFFECT) for began, ended in self.pauses]):
                if began > at:
                    times[name].append((at, began))
                at = max(at, ended)
            times[name].append((at, max(at, end)))
        return times

    def count_frames(self, name: str, times: list[tuple[float, float]]) -> tuple[int, float, int]:
        """Return a camera's frames in these times, the seconds they span, and the number of intervals."""
        frames, seconds, intervals = 0, 0.0, 0
        for start, end in times:
            within = [sample for sample in self.samples if start <= sample.time <= end]
            if len(within) > 1:
                frames += within[-1].frames[name] - within[0].frames[name]
                seconds += within[-1].time - within[0].time
                intervals += 1
        return frames, seconds, intervals

    def service_states(self) -> dict[str, str]:
        return self.samples[-1].states

    def wait_for(self, condition: Callable[[Sample], object], within: float) -> float | None:
        """Return the seconds until the condition was seen, within a limit; None if never."""
        started, seen = time.monotonic(), len(self.samples)
        while time.monotonic() < started + within:
            for sample in self.samples[seen:]:
                if sample.time >= started and condition(sample):
                    return sample.time - started
            seen = max(seen, len(self.samples) - 1)
            assert self.process_runs(), (self.service.process.returncode, self.service.errors)
            time.sleep(0.05)
        return None

    def process_runs(self) -> bool:
        return self.service.process.poll() is None

    def _detect_pauses(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(0.1):
            now = time.monotonic()
            if now - before > 1:
                self.pauses.append((before, now))
            before = now

    def _poll_status(self) -> None:
        while not self._ended.wait(_POLL_INTERVAL):
            with suppress(OSError):
                status = self.service.status(60)
                cameras = {each["name"]: each for each in status["cameras"]}
                self.samples.append(
                    Sample(
                        time.monotonic(),
                        {name: each["state"] for name, each in cameras.items()},
                        {name: each["frames"] for name, each in cameras.items()},
                        {name: each["width"] for name, each in cameras.items()},
                        {name: each["outputs"] for name, each in cameras.items()},
                        status["memory_bytes"],
                        status["rebuilds"],
                    )
                )

    def stop(self) -> tuple[int, float]:
        """Return the exit code and the seconds until the exit."""
        self._ended.set()
        self._poller.join()
        return self.service.stop()

    def close(self) -> None:
        self._ended.set()
        self.service.close()
        self.broker.kill()
        for cable in self.cables.values():
            cable.close()
        if self.has_disk:
            subprocess.run(["umount", "-l", self.disk], check=True)


class Lines:
    """Reads all JSON lines; each must be complete and readable as soon as it exists."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._lock = threading.Lock()
        self.count = 0
        self.months: set[str] = set()
        """Months in which lines were written, by the service's clock."""

    def check(self) -> None:
        """Read the lines added since the last call; an incomplete line is left for the next call."""
        with self._lock:
            for path in sorted(self._folder.rglob("*.jsonl")):
                done = self._read.get(path, 0)
                with path.open("rb") as file:
                    file.seek(done)
                    complete = file.read().rpartition(b"\n")
                for line in complete[0].splitlines():
                    content = json.loads(line)
                    assert path.name.startswith(f"{content['camera']}-")
                    self.count += 1
                    self.months.add(content["utc"][:7])
                self._read[path] = done + len(complete[0]) + len(complete[1])

    def incomplete_files(self) -> list[str]:
        """Return the files that end within a line."""
        return [path.name for path, done in self._read.items() if path.stat().st_size != done]


@contextmanager
def deaf_client(port: int) -> Iterator[None]:
    """A client that subscribes to all images and reads none."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    with connect(f"ws://127.0.0.1:{port}/ws", sock=raw, max_queue=1, close_timeout=0.1) as client:
        client.send(json.dumps({"images": True}))
        yield


def _clock_shim(folder: Path) -> Path:
    need("a C compiler", shutil.which("cc"))
    library = folder / "clock.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, _HERE / "clock_shim.c"], check=True)
    return library


def page_port(world: World) -> int:
    return int(world.service.page.rpartition(":")[2])


def stop_process(world: World) -> None:
    os.kill(world.process.pid, signal.SIGSTOP)


def continue_process(world: World) -> None:
    os.kill(world.process.pid, signal.SIGCONT)
