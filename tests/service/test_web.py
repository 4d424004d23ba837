"""The service's web server over real connections: access, answers, and what clients cost."""

import asyncio
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
from websockets.asyncio.client import connect as connect_asynchronously
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
Detected = tuple[np.ndarray, Parts]


@pytest.fixture(scope="module")
def detected(clip: Path) -> list[Detected]:
    """Frames of the sample clip, and the parts that the model finds in them."""
    video = cv2.VideoCapture(str(clip))
    with Session.open("edge") as session:
        return [(image, session.step(image)) for image in (np.asarray(video.read()[1], np.uint8) for _ in range(6))]


class Site:
    """A board, a hub and a web server, as in the service."""

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

    def pass_frame(self, detected: Detected, camera: str = "door", events: tuple[Event, ...] = ()) -> Result:
        """Pass a frame to the hub and the board, as the detector does."""
        now, self.number = time.monotonic(), self.number + 1
        result = Result(
            camera, Frame(self.number, 0.0, detected[0], arrived=now), detected[1], time.time(), detected[1], events
        )
        stats = self.board.camera(camera)
        stats.arrived(now, detected[1].size)
        self.outputs[camera].offer(result)
        stats.answered(now, 0.001, len(detected[1].people))
        return result

    def watch(self, **options: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}/ws", **options)


@pytest.fixture
def start_site() -> Iterator[Callable[..., Site]]:
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


