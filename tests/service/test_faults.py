"""Faults of every kind at random times: each recovers in time, and the other cameras keep their rate.

Cameras, cables, a broker, a disk and the service itself are real, and so are their faults. Only the errors of the
backend are simulated, and the clock jumps only for the service's process.
"""

import os
import random
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from command import COMMAND, SAYS
from pace import slowdown
from running import CLIP, camera
from world import (
    NAMES,
    PAUSE_EFFECT,
    RATE,
    STALL,
    Sample,
    World,
    continue_process,
    deaf_client,
    page_port,
    stop_process,
)

from runtime.stream_capture import StreamCapture
from runtime.video_writer import VideoWriter
from stm_skeletons.errors import SinkError

SHOWN = STALL + 3.0
"""Seconds after which a lasting fault must show in the camera's state."""
HEALTHY_AGAIN = 2.0
"""Seconds after its recovery from which on a camera counts as healthy."""
RECONNECT = 15.0
"""Seconds within which a camera reconnects: up to 8 until the next attempt, 3 until FFmpeg knows the format, and some
more if an attempt fails."""
TIMEOUT = 60.0


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    begin: Callable[[World, str], object]
    end: Callable[[World, str], object]
    lasts: tuple[float, float]
    """Range of its duration in seconds."""
    recovery: float
    """Seconds within which everything recovers after its end."""
    shows: Callable[[list[Sample], str], bool] | None = None
    """Whether the service reports it while it lasts; checked if it lasts long enough."""
    shown_after: float = SHOWN
    """Seconds that are long enough for that."""
    alone: bool = False
    """Whether it affects all cameras and therefore excludes all other faults."""
    affects: tuple[str, ...] = ()
    """Cameras that it affects, if it is of a kind without a chosen camera."""


def has_state(state: str) -> Callable[[list[Sample], str], bool]:
    return lambda samples, camera: any(sample.states[camera] == state for sample in samples)


def has_problem(output: str) -> Callable[[list[Sample], str], bool]:
    def shows(samples: list[Sample], _: str) -> bool:
        outputs = [each for sample in samples for each in sample.outputs.values()]
        return any(each[output]["problem"] for each in outputs if output in each)

    return shows


def is_wide(samples: list[Sample], camera: str) -> bool:
    return any(sample.widths[camera] == 320 for sample in samples)


def was_rebuilt(samples: list[Sample], _: str) -> bool:
    return samples[-1].rebuilds > samples[0].rebuilds


def send_command(command: str) -> Callable[[World, str], object]:
    return lambda world, name: world.cameras[name].tell(command)


def set_corruption(corrupts: bool) -> Callable[[World, str], object]:
    return lambda world, name: setattr(world.cables[name], "corrupts", corrupts)


def cut(world: World, name: str) -> None:
    world.cables[name].refuses = True
    world.cables[name].cut()


def repair(world: World, name: str) -> None:
    world.cables[name].refuses = False


def change_codec(world: World, name: str) -> None:
    world.cameras[name].tell(f"codec {world.random.choice(('h264', 'vp8'))}")


CAMERA_KINDS = {
    "freezes": Kind(send_command("freeze"), send_command("go"), (1, 7), 2, has_state("frozen")),
    "goes black": Kind(send_command("black"), send_command("go"), (1, 7), 2, has_state("black")),
    "sends nothing": Kind(send_command("stall"), send_command("go"), (0.5, 8), RECONNECT, has_state("away")),
    "another size": Kind(send_command("size 320x200"), send_command("size 256x160"), (1, 5), 2, is_wide, 1.5),
    "another rate": Kind(send_command(f"rate {2 * RATE}"), send_command(f"rate {RATE}"), (1, 5), 2),
    "other pixels": Kind(send_command("pixels Y42B"), send_command("pixels I420"), (1, 5), 2),
    "another codec": Kind(change_codec, send_command("codec jpeg"), (2, 8), RECONNECT),
    "bytes change": Kind(set_corruption(True), set_corruption(False), (1, 6), 25),
    "cable pulled": Kind(
        lambda w, n: w.cables[n].pull(), lambda w, n: w.cables[n].plug(), (0.5, 10), RECONNECT, has_state("away")
    ),
    "cable cut": Kind(cut, repair, (0.5, 8), RECONNECT, has_state("away")),
    "server killed": Kind(
        lambda w, n: w.cameras[n].kill(), lambda w, n: w.cameras[n].start(), (0.5, 8), RECONNECT, has_state("away")
    ),
}


