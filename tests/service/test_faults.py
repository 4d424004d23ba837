"""Faults of every kind at random times: what is broken comes back in its time, and nobody else notices.

Each is really made: cameras, cables, a broker, a disk and the service itself are real. Only the backend is told to
fail, and the clock that jumps is that of the service's process alone.
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
from world import FELT, NAMES, RATE, STALL, Sample, World, continue_process, deaf_client, page_port, stop_process

from runtime.stream_capture import StreamCapture
from runtime.video_writer import VideoWriter
from stm_skeletons.errors import SinkError

SHOWN = STALL + 3.0
"""Seconds after which a fault that lasts is to be seen in the camera's state."""
HEALTHY_AGAIN = 2.0
"""Seconds after a camera is back, from which on it counts as one of the healthy ones."""
RECONNECT = 15.0
"""Seconds within which a camera is back whose connection broke: up to 8 until the next attempt, 3 until FFmpeg knows
what it sees, and some more where an attempt comes to nothing."""
NEVER = 60.0


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    begin: Callable[[World, str], object]
    end: Callable[[World, str], object]
    lasts: tuple[float, float]
    """Seconds, at random between these."""
    back: float
    """Seconds within which all is well once it is over."""
    shows: Callable[[list[Sample], str], bool] | None = None
    """Whether the service says so while it lasts, if it lasts long enough."""
    after: float = SHOWN
    """Seconds that are long enough."""
    alone: bool = False
    """Whether it is everybody's, so that no other is made at the time."""
    hits: tuple[str, ...] = ()
    """Cameras that it is about, of those that are about no chosen one."""


def state(what: str) -> Callable[[list[Sample], str], bool]:
    return lambda samples, camera: any(sample.states[camera] == what for sample in samples)


def problem(output: str) -> Callable[[list[Sample], str], bool]:
    def shows(samples: list[Sample], _: str) -> bool:
        outputs = [each for sample in samples for each in sample.outputs.values()]
        return any(each[output]["problem"] for each in outputs if output in each)

    return shows


def is_wide(samples: list[Sample], camera: str) -> bool:
    return any(sample.widths[camera] == 320 for sample in samples)


def rebuilt(samples: list[Sample], _: str) -> bool:
    return samples[-1].rebuilds > samples[0].rebuilds


def tells(command: str) -> Callable[[World, str], object]:
    return lambda world, name: world.cameras[name].tell(command)


def set_bad(bad: bool) -> Callable[[World, str], object]:
    return lambda world, name: setattr(world.cables[name], "bad", bad)


def cut(world: World, name: str) -> None:
    world.cables[name].refuses = True
    world.cables[name].cut()


def mend(world: World, name: str) -> None:
    world.cables[name].refuses = False


def another_codec(world: World, name: str) -> None:
    world.cameras[name].tell(f"codec {world.random.choice(('h264', 'vp8'))}")


CAMERA_KINDS = {
    "freezes": Kind(tells("freeze"), tells("go"), (1, 7), 2, state("frozen")),
    "goes black": Kind(tells("black"), tells("go"), (1, 7), 2, state("black")),
    "sends nothing": Kind(tells("stall"), tells("go"), (0.5, 8), RECONNECT, state("away")),
    "another size": Kind(tells("size 320x200"), tells("size 256x160"), (1, 5), 2, is_wide, 1.5),
    "another rate": Kind(tells(f"rate {2 * RATE}"), tells(f"rate {RATE}"), (1, 5), 2),
    "other pixels": Kind(tells("pixels Y42B"), tells("pixels I420"), (1, 5), 2),
    "another codec": Kind(another_codec, tells("codec jpeg"), (2, 8), RECONNECT),
    "bytes change": Kind(set_bad(True), set_bad(False), (1, 6), 25),
    "cable pulled": Kind(
        lambda w, n: w.cables[n].pull(), lambda w, n: w.cables[n].plug(), (0.5, 10), RECONNECT, state("away")
    ),
    "cable cut": Kind(cut, mend, (0.5, 8), RECONNECT, state("away")),
    "server killed": Kind(
        lambda w, n: w.cameras[n].kill(), lambda w, n: w.cameras[n].start(), (0.5, 8), RECONNECT, state("away")
    ),
}


def restart_broker(world: World, _: str) -> None:
    world.broker.start()


def pause_broker(world: World, _: str) -> None:
    world.broker.process.send_signal(signal.SIGSTOP)


def continue_broker(world: World, _: str) -> None:
    world.broker.process.send_signal(signal.SIGCONT)


def fails(steps: int, loads: int = 0) -> Callable[[World, str], object]:
    return lambda world, _: world.fail(world.random.randrange(len(NAMES)), steps, loads)


def works_again(world: World, _: str) -> None:
    """Whoever is parked by now is tried again."""
    world.failures.unlink(missing_ok=True)
    time.sleep(0.5)
    if "parked" in world.service_states().values():
        world.reload()


