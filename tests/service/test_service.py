"""The service as a process: its files, signals, messages to systemd, and errors."""

import configparser
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import SAYS, done, refused, stm
from pace import slowdown
from running import ROOT, Running, camera, mosquitto, read_lines

from runtime.service.service import Service
from runtime.service.watchdog import ServiceManager, StuckTest
from runtime.session_group import SessionGroup


@pytest.fixture
def start_service() -> Iterator[Callable[..., Running]]:
    services: list[Running] = []

    def run(config: Path, environment: dict[str, str] | None = None) -> Running:
        services.append(Running(config, environment))
        return services[-1]

    yield run
    for service in services:
        service.close()


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    path = tmp_path / "serve.toml"

    def write(*cameras: str, head: str = "") -> Path:
        path.write_text(f"{head}\n[model]\nthreads = 1\n[web]\nport = 0\n" + "\n".join(cameras))
        return path

    return write


def test_example_is_valid():
    text = done("serve", ROOT / "deploy" / "serve.toml", "--check")
    assert text.rstrip().endswith("serve.toml is valid; model: edge; cameras: door")
    assert len(text.splitlines()) == 1


def test_service_ends_when_all_files_have_ended(config: Callable[..., Path], tmp_path: Path, clip: Path):
    out = tmp_path / "lines"
    short = tmp_path / "short.png"
    short.write_bytes(first_frame_as_png(clip))
    path = config(*(camera(name, short, pace="all", lines={"folder": out}) for name in ("door", "yard")))
    result = stm("serve", path)
    assert result.returncode == 0, result.stderr
    assert all(line.startswith(SAYS) for line in result.stderr.splitlines())
    assert [len(read_lines(out, name)) for name in ("door", "yard")] == [1, 1]
    assert read_lines(out, "door")[0]["people"] == read_lines(out, "yard")[0]["people"]


def first_frame_as_png(clip: Path) -> bytes:
    import cv2

    return cv2.imencode(".png", cv2.VideoCapture(str(clip)).read()[1])[1].tobytes()


MISTAKES = [
    ("threads", "treads", "model.treads: unknown key"),
    ("[[cameras]]", camera("Door") + "[[cameras]]", "cameras: two cameras have the same name"),
    ("[model]", "[model]\nbundle = 'none'", "no model or bundle 'none'"),
    ("[model]", "[model]\nbackend = 'openvino'\nprovider = 'cuda'", "model.provider applies to backend onnxruntime"),
    ('"out"', '"/dev/null/out"', "camera door: lines.folder: cannot write to /dev/null/out"),
    ("port = 0", "port = 0\nhost = '0.0.0.0'", "set web.token_file to a file with a token"),
    ("port = 0", "port = 0\ntoken_file = '/none'", "cannot read web.token_file"),
    ("port = 0", "port = 0\nkey = '/none'", "must be given together"),
    ("[web]", "[mqtt]\nhost = 'x'\nusername = 'u'\npassword_file = '/none'\n[web]", "cannot read /none"),
    ("[web]", "[mqtt]\nhost = ''\n[web]", "mqtt.host: not a host name or address"),
    ("port = 0", "port = 0\nhost = 'a..b'", "web.host: not a host name or address"),
    ("[model]", "[model", "is not TOML"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[message for _, _, message in MISTAKES])
@pytest.mark.parametrize("options", [["--check"], []], ids=["check", "run"])
def test_config_mistake_is_reported_in_one_line(
    config: Callable[..., Path], old: str, new: str, message: str, options: list[str]
):
    path = config(camera("door", lines={"folder": "out"}))
    path.write_text(path.read_text().replace(old, new))
    assert message in refused("serve", path, *options)


def test_port_in_use_is_reported_in_one_line(config: Callable[..., Path]):
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        path = config(camera("door"))
        path.write_text(path.read_text().replace("port = 0", f"port = {used.getsockname()[1]}"))
        assert "cannot listen: " in refused("serve", path)


def test_missing_configuration_is_reported_in_one_line(tmp_path: Path):
    assert "cannot read" in refused("serve", tmp_path / "none.toml")


def test_signal_finishes_all_files(start_service: Callable[..., Running], config: Callable[..., Path], tmp_path: Path):
    out = tmp_path / "out"
    service = start_service(
        config(
            camera("door", loop=True, lines={"folder": out}, recording={"folder": out}),
            camera("gone", tmp_path / "none.avi"),
            camera("dead", "rtsp://somebody:s3cret@127.0.0.1:9/camera"),
        )
    )
    service.wait(lambda: service.camera("door")["frames"] >= 5)
    service.wait(lambda: service.camera("dead")["state"] == "away")
    assert service.camera("gone")["state"] == "away"
    assert service.http_status("/healthz") == service.http_status("/readyz") == 200
    answered = service.camera("door")["frames"]
    code, seconds = service.stop()
    assert code == 0
    assert seconds < 2 * slowdown()
    assert len(read_lines(out, "door")) >= answered
    assert [file.suffix for file in out.iterdir() if file.name.startswith(".")] == [], "nothing is left half-written"
    assert len(list(out.glob("door-*.mp4"))) == 1
    assert "s3cret" not in "\n".join(service.errors)
    assert all(line.startswith(SAYS) for line in service.errors)


def test_all_outputs_are_connected(start_service: Callable[..., Running], config: Callable[..., Path], tmp_path: Path):
    out = tmp_path / "out"
    whole_image = {"kind": "region", "name": "all", "region": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]}
    folders = {"lines": {"folder": out}, "recording": {"folder": out}, "clips": {"folder": out, "after": 0.5}}
    with mosquitto(tmp_path) as port:
        path = config(
            camera("door", loop=True, rules=[whole_image], **folders), head=f"[mqtt]\nhost = '127.0.0.1'\nport = {port}"
        )
        service = start_service(path)
        service.wait(lambda: service.camera("door")["frames"] >= 8)
        assert set(service.camera("door")["outputs"]) == {"lines", "recording", "clips", "mqtt", "page"}
        service.wait(lambda: service.camera("door")["outputs"]["mqtt"]["written"] >= 3)
        received = subprocess.run(
            ["mosquitto_sub", "-p", str(port), "-t", "stm-skeletons/#", "-v", "-W", "2"], capture_output=True, text=True
        ).stdout
        assert "stm-skeletons/status online" in received
        assert "stm-skeletons/door/state live" in received
        assert "stm-skeletons/door/people {" in received
        answered = service.camera("door")["frames"]
        code, seconds = service.stop()
    assert code == 0, service.errors
    assert seconds < 2 * slowdown()
    lines = read_lines(out, "door")
    assert len(lines) >= answered
    events = [event for line in lines for event in line["events"]]
    assert (events[0]["kind"], events[0]["what"]) == ("region", "entered")
    assert (out / events[0]["clip"]).stat().st_size > 0
    assert [file for file in out.glob("door-*.mp4") if not file.name.endswith("-event.mp4")]