def restart_broker(world: World, _: str) -> None:
    world.broker.start()


def pause_broker(world: World, _: str) -> None:
    world.broker.process.send_signal(signal.SIGSTOP)


def continue_broker(world: World, _: str) -> None:
    world.broker.process.send_signal(signal.SIGCONT)


def fail_backend(steps: int, loads: int = 0) -> Callable[[World, str], object]:
    return lambda world, _: world.fail(world.random.randrange(len(NAMES)), steps, loads)


def restore_backend(world: World, _: str) -> None:
    """Also reload if a camera is parked, so that it is retried."""
    world.failures.unlink(missing_ok=True)
    time.sleep(0.5)
    if "parked" in world.service_states().values():
        world.reload()


def change_settings(world: World, _: str) -> None:
    world.write_config(calm_score=round(world.random.uniform(0.05, 0.3), 4))
    world.reload()


def break_settings(world: World, _: str) -> None:
    world.write_config(broken=True)
    world.reload()


def restore_settings(world: World, _: str) -> None:
    world.write_config()
    world.reload()


def open_deaf_clients(world: World, _: str) -> None:
    for _each in range(3):
        world.clients.enter_context(deaf_client(page_port(world)))


def do_nothing(_world: World, _: str) -> None: ...


WORLD_KINDS = {
    "clock jumps": Kind(lambda w, _: w.set_clock(w.random.randint(-(10**8), 10**8)), do_nothing, (1, 4), 2),
    "disk full": Kind(lambda w, _: w.fill_disk(), lambda w, _: w.empty_disk(), (2.2, 8), 12, has_problem("lines"), 2),
    "broker killed": Kind(lambda w, _: w.broker.kill(), restart_broker, (0.5, 8), 12, has_problem("mqtt"), 2),
    "broker hangs": Kind(pause_broker, continue_broker, (1, 8), 12),
    "backend fails": Kind(fail_backend(1), restore_backend, (1, 2), 8, was_rebuilt, 1.5, alone=True),
    "backend fails thrice": Kind(fail_backend(3), restore_backend, (2, 4), 15, was_rebuilt, 1.5, alone=True),
    "model cannot be loaded": Kind(fail_backend(1, 2), restore_backend, (3, 5), 8, was_rebuilt, alone=True),
    "clients read nothing": Kind(open_deaf_clients, lambda w, _: w.clients.close(), (3, 8), 2),
    "settings change": Kind(change_settings, do_nothing, (0.5, 1), RECONNECT, affects=("calm",)),
    "settings break": Kind(break_settings, restore_settings, (1, 2), RECONNECT, affects=("calm",)),
    "service stopped": Kind(
        lambda w, _: stop_process(w), lambda w, _: continue_process(w), (0.5, 8), RECONNECT, alone=True
    ),
}
KINDS = CAMERA_KINDS | WORLD_KINDS


@dataclass
class Fault:
    """A fault that was injected."""

    kind: str
    camera: str
    began: float
    ended: float
    recovered: float | None
    """When everything had recovered, by ``time.monotonic()``."""
    shown: bool | None = None
    """Whether the service reported it."""
    disturbed: bool = False
    """Whether the machine was paused meanwhile; the fault is then repeated."""
    affected: set[str] = field(default_factory=set)

    @property
    def recovery_time(self) -> float:
        return (TIMEOUT if self.recovered is None else self.recovered) - self.ended

    def __str__(self) -> str:
        duration = self.ended - self.began
        return f"{self.kind} ({self.camera or 'all'}, {duration:.1f} s), back after {self.recovery_time:.1f} s"


def inject(world: World, name: str, camera: str, randomness: random.Random, longest: float) -> Fault:
    kind = KINDS[name]
    with world.fault(camera, kind.alone):
        world.lines.check()
        fault = Fault(name, camera, time.monotonic(), 0.0, None)
        fault.affected = set(NAMES) if kind.alone else {camera, *kind.affects} - {""}
        kind.begin(world, camera)
        duration = min(longest, randomness.uniform(*kind.lasts))
        time.sleep(duration)
        if kind.shows is not None and duration > kind.shown_after:
            fault.shown = kind.shows(world.since(fault.began), camera)
        kind.end(world, camera)
        fault.ended = time.monotonic()
        if world.wait_for(has_recovered(world, fault), TIMEOUT) is not None:
            fault.recovered = time.monotonic()
        fault.disturbed = world.was_paused(fault.began, fault.recovered or time.monotonic())
        world.faults.append(fault)
        return fault