def settings_change(world: World, _: str) -> None:
    world.write_config(calm_score=round(world.random.uniform(0.05, 0.3), 4))
    world.reload()


def settings_break(world: World, _: str) -> None:
    world.write_config(broken=True)
    world.reload()


def settings_are_right(world: World, _: str) -> None:
    world.write_config()
    world.reload()


def clients_watch(world: World, _: str) -> None:
    for _each in range(3):
        world.clients.enter_context(deaf_client(page_port(world)))


def nothing(_world: World, _: str) -> None: ...


WORLD_KINDS = {
    "clock jumps": Kind(lambda w, _: w.set_clock(w.random.randint(-(10**8), 10**8)), nothing, (1, 4), 2),
    "disk full": Kind(lambda w, _: w.fill_disk(), lambda w, _: w.empty_disk(), (2.2, 8), 12, problem("lines"), 2),
    "broker killed": Kind(lambda w, _: w.broker.kill(), restart_broker, (0.5, 8), 12, problem("mqtt"), 2),
    "broker hangs": Kind(pause_broker, continue_broker, (1, 8), 12),
    "backend fails": Kind(fails(1), works_again, (1, 2), 8, rebuilt, 1.5, alone=True),
    "backend fails thrice": Kind(fails(3), works_again, (2, 4), 15, rebuilt, 1.5, alone=True),
    "model cannot be loaded": Kind(fails(1, 2), works_again, (3, 5), 8, rebuilt, alone=True),
    "clients read nothing": Kind(clients_watch, lambda w, _: w.clients.close(), (3, 8), 2),
    "settings change": Kind(settings_change, nothing, (0.5, 1), RECONNECT, hits=("calm",)),
    "settings break": Kind(settings_break, settings_are_right, (1, 2), RECONNECT, hits=("calm",)),
    "service stopped": Kind(
        lambda w, _: stop_process(w), lambda w, _: continue_process(w), (0.5, 8), RECONNECT, alone=True
    ),
}
KINDS = CAMERA_KINDS | WORLD_KINDS


@dataclass
class Fault:
    """One that was made."""

    kind: str
    camera: str
    began: float
    ended: float
    back: float | None
    """When all was well again, by ``time.monotonic()``."""
    shown: bool | None = None
    """Whether the service said so."""
    disturbed: bool = False
    """Whether the machine was paused meanwhile; it is made again then."""
    hit: set[str] = field(default_factory=set)

    @property
    def took(self) -> float:
        return (NEVER if self.back is None else self.back) - self.ended

    def __str__(self) -> str:
        return f"{self.kind} ({self.camera or 'all'}, {self.ended - self.began:.1f} s), back after {self.took:.1f} s"


def make(world: World, name: str, camera: str, randomness: random.Random, longest: float) -> Fault:
    kind = KINDS[name]
    with world.fault(camera, kind.alone):
        world.lines.check()
        fault = Fault(name, camera, time.monotonic(), 0.0, None)
        fault.hit = set(NAMES) if kind.alone else {camera, *kind.hits} - {""}
        kind.begin(world, camera)
        lasts = min(longest, randomness.uniform(*kind.lasts))
        time.sleep(lasts)
        if kind.shows is not None and lasts > kind.after:
            fault.shown = kind.shows(world.since(fault.began), camera)
        kind.end(world, camera)
        fault.ended = time.monotonic()
        if world.wait_for(all_is_well(world, fault), NEVER) is not None:
            fault.back = time.monotonic()
        fault.disturbed = world.was_paused(fault.began, fault.back or time.monotonic())
        world.faults.append(fault)
        return fault


def all_is_well(world: World, fault: Fault) -> Callable[[Sample], bool]:
    """Frames of the camera are answered, or of all if it is none's fault, and their outputs have no problem."""
    least: dict[str, int] = {}
    """Frames; a camera that was started anew counts from zero."""

    def so(sample: Sample) -> bool:
        for name, frames in sample.frames.items():
            least[name] = min(frames, least.get(name, frames))
        # Of others each may have a fault of its own.
        names = fault.hit or {name for name in NAMES if world.is_healthy(name)}
        live = all(sample.states[n] == "live" and sample.frames[n] >= least[n] + 2 for n in names)
        fine = all(each["problem"] is None for name in names for each in sample.outputs[name].values())
        return live and (fine or bool(fault.camera))

    return so