def test_interrupt_is_not_an_error(start_service: Callable[..., Running], config: Callable[..., Path]):
    service = start_service(config(camera("door", loop=True)))
    assert service.stop(signal.SIGINT)[0] == 0, service.errors


def test_reload_does_not_disturb_unchanged_cameras(
    start_service: Callable[..., Running], config: Callable[..., Path], tmp_path: Path
):
    out = tmp_path / "out"
    door = camera("door", loop=True, lines={"folder": out})
    path = config(door, camera("yard", loop=True, lines={"folder": out}))
    service = start_service(path)
    service.wait(lambda: min(service.camera(name)["frames"] for name in ("door", "yard")) >= 3)

    path.write_text(path.read_text().replace("[web]", "[web]\nprot = 1"))
    service.process.send_signal(signal.SIGHUP)
    assert "web.prot: unknown key; keeping the previous configuration" in service.wait_for("unknown key")
    before = service.camera("door")["frames"]
    service.wait(lambda: service.camera("door")["frames"] > before + 2)

    config(door, camera("yard", loop=True, rate=1), camera("hall", loop=True))
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("1 cameras unchanged, 2 new or changed")
    service.wait(lambda: service.camera("hall")["frames"] >= 3)
    assert [each["name"] for each in service.status()["cameras"]] == ["door", "yard", "hall"]
    assert service.camera("door")["frames"] > before
    assert service.camera("door")["reconnects"] == 0
    assert service.status()["rebuilds"] == 0

    config(door)
    service.process.send_signal(signal.SIGHUP)
    service.wait(lambda: len(service.status()["cameras"]) == 1)
    before = service.camera("door")["frames"]
    service.wait(lambda: service.camera("door")["frames"] > before + 2)
    assert service.stop()[0] == 0
    numbers = [line["frame"] for line in read_lines(out, "door")]
    assert numbers == sorted(set(numbers))
    assert len(list(out.glob("door-*.jsonl"))) == 1