def has_recovered(world: World, fault: Fault) -> Callable[[Sample], bool]:
    """Return a condition: affected cameras, by default all healthy ones, get results and have no output problem."""
    lowest: dict[str, int] = {}
    """Lowest frame counts; a restarted camera counts from zero."""

    def is_recovered(sample: Sample) -> bool:
        for name, frames in sample.frames.items():
            lowest[name] = min(frames, lowest.get(name, frames))
        # Other cameras may have faults of their own.
        names = fault.affected or {name for name in NAMES if world.is_healthy(name)}
        live = all(sample.states[n] == "live" and sample.frames[n] >= lowest[n] + 2 for n in names)
        fine = all(each["problem"] is None for name in names for each in sample.outputs[name].values())
        return live and (fine or bool(fault.camera))

    return is_recovered


def schedule(count: int, seed: int) -> list[tuple[str, str]]:
    """Return faults in random order; camera faults come with a camera's name, and twice as often."""
    randomness = random.Random(seed)
    deck = [*CAMERA_KINDS, *CAMERA_KINDS, *WORLD_KINDS]
    kinds = [kind for _ in range(-(-count // len(deck))) for kind in randomness.sample(deck, len(deck))]
    return [(kind, randomness.choice(NAMES[:-1]) if kind in CAMERA_KINDS else "") for kind in kinds[:count]]


def inject_all(
    world: World, faults: list[tuple[str, str]], pause: tuple[float, float], longest: float, seed: int = 24
) -> None:
    """Inject each camera's faults, and those without a camera, one after the other; these four sequences in parallel.

    ``pause``: range of the seconds before each fault; ``longest``: limit for the seconds that a fault lasts.
    """
    errors: list[BaseException] = []

    def inject_sequence(camera: str) -> None:
        randomness = random.Random(f"{seed} {camera}")
        try:
            for kind, faulty in faults:
                if faulty == camera and not errors:
                    time.sleep(randomness.uniform(*pause))
                    fault = inject(world, kind, camera, randomness, longest)
                    while fault.disturbed:
                        time.sleep(PAUSE_EFFECT)
                        fault = inject(world, kind, camera, randomness, longest)
                    print(f"{fault.began - world.began:7.1f} {fault}", flush=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=inject_sequence, args=(camera,)) for camera in (*NAMES[:-1], "")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture
def world(tmp_path: Path, edge_bundle: Path, rtsp: Callable) -> Iterator[World]:
    world = World(tmp_path, edge_bundle, rtsp)
    try:
        yield world
    finally:
        world.close()


def check_all(world: World, count: int) -> None:
    """Check everything after all faults."""
    end = time.monotonic()
    faults = [fault for fault in world.faults if not fault.disturbed]
    print(f"{count} faults in {end - world.began:.0f} s, {len(world.faults) - count} more while the machine was paused")
    print_recovery_times(faults)
    off_rate = cameras_off_rate(world, faults, end)
    memory = [sample.memory / 1e6 for sample in world.samples]
    fifth = len(memory) // 5
    early, late = statistics.median(memory[fifth : 2 * fifth]), statistics.median(memory[-fifth:])
    print(f"memory {early:.0f} MB early, {late:.0f} MB late; {world.process.num_threads()} threads")
    descriptors = world.process.num_fds()
    print(f"{descriptors} descriptors, {world.descriptors} at first")
    code, seconds = world.stop()
    world.lines.check()
    print(f"{world.lines.count} lines, all whole; stopped in {seconds:.1f} s")
    assert len(faults) == count
    assert not [str(fault) for fault in faults if fault.recovery_time > KINDS[fault.kind].recovery]
    assert not [str(fault) for fault in faults if fault.shown is False]
    assert not off_rate
    assert late < early * 1.1 + 10
    assert descriptors <= world.descriptors + 8
    assert code == 0, world.service.errors
    assert seconds < 2 * slowdown()
    assert world.lines.incomplete_files() == []
    assert len(world.lines.months) > any(fault.kind == "clock jumps" for fault in faults)
    log = "\n".join(world.service.errors)
    assert "Traceback" not in log
    assert "s3cret" not in log
    assert [line for line in world.service.errors if not line.startswith(SAYS)] == []


def cameras_off_rate(world: World, faults: list[Fault], end: float) -> list[str]:
    """Return the healthy cameras whose rate was wrong during a fault or over all."""
    healthy, off_rate = world.healthy_times(end, HEALTHY_AGAIN), []
    for fault in faults:
        for name in set(NAMES) - fault.affected:
            times = [
                (max(a, fault.began), min(b, max(fault.recovered or 0, fault.began + 8))) for a, b in healthy[name]
            ]
            if not is_expected_rate(*(rate := world.count_frames(name, times))):
                off_rate.append(f"{name}: {rate[0]} in {rate[1]:.1f} s, during {fault}")
    for name in NAMES:
        frames, seconds, intervals = world.count_frames(name, healthy[name])
        print(f"{name}: {frames} frames in {seconds:.0f} healthy seconds, {frames / seconds:.3f} a second")
        if not is_expected_rate(frames, seconds, intervals if seconds < 60 else 0):
            off_rate.append(f"{name}: {frames} in {seconds:.1f} s")
    return off_rate


def is_expected_rate(frames: int, seconds: float, intervals: int) -> bool:
    """Return whether the frames match the camera's rate; each of several intervals may add or lose one."""
    return seconds < 5 or 0.9 * RATE * seconds - intervals <= frames <= 1.1 * RATE * seconds + intervals


def print_recovery_times(faults: list[Fault]) -> None:
    for name, kind in KINDS.items():
        if times := [fault.recovery_time for fault in faults if fault.kind == name]:
            median, most = statistics.median(times), max(times)
            print(f"{name:24} {len(times):3}  median {median:5.1f}  most {most:5.1f}  of {kind.recovery}")


CHOSEN = [
    ("server killed", "door"),
    ("another size", "door"),
    ("cable pulled", "yard"),
    ("freezes", "yard"),
    ("bytes change", "hall"),
    ("another codec", "hall"),
    ("disk full", ""),
    ("broker killed", ""),
    ("clock jumps", ""),
    ("backend fails", ""),
    ("settings change", ""),
]


@pytest.mark.slow
def test_service_recovers_from_chosen_faults(world: World):
    inject_all(world, CHOSEN, (0.5, 1.0), 2.5)
    check_all(world, len(CHOSEN))


def test_service_survives_a_closed_log(tmp_path: Path):
    config = tmp_path / "serve.toml"
    config.write_text("[web]\nport = 0\n" + camera("door", CLIP, loop=True, lines={"folder": tmp_path}))
    service = subprocess.Popen([*COMMAND, "serve", str(config)], stderr=subprocess.PIPE)
    try:
        assert service.stderr is not None
        assert b"live page: " in service.stderr.readline()
        service.stderr.close()
        config.write_text("")
        for _ in range(3):
            service.send_signal(signal.SIGHUP)
            time.sleep(0.5)
        assert service.poll() is None
        service.terminate()
        assert service.wait(10) == 0
    finally:
        service.kill()
        service.wait()
    assert list(tmp_path.glob("door-*.jsonl"))


def test_failed_start_of_a_video_leaks_no_descriptor(tmp_path: Path):
    video = tmp_path / "full.mp4"
    video.symlink_to("/dev/full")
    process = psutil.Process()
    before = process.num_fds()
    for _ in range(5):
        writer = VideoWriter(video, 10, at_once=True)
        with pytest.raises(SinkError, match="No space left"):
            writer.write(np.zeros((64, 96, 3), np.uint8), 0.0)
        writer.close(finish=False)
    assert process.num_fds() == before


def test_silent_camera_does_not_block_opening_others(rtsp: Callable):
    camera = rtsp(rate=10)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/camera"
        waiting = threading.Thread(target=lambda: StreamCapture(address, 4.0, 1.0))
        waiting.start()
        time.sleep(0.2)
        other = StreamCapture(camera.address, 4.0, 1.0)
        assert other.isOpened()
        assert other.read()[0]
        assert waiting.is_alive()
        other.release()
        waiting.join()


@pytest.mark.soak
def test_service_recovers_from_200_faults(world: World):
    count = int(os.environ.get("FAULTS", "200"))
    inject_all(world, schedule(count, 24), (0.5, 3), 60)
    check_all(world, count)