def schedule(number: int, seed: int) -> list[tuple[str, str]]:
    """So many kinds of faults in random order, those at cameras with a camera's name, and twice as often."""
    randomness = random.Random(seed)
    deck = [*CAMERA_KINDS, *CAMERA_KINDS, *WORLD_KINDS]
    kinds = [kind for _ in range(-(-number // len(deck))) for kind in randomness.sample(deck, len(deck))]
    return [(kind, randomness.choice(NAMES[:-1]) if kind in CAMERA_KINDS else "") for kind in kinds[:number]]


def make_all(
    world: World, faults: list[tuple[str, str]], pause: tuple[float, float], longest: float, seed: int = 24
) -> None:
    """The faults of each camera one after the other, and so those of all; these four at the same time.

    ``pause``: seconds before each, from and to; ``longest``: seconds that one lasts at most.
    """
    errors: list[BaseException] = []

    def make_some(camera: str) -> None:
        randomness = random.Random(f"{seed} {camera}")
        try:
            for kind, of in faults:
                if of == camera and not errors:
                    time.sleep(randomness.uniform(*pause))
                    fault = make(world, kind, camera, randomness, longest)
                    while fault.disturbed:
                        time.sleep(FELT)
                        fault = make(world, kind, camera, randomness, longest)
                    print(f"{fault.began - world.began:7.1f} {fault}", flush=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make_some, args=(camera,)) for camera in (*NAMES[:-1], "")]
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


def judge(world: World, number: int) -> None:
    """What must hold after all faults."""
    end = time.monotonic()
    faults = [fault for fault in world.faults if not fault.disturbed]
    print(
        f"{number} faults in {end - world.began:.0f} s, {len(world.faults) - number} more while the machine was paused"
    )
    print_table(faults)
    slow = slow_ones(world, faults, end)
    memory = [sample.memory / 1e6 for sample in world.samples]
    fifth = len(memory) // 5
    early, late = statistics.median(memory[fifth : 2 * fifth]), statistics.median(memory[-fifth:])
    print(f"memory {early:.0f} MB early, {late:.0f} MB late; {world.process.num_threads()} threads")
    descriptors = world.process.num_fds()
    print(f"{descriptors} descriptors, {world.descriptors} at first")
    code, seconds = world.stop()
    world.lines.check()
    print(f"{world.lines.count} lines, all whole; stopped in {seconds:.1f} s")
    assert len(faults) == number
    assert not [str(fault) for fault in faults if fault.took > KINDS[fault.kind].back]
    assert not [str(fault) for fault in faults if fault.shown is False]
    assert not slow
    assert late < early * 1.1 + 10
    assert descriptors <= world.descriptors + 8
    assert code == 0, world.service.errors
    assert seconds < 2 * slowdown()
    assert world.lines.half() == []
    assert len(world.lines.months) > any(fault.kind == "clock jumps" for fault in faults)
    said = "\n".join(world.service.errors)
    assert "Traceback" not in said
    assert "s3cret" not in said
    assert [line for line in world.service.errors if not line.startswith(SAYS)] == []


def slow_ones(world: World, faults: list[Fault], end: float) -> list[str]:
    """Healthy cameras whose rate was another one while a fault was made, and over all."""
    healthy, slow = world.healthy_times(end, HEALTHY_AGAIN), []
    for fault in faults:
        for name in set(NAMES) - fault.hit:
            times = [(max(a, fault.began), min(b, max(fault.back or 0, fault.began + 8))) for a, b in healthy[name]]
            if not is_right(*(rate := world.answered(name, times))):
                slow.append(f"{name}: {rate[0]} in {rate[1]:.1f} s, during {fault}")
    for name in NAMES:
        answered, seconds, pieces = world.answered(name, healthy[name])
        print(f"{name}: {answered} frames in {seconds:.0f} healthy seconds, {answered / seconds:.3f} a second")
        if not is_right(answered, seconds, pieces if seconds < 60 else 0):
            slow.append(f"{name}: {answered} in {seconds:.1f} s")
    return slow


def is_right(answered: int, seconds: float, pieces: int) -> bool:
    """Whether these are as many frames as the camera sends; of short times one more or less in each piece."""
    return seconds < 5 or 0.9 * RATE * seconds - pieces <= answered <= 1.1 * RATE * seconds + pieces


def print_table(faults: list[Fault]) -> None:
    for name, kind in KINDS.items():
        if took := [fault.took for fault in faults if fault.kind == name]:
            print(
                f"{name:24} {len(took):3}  median {statistics.median(took):5.1f}  most {max(took):5.1f}  of {kind.back}"
            )


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
def test_some_faults(world: World):
    make_all(world, CHOSEN, (0.5, 1.0), 2.5)
    judge(world, len(CHOSEN))


def test_nobody_reads_the_log(tmp_path: Path):
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


def test_a_video_that_cannot_be_begun_costs_no_descriptor(tmp_path: Path):
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


def test_a_silent_camera_does_not_keep_others_from_being_opened(rtsp: Callable):
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
def test_two_hundred_faults(world: World):
    number = int(os.environ.get("FAULTS", "200"))
    make_all(world, schedule(number, 24), (0.5, 3), 60)
    judge(world, number)