def test_service_manager_is_notified(
    start_service: Callable[..., Running], config: Callable[..., Path], tmp_path: Path
):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        service = start_service(
            config(camera("door", loop=True)),
            {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"},
        )
        received: list[str] = []

        def receives(text: str) -> bool:
            while not any(text in message for message in received):
                received.append(manager.recv(4096).decode())
            return True

        assert receives("READY=1")
        assert receives("STATUS=1 of 1 cameras live")
        assert received.index("READY=1") < received.index("STATUS=1 of 1 cameras live")
        received.clear()
        started = time.monotonic()
        assert receives("WATCHDOG=1")
        assert time.monotonic() - started < 1
        service.process.send_signal(signal.SIGHUP)
        assert receives("RELOADING=1\nMONOTONIC_USEC=")
        received.clear()
        assert receives("READY=1")
        service.process.send_signal(signal.SIGTERM)
        assert receives("STOPPING=1")


def test_abstract_socket_is_notified():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"stm-skeletons-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert manager.recv(100) == b"READY=1"
    ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()  # a missing listener is not an error
    ServiceManager({}).ready()


def test_stuck_is_work_without_progress():
    test = StuckTest(patience=0.1)
    assert not test.update(0, has_work=True)
    time.sleep(0.15)
    assert test.update(0, has_work=True)
    assert not test.update(1, has_work=True)
    time.sleep(0.15)
    assert not test.update(1, has_work=False)
    assert not test.update(1, has_work=True)


def test_silent_address_does_not_delay_the_exit(start_service: Callable[..., Running], config: Callable[..., Path]):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/camera"
        service = start_service(config(camera("silent", address), camera("door", loop=True)))
        service.wait(lambda: service.camera("door")["frames"] >= 2)
        code, seconds = service.stop()
    assert code == 0, service.errors
    assert seconds < 2 * slowdown()


@pytest.mark.slow
def test_camera_dies_and_reconnects_while_the_other_continues(
    start_service: Callable[..., Running], config: Callable[..., Path], rtsp: Callable
):
    first, second = rtsp(rate=5), rtsp(rate=5)
    service = start_service(config(camera("first", first.address), camera("second", second.address)))
    service.wait(lambda: all(service.camera(name)["state"] == "live" for name in ("first", "second")))
    service.wait(lambda: service.http_status("/readyz") == 200)
    first.kill()
    died = time.monotonic()
    service.wait(lambda: service.camera("first")["state"] == "away", within=10)
    assert time.monotonic() - died < 3 * slowdown()
    before = service.camera("second")["frames"]
    service.wait(lambda: service.camera("second")["frames"] > before + 5)
    first.start()
    service.wait(lambda: service.camera("first")["state"] == "live", within=20)
    assert service.camera("first")["reconnects"] == 1
    assert service.stop()[0] == 0
    assert "s3cret" not in "\n".join(service.errors)


def test_unit_has_a_watchdog_and_is_unprivileged():
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    unit.read(ROOT / "deploy" / "systemd" / "stm-skeletons.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 10, "a reload sends no watchdog messages"
    assert service["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(service["TimeoutStopSec"]) > 2
    assert service["DynamicUser"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["StateDirectory"]
    for key in ("PrivateDevices", "DeviceAllow", "MemoryDenyWriteExecute", "PrivateNetwork"):
        assert key not in service, key


def test_documented_configuration_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (ROOT / "docs" / "service.md").read_text()
    path = tmp_path / "documented.toml"
    (tmp_path / "token").write_text("0123456789abcdef")
    example = text.partition("```toml\n")[2].partition("```")[0]
    path.write_text(example.replace("/etc/stm-skeletons/token", "token"))
    monkeypatch.chdir(tmp_path)
    assert done("serve", path, "--check").rstrip().endswith("model: edge; cameras: door, aisle")


@pytest.mark.slow
def test_hanging_device_marks_the_service_stuck_and_does_not_delay_exit(
    config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    released = threading.Event()
    monkeypatch.setattr(SessionGroup, "step", lambda *_: released.wait(60))
    service = Service(config(camera("door", loop=True), head="watchdog = 0.5"))
    seen: list[bool] = []
    watcher = threading.Timer(4.0, lambda: seen.append(service.board.snapshot().stuck))
    watcher.start()
    started = time.monotonic()
    try:
        service.run(6.0)
    finally:
        took = time.monotonic() - started
        released.set()
        watcher.join()
    assert seen == [True]
    assert took < 6 + 2 * slowdown()
    assert service.left_behind
    assert "stuck: no frame finished for 0.5 s" in capfd.readouterr().err
