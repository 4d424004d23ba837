"""The web side of the service, asked over real connections: who is let in, what is answered, what clients cost."""

import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from runtime import Session
from runtime.frames import Frame
from runtime.service.config import CameraConfig, ServiceConfig, WebConfig
from runtime.service.results import Event, Result
from runtime.service.status import Board, ModelStatus, ServiceStatus
from runtime.service.web import server as server_module
from runtime.service.web.app import make_app
from runtime.service.web.hub import Hub
from runtime.service.web.limits import Allowance
from runtime.service.web.server import WebServer
from stm_skeletons.errors import ServiceError
from stm_skeletons.parts import Parts

TOKEN = "0123456789abcdef-secret"
CAMERAS = ("door", "yard")
Seen = tuple[np.ndarray, Parts]


@pytest.fixture(scope="module")
def seen(clip: Path) -> list[Seen]:
    """Frames of the sample clip, and what the model found in them."""
    video = cv2.VideoCapture(str(clip))
    with Session.open("edge") as session:
        return [(image, session.step(image)) for image in (np.asarray(video.read()[1], np.uint8) for _ in range(6))]


class Site:
    """A board, a hub and a web server as the service has them."""

    def __init__(self, web: WebConfig, board: Board | None = None) -> None:
        self.board, self.hub = board or Board(), Hub(web)
        self.board.model = ModelStatus(bundle="edge", precision="fp32", backend="onnxruntime", provider="cpu")
        self.outputs = {name: self.hub.output(name) for name in CAMERAS}
        for name, output in self.outputs.items():
            self.board.camera(name).outputs = (output,)
        config = ServiceConfig(web=web, cameras=tuple(CameraConfig(name=name, source="0") for name in CAMERAS))
        self.server = WebServer(make_app(self.board, self.hub, config), web)
        self.server.start()
        self.port = int(self.server.address.rpartition(":")[2])
        self.address = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.address)
        self.number = 0

    def give(self, seen: Seen, camera: str = "door", events: tuple[Event, ...] = ()) -> Result:
        """A frame to the hub and the board, as the detector does."""
        now, self.number = time.monotonic(), self.number + 1
        result = Result(camera, Frame(self.number, 0.0, seen[0], arrived=now), seen[1], time.time(), seen[1], events)
        stats = self.board.camera(camera)
        stats.arrived(now, seen[1].size)
        self.outputs[camera].offer(result)
        stats.answered(now, 0.001, len(seen[1].people))
        return result

    def watch(self, **options: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}/ws", **options)


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def start(board: Board | None = None, **web: Any) -> Site:
        sites.append(Site(WebConfig.model_validate({"port": 0, "requests_per_minute": 100_000} | web), board))
        return sites[-1]

    yield start
    for each in sites:
        each.server.stop(2.0)
        each.client.close()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    (tmp_path / "token").write_text(TOKEN + "\n")
    return str(tmp_path / "token")


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def message(socket: ClientConnection, kind: str, within: float = 3.0) -> dict[str, Any]:
    """The next message of that kind."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        received = socket.recv(timeout=max(0.01, end - time.monotonic()))
        if isinstance(received, str) and (found := json.loads(received))["type"] == kind:
            return found
    raise TimeoutError(kind)


def read_to_the_end(socket: ClientConnection) -> None:
    """Until the other side ends it: raises ConnectionClosed."""
    while True:
        socket.recv(timeout=3)


def event(number: int, camera: str = "door") -> Event:
    return Event(camera, "gate", "line", 1_700_000_000.0 + number, number + 1, "in", number, None)


def watching(site: Site, clients: int = 1) -> None:
    """Wait until the hub knows that so many watch."""
    end = time.monotonic() + 3
    while len(site.hub.clients) != clients:
        assert time.monotonic() < end
        time.sleep(0.01)


# Who is let in


def test_beyond_this_machine_nothing_goes_without_a_token(site, token_file):
    paths = ["/", "/app.js", "/draw.js", "/icon.svg", "/api/status", "/api/cameras/door", "/api/events", "/metrics"]
    paths += ["/healthz", "/readyz", "/api/openapi.json", "/nothing"]
    there = site(host="0.0.0.0", token_file=token_file)
    for path in paths:
        answer = there.client.get(path)
        assert answer.status_code == (303 if path == "/" else 401), path
        assert path == "/" or answer.headers["www-authenticate"] == "Bearer"
    assert there.client.get("/api/status", headers=bearer()).status_code == 200
    for wrong in (bearer(TOKEN[:-1]), bearer(TOKEN + "0"), {"Authorization": "Bearer"}, {"Authorization": TOKEN}):
        assert there.client.get("/api/status", headers=wrong).status_code == 401
    assert there.client.get("/api/status", params={"token": TOKEN}).status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        there.watch()
    assert refused.value.response.status_code == 401
    with there.watch(additional_headers=bearer()) as watcher:
        assert message(watcher, "hello")["login"] is True


def test_the_form_gives_a_cookie_that_outlives_a_restart(site, token_file):
    there = site(host="0.0.0.0", token_file=token_file)
    with httpx.Client(base_url=there.address) as client:
        assert "<form" in client.get("/login").text
        wrong = client.post("/login", data={"token": "no"})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        right = client.post("/login", data={"token": TOKEN})
        assert right.status_code == 303
        assert right.headers["location"] == "/"
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200
        cookies = {"Cookie": cookie.partition(";")[0]}
    again = site(host="0.0.0.0", token_file=token_file)
    assert again.client.get("/api/status", headers=cookies).status_code == 200
    with again.watch(additional_headers=cookies) as watcher:
        message(watcher, "hello")
    name, _, value = cookies["Cookie"].partition("=")
    until, _, signature = value.partition(".")
    for forged in (
        f"{int(until) + 1}.{signature}",
        f"{until}.{signature[:-1]}",
        f"{until}.",
        ".",
        "x",
        f"1.{signature}",
    ):
        assert again.client.get("/api/status", headers={"Cookie": f"{name}={forged}"}).status_code == 401


def test_who_tries_tokens_must_wait(site, token_file):
    there = site(host="0.0.0.0", token_file=token_file, requests_per_minute=600)
    with httpx.Client(base_url=there.address) as client:
        tried = [client.get("/api/status", headers=bearer(f"wrong-{n}")).status_code for n in range(12)]
        assert tried.count(401) <= 10
        assert tried[-1] == 429
        answer = client.post("/login", data={"token": TOKEN})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("token", ["short", "x" * 300, "with a blank in the middle", "ümlaut-ümlaut-ümlaut", ""])
def test_a_token_that_is_none_is_refused_at_the_start(tmp_path, token):
    (tmp_path / "token").write_text(token)
    config = WebConfig(host="0.0.0.0", token_file=str(tmp_path / "token"))
    with pytest.raises(ServiceError, match="16 to 256"):
        make_app(Board(), Hub(config), service(config))


def service(web: WebConfig) -> ServiceConfig:
    return ServiceConfig(web=web, cameras=(CameraConfig(name="door", source="0"),))


@pytest.mark.parametrize(
    ("web", "says"),
    [
        (WebConfig(host="0.0.0.0"), "token_file"),
        (WebConfig(host="::"), "token_file"),
        (WebConfig(token_file="/nowhere/token"), "/nowhere/token"),
        (WebConfig(host="no.such.name.invalid"), "token_file"),
    ],
)
def test_what_the_app_does_not_start_with(web, says):
    with pytest.raises(ServiceError, match=says) as raised:
        make_app(Board(), Hub(web), service(web))
    assert "\n" not in str(raised.value)


def test_the_server_says_in_a_line_why_it_does_not_start(site, tmp_path):
    taken = site().port
    (tmp_path / "bad.pem").write_text("this is no certificate")
    bad = str(tmp_path / "bad.pem")
    for web, says in (
        (WebConfig(port=taken), "in use"),
        (WebConfig(port=0, host="192.0.2.1", token_file="x"), "cannot listen"),
        (WebConfig(port=0, host="0.0.0.0"), "token_file"),
        (WebConfig(port=0, certificate=bad), "given together"),
        (WebConfig(port=0, certificate=bad, key=bad), "cannot be used"),
        (WebConfig(port=0, certificate="/nowhere.pem", key=bad), "cannot be used"),
    ):
        server = WebServer(make_app(Board(), Hub(WebConfig()), service(WebConfig())), web)
        with pytest.raises(ServiceError, match=says) as raised:
            server.start()
        assert "\n" not in str(raised.value)


def test_tls(site, tmp_path, token_file):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
    ]
    command += ["1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out"]
    subprocess.run([*command, certificate], check=True, capture_output=True)
    there = site(certificate=certificate, key=key, token_file=token_file)
    assert there.server.address == f"https://127.0.0.1:{there.port}"
    trust = ssl.create_default_context(cafile=certificate)
    answer = httpx.post(f"{there.server.address}/login", data={"token": TOKEN}, verify=trust)
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]
    with connect(f"wss://127.0.0.1:{there.port}/ws", ssl=trust, additional_headers=bearer()) as watcher:
        message(watcher, "status")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "192.0.2.7"}, 403),
        ({"Host": "localhost:99"}, 200),
        ({"Host": "[::1]"}, 200),
        ({"Host": "127.0.0.1/x"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost:80"}, 200),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403),
    ],
)
def test_foreign_names_and_pages_are_refused(site, headers, status):
    there = site()
    assert there.client.get("/api/status", headers=headers).status_code == status
    if status == 403:
        with pytest.raises(InvalidStatus) as refused:
            there.watch(additional_headers=headers)
        assert refused.value.response.status_code in (400, 403)


def test_beyond_loopback_addresses_and_our_own_name_are_hosts(site, token_file):
    there = site(host="0.0.0.0", token_file=token_file)
    ours = socket.gethostname().partition(".")[0]
    for host, status in (("192.0.2.7:8080", 200), (f"{ours}.train.example", 200), ("evil.example", 403)):
        answer = there.client.get("/api/status", headers=bearer() | {"Host": host})
        assert answer.status_code == status, host


# What every answer bears, and what none does


def test_headers_of_all_answers(site, token_file):
    there = site(token_file=token_file)
    asked = [
        ("GET", "/login", {}),
        ("GET", "/", bearer()),
        ("GET", "/api/status", bearer()),
        ("GET", "/api/status", {}),
    ]
    asked += [("GET", "/nothing", bearer()), ("DELETE", "/api/status", bearer()), ("GET", "/metrics", bearer())]
    asked += [("GET", "/api/events?limit=0", bearer()), ("GET", "/api/status", {"Host": "evil.example"})]
    for method, path, headers in asked:
        answer = there.client.request(method, path, headers=headers)
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        is_form = answer.headers.get("content-type", "").startswith("text/html")
        assert answer.headers["referrer-policy"] == ("same-origin" if is_form else "no-referrer")
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers
        assert "uvicorn" not in str(answer.headers).lower()


def test_the_page_has_no_inline_script_or_style_and_nothing_from_elsewhere(site):
    there = site()
    for path in ("/", "/app.js", "/draw.js", "/style.css", "/icon.svg"):
        text = there.client.get(path).text
        addresses = text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in addresses.replace("://${location.host}", ""), path
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text


def test_no_path_reaches_a_file(site):
    there = site()
    for path in (
        "/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/app.js",
        "//etc/passwd",
        "/app.js/",
        "/x",
    ):
        with socket.create_connection(("127.0.0.1", there.port), timeout=5) as raw:
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert raw.recv(100).startswith(b"HTTP/1.1 404"), path


class BrokenBoard(Board):
    """Cannot tell how it is."""

    def snapshot(self) -> ServiceStatus:
        raise RuntimeError("a secret of the service")


def test_a_mistake_of_ours_shows_no_traceback(site, caplog):
    there = site(board=BrokenBoard())
    for path in ("/api/status", "/metrics", "/readyz"):
        answer = there.client.get(path)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert "content-security-policy" in answer.headers
    assert "a secret of the service" in caplog.text


# Limits


def test_requests_per_minute(site):
    there = site(requests_per_minute=20)
    with httpx.Client(base_url=there.address) as client:
        answers = [client.get("/healthz").status_code for _ in range(25)]
    assert answers[:20] == [200] * 20
    assert answers[-1] == 429


def test_the_table_of_addresses_does_not_grow():
    allowance = Allowance(5)
    for number in range(5000):
        assert allowance.spend(f"10.0.{number // 256}.{number % 256}")
    assert len(vars(allowance)["_left"]) <= 1024
    spent = [allowance.spend(f"2001:db8:1:2::{number:x}") for number in range(7)]
    assert spent == [True] * 5 + [False] * 2, "one network is one address"
    assert allowance.spend("2001:db8:1:3::1")


def test_large_and_endless_requests(site, monkeypatch, token_file):
    monkeypatch.setattr(server_module, "_HEADER_SECONDS", 0.3)
    there = site(token_file=token_file)
    assert there.client.post("/login", content=b"x" * 5000).status_code == 413
    for unfinished in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y", b"GET /" + b"x" * 300_000):
        with socket.create_connection(("127.0.0.1", there.port), timeout=5) as raw:
            raw.sendall(unfinished)
            assert raw_end(raw), unfinished
    with httpx.Client(base_url=there.address, headers=bearer()) as client:  # who finishes may come again
        for _ in range(3):
            assert client.get("/healthz").status_code == 200
            time.sleep(0.4)


def raw_end(raw: socket.socket) -> bool:
    """Whether the other side ends the connection, if need be with a word on what was wrong."""
    try:
        said = b""
        while received := raw.recv(1000):
            said += received
        return not said or said.startswith(b"HTTP/1.1 400")
    except ConnectionError:
        return True


def test_only_so_many_watch(site):
    there = site(clients=2)
    with there.watch() as first, there.watch() as second:
        message(first, "hello")
        message(second, "hello")
        with there.watch() as third, pytest.raises(ConnectionClosed) as closed:
            third.recv(timeout=3)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
    watching(there, 0)
    with there.watch() as again:
        message(again, "hello")


@pytest.mark.parametrize(
    "sent",
    [
        "no json",
        "[]",
        '{"cameras": "door"}',
        '{"images": 1}',
        '{"more": 1}',
        b"\x00\x01",
        json.dumps({"cameras": ["../../etc"]}),
        json.dumps({"cameras": ["x"] * 100}),
        "x" * 10_000,
    ],
)
def test_a_client_that_sends_what_cannot_be_is_sent_away(site, sent):
    there = site()
    with there.watch() as watcher, there.watch() as other:
        watcher.send(sent)
        with pytest.raises(ConnectionClosed) as closed:
            read_to_the_end(watcher)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1008, 1009)
        assert "Traceback" not in closed.value.rcvd.reason
        message(other, "status")


def test_a_client_that_sends_too_much_is_sent_away(site):
    there = site()
    with there.watch() as watcher:
        for _ in range(130):
            watcher.send('{"images": false}')
        with pytest.raises(ConnectionClosed):
            read_to_the_end(watcher)


# What is watched


def test_people_are_where_the_parts_have_them(site, seen):
    there = site()
    image, parts = seen[-1]
    with there.watch() as watcher:
        assert message(watcher, "hello")["skeleton"] is None
        result = there.give((image, parts))
        hello = message(watcher, "hello")
        assert tuple(hello["skeleton"]["joints"]) == parts.skeleton.joints
        frame = message(watcher, "frame")
    assert frame["camera"] == "door"
    assert frame["frame"] == result.frame.number
    assert frame["size"] == list(parts.size)
    assert 0 <= frame["age"] < 2
    assert [each["id"] or 0 for each in frame["people"]] == parts.people.ids.tolist()
    assert len(frame["people"]) > 3
    got = np.array([each["keypoints"] for each in frame["people"]])
    np.testing.assert_allclose(got, parts.people.keypoints, atol=0.051)
    predicted = [np.flatnonzero(row).tolist() for row in parts.people.predicted]
    assert [each["predicted"] for each in frame["people"]] == predicted


def test_a_client_chooses_cameras(site, seen):
    there = site()
    with there.watch() as watcher:
        watcher.send('{"cameras": ["yard"]}')
        message(watcher, "status")
        time.sleep(0.1)
        for _ in range(5):
            there.give(seen[0], "door")
            there.give(seen[0], "yard")
            assert message(watcher, "frame")["camera"] == "yard"
    assert there.outputs["door"].counters()["written"] == 0


def picture(received: bytes) -> tuple[str, int, np.ndarray]:
    name = received[1 : 1 + received[0]].decode()
    (number,) = struct.unpack_from(">I", received, 1 + received[0])
    image = cv2.imdecode(np.frombuffer(received[5 + received[0] :], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return name, number, np.asarray(image, np.uint8)


def pair(watcher: ClientConnection) -> tuple[dict[str, Any], np.ndarray]:
    """A frame with the picture that comes right behind."""
    frame = message(watcher, "frame")
    assert frame["pictured"]
    received = watcher.recv(timeout=3)
    assert isinstance(received, bytes)
    name, number, image = picture(received)
    assert (name, number) == (frame["camera"], frame["frame"])
    return frame, image


def test_no_picture_leaves_the_machine_unless_the_configuration_says_so(site, seen):
    there = site()
    with there.watch() as watcher:
        assert message(watcher, "hello")["images"] is False
        watcher.send('{"images": true}')
        message(watcher, "status")
        for _ in range(3):
            there.give(seen[0])
            assert message(watcher, "frame")["pictured"] is False


def test_pictures_are_small_blurred_and_ten_a_second_at_most(site, seen):
    there = site(images=True)
    image, parts = seen[-1]
    with there.watch() as watcher:
        watcher.send('{"images": true}')
        message(watcher, "status")
        time.sleep(0.1)
        there.give((image, parts))
        _, blurred = pair(watcher)
        assert blurred.shape == (480, 640, 3)
        begun, before = time.monotonic(), there.outputs["door"].counters()["written"]
        while time.monotonic() < begun + 1.0:
            there.give((image, parts))
            time.sleep(0.02)
        pictures = 0
        while True:
            try:
                pictures += isinstance(watcher.recv(timeout=0.2), bytes)
            except TimeoutError:
                break
            if time.monotonic() > begun + 2.0:
                break
        assert 5 <= pictures <= 12
        assert there.outputs["door"].counters()["written"] > before
    plain = cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA).astype(float)
    change = np.abs(plain - blurred).mean(axis=2)
    head = parts.people.keypoints[:, :5, :2].mean(axis=1)[parts.people.found[:, :5].all(axis=1)] * (640 / 768)
    assert len(head)
    at_heads = [change[int(y) - 3 : int(y) + 3, int(x) - 3 : int(x) + 3].mean() for x, y in head]
    assert np.mean(at_heads) > 2 * np.median(change)


def test_pictures_as_they_are_where_the_configuration_says_so(site, seen):
    there = site(images=True, blur_heads=False)
    with there.watch() as watcher:
        watcher.send('{"images": true}')
        message(watcher, "status")
        time.sleep(0.1)
        there.give(seen[0])
        _, image = pair(watcher)
    plain = cv2.resize(seen[0][0], (640, 480), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(plain - image).mean() < 6


def test_what_cannot_be_drawn_is_counted_and_said_and_the_rest_goes_on(site, seen):
    there = site(images=True)
    _, parts = seen[0]
    with there.watch() as watcher:
        watcher.send('{"images": true}')
        message(watcher, "status")
        time.sleep(0.1)
        there.give((np.zeros((0, 0, 3), np.uint8), parts), "yard")
        there.give(seen[0], "door")
        frame, _ = pair(watcher)
        assert frame["camera"] == "door"
    yard = there.client.get("/api/cameras/yard").json()["outputs"]["page"]
    assert yard["failed"] == 1
    assert yard["problem"]


def test_a_camera_that_is_gone_is_shown_no_more_and_may_come_back(site, seen):
    there = site()
    with there.watch() as watcher:
        watching(there)
        there.outputs["yard"].close(1.0)
        there.outputs["yard"].close(1.0)
        there.give(seen[0], "yard")
        there.give(seen[0], "door")
        assert message(watcher, "frame")["camera"] == "door"
        there.outputs["yard"] = there.hub.output("yard")
        there.give(seen[0], "yard")
        assert message(watcher, "frame")["camera"] == "yard"


def test_events_before_the_page_is_there_are_told_too(seen):
    hub = Hub(WebConfig())
    output = hub.output("door")
    image, parts = seen[0]
    frame = Frame(0, 0.0, image, arrived=time.monotonic())
    output.offer(Result("door", frame, parts, time.time(), parts, (event(1),)))
    web = WebConfig(port=0)
    server = WebServer(make_app(Board(), hub, service(web)), web)
    server.start()
    with connect(server.address.replace("http", "ws") + "/ws") as watcher:
        assert len(message(watcher, "events")["events"]) == 1
        output.offer(Result("door", frame, parts, time.time(), parts, (event(2),)))
        assert len(message(watcher, "events")["events"]) == 1
    server.stop(2.0)


def test_events_are_kept_and_told_once(site, seen):
    there = site()
    for number in range(250):
        there.give(seen[0], events=(event(number),))
    kept = there.client.get("/api/events").json()
    assert [each["count"] for each in kept] == list(range(249, 49, -1))
    assert len(there.client.get("/api/events?limit=3").json()) == 3
    with there.watch() as watcher:
        told = message(watcher, "events")["events"]
        assert [each["count"] for each in told] == list(range(50, 250))
        there.give(seen[0], events=(event(250), event(251)))
        assert [each["count"] for each in message(watcher, "events")["events"]] == [250, 251]


# What watching costs


def test_an_offer_costs_microseconds_when_nobody_watches(site, seen):
    there = site(images=True)
    result = there.give(seen[0])
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(2000):
            there.outputs["door"].offer(result)
        best = min(best, (time.perf_counter() - begun) / 2000)
    assert best < 10e-6
    assert there.outputs["door"].counters() == {"written": 0, "dropped": 0, "failed": 0}


def numbers_of_pictures(watcher: ClientConnection, until: Callable[[int], bool]) -> list[int]:
    """Those that come, until one is the last."""
    numbers: list[int] = []
    end = time.monotonic() + 20
    while time.monotonic() < end and not (numbers and until(numbers[-1])):
        received = watcher.recv(timeout=5)
        if isinstance(received, bytes):
            numbers.append(picture(received)[1])
    return numbers


def test_a_client_that_reads_nothing_holds_up_nobody_and_needs_no_memory(site, seen):
    there = site(images=True, blur_heads=False)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    narrow.connect(("127.0.0.1", there.port))
    shown: list[int] = []
    with there.watch(sock=narrow, max_queue=1, close_timeout=0.2) as slow, there.watch() as quick:
        for watcher in (slow, quick):
            watcher.send('{"images": true}')
        watching(there, 2)
        time.sleep(0.2)
        last = 30
        reader = threading.Thread(target=lambda: shown.extend(numbers_of_pictures(quick, lambda n: n == last)))
        reader.start()
        offers = []
        for number in range(last):
            begun = time.perf_counter()
            there.give(seen[number % 6])
            offers.append(time.perf_counter() - begun)
            time.sleep(0.11)
        reader.join()
        assert len(shown) > last - 8
        assert sorted(offers)[last // 2] < 2e-3
        # What waits for the slow one is a few names, whatever came.
        assert all(len(vars(client)["_due"]) <= 4 for client in vars(there.hub.clients)["_clients"])
        late = numbers_of_pictures(slow, lambda n: n == last)
        assert late[-1] == last, "when it reads again it is shown the newest"
        assert len(late) < last / 2


def test_stop_says_goodbye_in_time(site, seen):
    there = site()
    with there.watch() as watcher:
        message(watcher, "hello")
        begun = time.monotonic()
        there.server.stop(2.0)
        assert time.monotonic() - begun < 2.0
        with pytest.raises(ConnectionClosed):
            read_to_the_end(watcher)
    there.server.stop(2.0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(there.address)
    there.give(seen[0])  # offers after the end do no harm


# What is measured


def test_health_and_readiness_tell_the_truth(site, seen):
    there = site()
    assert there.client.get("/healthz").status_code == 200
    answer = there.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "cameras": {"door": "starting", "yard": "starting"}}
    there.give(seen[0], "door")
    assert there.client.get("/readyz").status_code == 503
    there.board.camera("yard").set_state("away", "no cable")
    answer = there.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "cameras": {"door": "live", "yard": "away"}}
    there.board.stuck = True
    assert there.client.get("/readyz").status_code == 503, "frames come, but nothing becomes of them"
    answer = there.client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["stuck"] is True


def test_metrics(site, seen):
    there = site()

    def asked() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        answer = there.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.text)
        return {
            (each.name, tuple(sorted(each.labels.items()))): each.value
            for family in families
            for each in family.samples
        }

    for _ in range(3):
        there.give(seen[-1], "door")
    there.board.camera("yard").set_state("away", "no cable")
    there.board.camera("yard").skipped(7)
    first = asked()
    door, yard = ("camera", "door"), ("camera", "yard")
    assert first["stm_skeletons_frames_total", (door,)] == 3
    assert first["stm_skeletons_skipped_total", (yard,)] == 7
    assert first["stm_skeletons_reconnects_total", (door,)] == 0
    assert first["stm_skeletons_people", (door,)] == len(seen[-1][1].people)
    assert first["stm_skeletons_age_seconds", (door, ("quantile", "0.99"))] == pytest.approx(0.001)
    assert first["stm_skeletons_state", (yard, ("state", "away"))] == 1
    for camera in (door, yard):
        states = [
            value for (name, labels), value in first.items() if name == "stm_skeletons_state" and camera in labels
        ]
        assert len(states) == 8
        assert sum(states) == 1
    assert first["stm_skeletons_output_written_total", (door, ("output", "page"))] == 0
    assert first["stm_skeletons_memory_bytes", ()] > 1e7
    assert first["stm_skeletons_up", ()] == 1
    assert first["stm_skeletons_stuck", ()] == 0
    for _ in range(50):
        there.give(seen[0], "door")
        there.client.get("/api/cameras/nobody")
    assert asked().keys() == first.keys()


@pytest.mark.slow
def test_the_api_keeps_what_its_description_says(site, seen, token_file, tmp_path):
    there = site(token_file=token_file)
    done = threading.Event()

    def see() -> None:
        while not done.wait(0.3):
            for camera in CAMERAS:
                there.give(seen[0], camera, events=(event(1),))

    seeing = threading.Thread(target=see)
    seeing.start()
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{there.address}/api/openapi.json"]
    command += ["-H", f"Authorization: Bearer {TOKEN}", "--max-examples", "10", "--seed", "1", "--checks", "all"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=100)
    done.set()
    seeing.join()
    assert ran.returncode == 0, ran.stdout[-3000:]
    described = there.client.get("/api/openapi.json", headers=bearer()).json()
    paths = ["/api/cameras/{name}", "/api/events", "/api/status", "/healthz", "/metrics", "/readyz"]
    assert sorted(described["paths"]) == paths
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    missing = there.client.get("/api/cameras/nobody", headers=bearer())
    assert missing.status_code == 404