def next_message(socket: ClientConnection, kind: str, within: float = 3.0) -> dict[str, Any]:
    """Return the next message of this kind."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        received = socket.recv(timeout=max(0.01, end - time.monotonic()))
        if isinstance(received, str) and (found := json.loads(received))["type"] == kind:
            return found
    raise TimeoutError(kind)


def read_until_closed(socket: ClientConnection) -> None:
    """Read until the server closes the connection, which raises ConnectionClosed."""
    while True:
        socket.recv(timeout=3)


def event(number: int, camera: str = "door") -> Event:
    return Event(camera, "gate", "line", 1_700_000_000.0 + number, number + 1, "in", number, None)


def wait_for_clients(site: Site, clients: int = 1) -> None:
    """Wait until the hub has this number of clients."""
    end = time.monotonic() + 3
    while len(site.hub.clients) != clients:
        assert time.monotonic() < end
        time.sleep(0.01)


# Access


def test_remote_access_always_needs_a_token(start_site, token_file):
    paths = ["/", "/app.js", "/draw.js", "/icon.svg", "/api/status", "/api/cameras/door", "/api/events", "/metrics"]
    paths += ["/healthz", "/readyz", "/api/openapi.json", "/nothing"]
    site = start_site(host="0.0.0.0", token_file=token_file)
    for path in paths:
        answer = site.client.get(path)
        assert answer.status_code == (303 if path == "/" else 401), path
        assert path == "/" or answer.headers["www-authenticate"] == "Bearer"
    assert site.client.get("/api/status", headers=bearer()).status_code == 200
    for wrong in (bearer(TOKEN[:-1]), bearer(TOKEN + "0"), {"Authorization": "Bearer"}, {"Authorization": TOKEN}):
        assert site.client.get("/api/status", headers=wrong).status_code == 401
    assert site.client.get("/api/status", params={"token": TOKEN}).status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        site.watch()
    assert refused.value.response.status_code == 401
    with site.watch(additional_headers=bearer()) as watcher:
        assert next_message(watcher, "hello")["login"] is True


def test_login_cookie_survives_a_restart(start_site, token_file):
    site = start_site(host="0.0.0.0", token_file=token_file)
    with httpx.Client(base_url=site.address) as client:
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
    again = start_site(host="0.0.0.0", token_file=token_file)
    assert again.client.get("/api/status", headers=cookies).status_code == 200
    with again.watch(additional_headers=cookies) as watcher:
        next_message(watcher, "hello")
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


def test_token_guesses_are_rate_limited(start_site, token_file):
    site = start_site(host="0.0.0.0", token_file=token_file, requests_per_minute=600)
    with httpx.Client(base_url=site.address) as client:
        tried = [client.get("/api/status", headers=bearer(f"wrong-{n}")).status_code for n in range(12)]
        assert tried.count(401) <= 10
        assert tried[-1] == 429
        answer = client.post("/login", data={"token": TOKEN})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("token", ["short", "x" * 300, "with a blank in the middle", "ümlaut-ümlaut-ümlaut", ""])
def test_invalid_token_is_refused_at_the_start(tmp_path, token):
    (tmp_path / "token").write_text(token)
    config = WebConfig(host="0.0.0.0", token_file=str(tmp_path / "token"))
    with pytest.raises(ServiceError, match="16 to 256"):
        make_app(Board(), Hub(config), service_config(config))


def service_config(web: WebConfig) -> ServiceConfig:
    return ServiceConfig(web=web, cameras=(CameraConfig(name="door", source="0"),))


@pytest.mark.parametrize(
    ("web", "reason"),
    [
        (WebConfig(host="0.0.0.0"), "token_file"),
        (WebConfig(host="::"), "token_file"),
        (WebConfig(token_file="/nowhere/token"), "/nowhere/token"),
        (WebConfig(host="no.such.name.invalid"), "token_file"),
    ],
)
def test_app_does_not_start_without_a_readable_token(web, reason):
    with pytest.raises(ServiceError, match=reason) as raised:
        make_app(Board(), Hub(web), service_config(web))
    assert "\n" not in str(raised.value)


def test_start_errors_are_reported_in_one_line(start_site, tmp_path):
    used = start_site().port
    (tmp_path / "bad.pem").write_text("this is no certificate")
    bad = str(tmp_path / "bad.pem")
    for web, reason in (
        (WebConfig(port=used), "in use"),
        (WebConfig(port=0, host="192.0.2.1", token_file="x"), "cannot listen"),
        (WebConfig(port=0, host="0.0.0.0"), "token_file"),
        (WebConfig(port=0, certificate=bad), "given together"),
        (WebConfig(port=0, certificate=bad, key=bad), "cannot be used"),
        (WebConfig(port=0, certificate="/nowhere.pem", key=bad), "cannot be used"),
    ):
        server = WebServer(make_app(Board(), Hub(WebConfig()), service_config(WebConfig())), web)
        with pytest.raises(ServiceError, match=reason) as raised:
            server.start()
        assert "\n" not in str(raised.value)


def test_tls(start_site, tmp_path, token_file):
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
    site = start_site(certificate=certificate, key=key, token_file=token_file)
    assert site.server.address == f"https://127.0.0.1:{site.port}"
    trust = ssl.create_default_context(cafile=certificate)
    answer = httpx.post(f"{site.server.address}/login", data={"token": TOKEN}, verify=trust)
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]
    asyncio.run(asyncio.wait_for(_first_message(f"wss://127.0.0.1:{site.port}/ws", trust), 10))


async def _first_message(address: str, trust: ssl.SSLContext) -> None:
    """Without threads: the client with threads reads and writes TLS at once, and hung in one of 1,000 connections."""
    async with connect_asynchronously(address, ssl=trust, additional_headers=bearer()) as watcher:
        assert json.loads(await watcher.recv())["type"] == "hello"


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
def test_foreign_hosts_and_origins_are_refused(start_site, headers, status):
    site = start_site()
    assert site.client.get("/api/status", headers=headers).status_code == status
    if status == 403:
        with pytest.raises(InvalidStatus) as refused:
            site.watch(additional_headers=headers)
        assert refused.value.response.status_code in (400, 403)


def test_addresses_and_own_name_are_hosts_beyond_loopback(start_site, token_file):
    site = start_site(host="0.0.0.0", token_file=token_file)
    ours = socket.gethostname().partition(".")[0]
    for host, status in (("192.0.2.7:8080", 200), (f"{ours}.train.example", 200), ("evil.example", 403)):
        answer = site.client.get("/api/status", headers=bearer() | {"Host": host})
        assert answer.status_code == status, host


# Headers and contents of all answers


def test_all_answers_have_security_headers(start_site, token_file):
    site = start_site(token_file=token_file)
    requests = [
        ("GET", "/login", {}),
        ("GET", "/", bearer()),
        ("GET", "/api/status", bearer()),
        ("GET", "/api/status", {}),
    ]
    requests += [("GET", "/nothing", bearer()), ("DELETE", "/api/status", bearer()), ("GET", "/metrics", bearer())]
    requests += [("GET", "/api/events?limit=0", bearer()), ("GET", "/api/status", {"Host": "evil.example"})]
    for method, path, headers in requests:
        answer = site.client.request(method, path, headers=headers)
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


def test_page_has_no_inline_code_and_no_external_resources(start_site):
    site = start_site()
    for path in ("/", "/app.js", "/draw.js", "/style.css", "/icon.svg"):
        text = site.client.get(path).text
        addresses = text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in addresses.replace("://${location.host}", ""), path
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text


def test_no_path_reaches_a_file(start_site):
    site = start_site()
    for path in (
        "/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/app.js",
        "//etc/passwd",
        "/app.js/",
        "/x",
    ):
        with socket.create_connection(("127.0.0.1", site.port), timeout=5) as raw:
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert raw.recv(100).startswith(b"HTTP/1.1 404"), path


class BrokenBoard(Board):
    """A board without a status."""

    def snapshot(self) -> ServiceStatus:
        raise RuntimeError("a secret of the service")


def test_internal_error_shows_no_traceback(start_site, caplog):
    site = start_site(board=BrokenBoard())
    for path in ("/api/status", "/metrics", "/readyz"):
        answer = site.client.get(path)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert "content-security-policy" in answer.headers
    assert "a secret of the service" in caplog.text


# Limits


def test_requests_per_minute_are_limited(start_site):
    site = start_site(requests_per_minute=20)
    with httpx.Client(base_url=site.address) as client:
        answers = [client.get("/healthz").status_code for _ in range(25)]
    assert answers[:20] == [200] * 20
    assert answers[-1] == 429


def test_table_of_addresses_is_bounded():
    allowance = Allowance(5)
    for number in range(5000):
        assert allowance.spend(f"10.0.{number // 256}.{number % 256}")
    assert len(vars(allowance)["_left"]) <= 1024
    spent = [allowance.spend(f"2001:db8:1:2::{number:x}") for number in range(7)]
    assert spent == [True] * 5 + [False] * 2, "an IPv6 network counts as one address"
    assert allowance.spend("2001:db8:1:3::1")


def test_large_and_endless_requests_are_refused(start_site, monkeypatch, token_file):
    monkeypatch.setattr(server_module, "_HEADER_SECONDS", 0.3)
    site = start_site(token_file=token_file)
    assert site.client.post("/login", content=b"x" * 5000).status_code == 413
    for unfinished in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y", b"GET /" + b"x" * 300_000):
        with socket.create_connection(("127.0.0.1", site.port), timeout=5) as raw:
            raw.sendall(unfinished)
            assert is_closed_by_server(raw), unfinished
    with httpx.Client(base_url=site.address, headers=bearer()) as client:  # complete requests are answered
        for _ in range(3):
            assert client.get("/healthz").status_code == 200
            time.sleep(0.4)


def is_closed_by_server(raw: socket.socket) -> bool:
    """Return whether the server closes the connection, silently or after an error."""
    try:
        answer = b""
        while received := raw.recv(1000):
            answer += received
        return not answer or answer.startswith(b"HTTP/1.1 400")
    except ConnectionError:
        return True


def test_number_of_clients_is_limited(start_site):
    site = start_site(clients=2)
    with site.watch() as first, site.watch() as second:
        next_message(first, "hello")
        next_message(second, "hello")
        with site.watch() as third, pytest.raises(ConnectionClosed) as closed:
            third.recv(timeout=3)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
    wait_for_clients(site, 0)
    with site.watch() as again:
        next_message(again, "hello")


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
def test_client_that_sends_an_invalid_message_is_disconnected(start_site, sent):
    site = start_site()
    with site.watch() as watcher, site.watch() as other:
        watcher.send(sent)
        with pytest.raises(ConnectionClosed) as closed:
            read_until_closed(watcher)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1008, 1009)
        assert "Traceback" not in closed.value.rcvd.reason
        next_message(other, "status")


def test_client_that_sends_too_many_messages_is_disconnected(start_site):
    site = start_site()
    with site.watch() as watcher:
        for _ in range(130):
            watcher.send('{"images": false}')
        with pytest.raises(ConnectionClosed):
            read_until_closed(watcher)


# Live data


def test_people_in_messages_match_the_parts(start_site, detected):
    site = start_site()
    image, parts = detected[-1]
    with site.watch() as watcher:
        assert next_message(watcher, "hello")["skeleton"] is None
        result = site.pass_frame((image, parts))
        hello = next_message(watcher, "hello")
        assert tuple(hello["skeleton"]["joints"]) == parts.skeleton.joints
        frame = next_message(watcher, "frame")
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


def test_a_client_chooses_cameras(start_site, detected):
    site = start_site()
    with site.watch() as watcher:
        watcher.send('{"cameras": ["yard"]}')
        next_message(watcher, "status")
        time.sleep(0.1)
        for _ in range(5):
            site.pass_frame(detected[0], "door")
            site.pass_frame(detected[0], "yard")
            assert next_message(watcher, "frame")["camera"] == "yard"
    assert site.outputs["door"].counters()["written"] == 0


def decode_image(received: bytes) -> tuple[str, int, np.ndarray]:
    name = received[1 : 1 + received[0]].decode()
    (number,) = struct.unpack_from(">I", received, 1 + received[0])
    image = cv2.imdecode(np.frombuffer(received[5 + received[0] :], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return name, number, np.asarray(image, np.uint8)


def next_frame_and_image(watcher: ClientConnection) -> tuple[dict[str, Any], np.ndarray]:
    """Return a frame message and the image that follows it."""
    frame = next_message(watcher, "frame")
    assert frame["pictured"]
    received = watcher.recv(timeout=3)
    assert isinstance(received, bytes)
    name, number, image = decode_image(received)
    assert (name, number) == (frame["camera"], frame["frame"])
    return frame, image


def test_no_image_is_sent_by_default(start_site, detected):
    site = start_site()
    with site.watch() as watcher:
        assert next_message(watcher, "hello")["images"] is False
        watcher.send('{"images": true}')
        next_message(watcher, "status")
        for _ in range(3):
            site.pass_frame(detected[0])
            assert next_message(watcher, "frame")["pictured"] is False


def test_images_are_small_blurred_and_at_most_10_per_second(start_site, detected):
    site = start_site(images=True)
    image, parts = detected[-1]
    with site.watch() as watcher:
        watcher.send('{"images": true}')
        next_message(watcher, "status")
        time.sleep(0.1)
        site.pass_frame((image, parts))
        _, blurred = next_frame_and_image(watcher)
        assert blurred.shape == (480, 640, 3)
        begun, before = time.monotonic(), site.outputs["door"].counters()["written"]
        while time.monotonic() < begun + 1.0:
            site.pass_frame((image, parts))
            time.sleep(0.02)
        images = 0
        while True:
            try:
                images += isinstance(watcher.recv(timeout=0.2), bytes)
            except TimeoutError:
                break
            if time.monotonic() > begun + 2.0:
                break
        assert 5 <= images <= 12
        assert site.outputs["door"].counters()["written"] > before
    plain = cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA).astype(float)
    change = np.abs(plain - blurred).mean(axis=2)
    head = parts.people.keypoints[:, :5, :2].mean(axis=1)[parts.people.found[:, :5].all(axis=1)] * (640 / 768)
    assert len(head)
    at_heads = [change[int(y) - 3 : int(y) + 3, int(x) - 3 : int(x) + 3].mean() for x, y in head]
    assert np.mean(at_heads) > 2 * np.median(change)


def test_images_are_not_blurred_if_configured(start_site, detected):
    site = start_site(images=True, blur_heads=False)
    with site.watch() as watcher:
        watcher.send('{"images": true}')
        next_message(watcher, "status")
        time.sleep(0.1)
        site.pass_frame(detected[0])
        _, image = next_frame_and_image(watcher)
    plain = cv2.resize(detected[0][0], (640, 480), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(plain - image).mean() < 6


def test_image_that_cannot_be_encoded_is_counted_and_reported(start_site, detected):
    site = start_site(images=True)
    _, parts = detected[0]
    with site.watch() as watcher:
        watcher.send('{"images": true}')
        next_message(watcher, "status")
        time.sleep(0.1)
        site.pass_frame((np.zeros((0, 0, 3), np.uint8), parts), "yard")
        site.pass_frame(detected[0], "door")
        frame, _ = next_frame_and_image(watcher)
        assert frame["camera"] == "door"
    yard = site.client.get("/api/cameras/yard").json()["outputs"]["page"]
    assert yard["failed"] == 1
    assert yard["problem"]


def test_removed_camera_is_not_shown_and_can_return(start_site, detected):
    site = start_site()
    with site.watch() as watcher:
        wait_for_clients(site)
        site.outputs["yard"].close(1.0)
        site.outputs["yard"].close(1.0)
        site.pass_frame(detected[0], "yard")
        site.pass_frame(detected[0], "door")
        assert next_message(watcher, "frame")["camera"] == "door"
        site.outputs["yard"] = site.hub.output("yard")
        site.pass_frame(detected[0], "yard")
        assert next_message(watcher, "frame")["camera"] == "yard"


def test_events_before_the_server_starts_are_sent_too(detected):
    hub = Hub(WebConfig())
    output = hub.output("door")
    image, parts = detected[0]
    frame = Frame(0, 0.0, image, arrived=time.monotonic())
    output.offer(Result("door", frame, parts, time.time(), parts, (event(1),)))
    web = WebConfig(port=0)
    server = WebServer(make_app(Board(), hub, service_config(web)), web)
    server.start()
    with connect(server.address.replace("http", "ws") + "/ws") as watcher:
        assert len(next_message(watcher, "events")["events"]) == 1
        output.offer(Result("door", frame, parts, time.time(), parts, (event(2),)))
        assert len(next_message(watcher, "events")["events"]) == 1
    server.stop(2.0)


def test_events_are_kept_and_sent_once(start_site, detected):
    site = start_site()
    for number in range(250):
        site.pass_frame(detected[0], events=(event(number),))
    kept = site.client.get("/api/events").json()
    assert [each["count"] for each in kept] == list(range(249, 49, -1))
    assert len(site.client.get("/api/events?limit=3").json()) == 3
    with site.watch() as watcher:
        sent = next_message(watcher, "events")["events"]
        assert [each["count"] for each in sent] == list(range(50, 250))
        site.pass_frame(detected[0], events=(event(250), event(251)))
        assert [each["count"] for each in next_message(watcher, "events")["events"]] == [250, 251]


# Cost of clients


def test_offer_takes_microseconds_without_clients(start_site, detected):
    site = start_site(images=True)
    result = site.pass_frame(detected[0])
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(2000):
            site.outputs["door"].offer(result)
        best = min(best, (time.perf_counter() - begun) / 2000)
    assert best < 10e-6
    assert site.outputs["door"].counters() == {"written": 0, "dropped": 0, "failed": 0}


def image_numbers(watcher: ClientConnection, is_last: Callable[[int], bool]) -> list[int]:
    """Return the frame numbers of received images, up to the first that meets the condition."""
    numbers: list[int] = []
    end = time.monotonic() + 20
    while time.monotonic() < end and not (numbers and is_last(numbers[-1])):
        received = watcher.recv(timeout=5)
        if isinstance(received, bytes):
            numbers.append(decode_image(received)[1])
    return numbers


def test_client_that_reads_nothing_delays_no_others_and_needs_no_memory(start_site, detected):
    site = start_site(images=True, blur_heads=False)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    narrow.connect(("127.0.0.1", site.port))
    shown: list[int] = []
    with site.watch(sock=narrow, max_queue=1, close_timeout=0.2) as slow, site.watch() as quick:
        for watcher in (slow, quick):
            watcher.send('{"images": true}')
        wait_for_clients(site, 2)
        time.sleep(0.2)
        last = 30
        reader = threading.Thread(target=lambda: shown.extend(image_numbers(quick, lambda n: n == last)))
        reader.start()
        offers = []
        for number in range(last):
            begun = time.perf_counter()
            site.pass_frame(detected[number % 6])
            offers.append(time.perf_counter() - begun)
            time.sleep(0.11)
        reader.join()
        assert len(shown) > last - 8
        assert sorted(offers)[last // 2] < 2e-3
        # Only a few camera names are queued for the slow client.
        assert all(len(vars(client)["_due"]) <= 4 for client in vars(site.hub.clients)["_clients"])
        late = image_numbers(slow, lambda n: n == last)
        assert late[-1] == last, "it gets the newest image when it reads again"
        assert len(late) < last / 2


def test_stop_closes_connections_in_time(start_site, detected):
    site = start_site()
    with site.watch() as watcher:
        next_message(watcher, "hello")
        begun = time.monotonic()
        site.server.stop(2.0)
        assert time.monotonic() - begun < 2.0
        with pytest.raises(ConnectionClosed):
            read_until_closed(watcher)
    site.server.stop(2.0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(site.address)
    site.pass_frame(detected[0])  # a frame after the stop does no harm


# Health and metrics


def test_health_and_readiness_reflect_the_state(start_site, detected):
    site = start_site()
    assert site.client.get("/healthz").status_code == 200
    answer = site.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "cameras": {"door": "starting", "yard": "starting"}}
    site.pass_frame(detected[0], "door")
    assert site.client.get("/readyz").status_code == 503
    site.board.camera("yard").set_state("away", "no cable")
    answer = site.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "cameras": {"door": "live", "yard": "away"}}
    site.board.stuck = True
    assert site.client.get("/readyz").status_code == 503, "frames arrive, but are not processed"
    answer = site.client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["stuck"] is True


def test_metrics(start_site, detected):
    site = start_site()

    def metrics() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        answer = site.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.text)
        return {
            (each.name, tuple(sorted(each.labels.items()))): each.value
            for family in families
            for each in family.samples
        }

    for _ in range(3):
        site.pass_frame(detected[-1], "door")
    site.board.camera("yard").set_state("away", "no cable")
    site.board.camera("yard").skipped(7)
    first = metrics()
    door, yard = ("camera", "door"), ("camera", "yard")
    assert first["stm_skeletons_frames_total", (door,)] == 3
    assert first["stm_skeletons_skipped_total", (yard,)] == 7
    assert first["stm_skeletons_reconnects_total", (door,)] == 0
    assert first["stm_skeletons_people", (door,)] == len(detected[-1][1].people)
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
        site.pass_frame(detected[0], "door")
        site.client.get("/api/cameras/nobody")
    assert metrics().keys() == first.keys()


@pytest.mark.slow
def test_api_matches_its_description(start_site, detected, token_file, tmp_path):
    site = start_site(token_file=token_file)
    done = threading.Event()

    def pass_frames() -> None:
        while not done.wait(0.3):
            for camera in CAMERAS:
                site.pass_frame(detected[0], camera, events=(event(1),))

    feeder = threading.Thread(target=pass_frames)
    feeder.start()
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{site.address}/api/openapi.json"]
    command += ["-H", f"Authorization: Bearer {TOKEN}", "--max-examples", "10", "--seed", "1", "--checks", "all"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=100)
    done.set()
    feeder.join()
    assert ran.returncode == 0, ran.stdout[-3000:]
    described = site.client.get("/api/openapi.json", headers=bearer()).json()
    paths = ["/api/cameras/{name}", "/api/events", "/api/status", "/healthz", "/metrics", "/readyz"]
    assert sorted(described["paths"]) == paths
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    missing = site.client.get("/api/cameras/nobody", headers=bearer())
    assert missing.status_code == 404
