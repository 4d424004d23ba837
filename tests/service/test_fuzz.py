"""Random configurations, requests, WebSocket messages and RTSP answers: one-line errors, and no memory growth.

CI runs some hundreds of them, the soaks 15,000.
"""

import asyncio
import json
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import SAYS
from fake_rtsp import FakeRtsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace import slowdown
from running import CLIP, ROOT, Running, camera
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from runtime.service.config import ServiceConfig, load_config
from stm_skeletons.errors import ConfigError

SLOWEST = 2.0
"""Seconds allowed for a configuration."""
LONGEST = 1000
"""Characters allowed in an error."""
TRACEBACK = re.compile(r"Traceback|File \"|\.py\b")
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
Fuzzed = Callable[[Running, int], None]


# Configurations

DOCUMENTED = (ROOT / "docs" / "service.md").read_text().partition("```toml\n")[2].partition("```")[0]
KEYS = sorted(set(re.findall(r"(\w+) *=", DOCUMENTED)) | {"cameras", "model", "web", "mqtt", "host", "folder", "clips"})
FRAGMENTS = [
    *DOCUMENTED.split(),
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    '"',
    "'''",
    '"""',
    "\\u0000",
    "\\ud800",
    "#",
    "\r",
    "\0",
    ".",
]
ODD_VALUES = (
    "9" * 400,
    "9" * 5000,
    "1e999",
    "nan",
    "-inf",
    "1979-05-27T07:32:00Z",
    "0x" + "f" * 999,
    "true",
    "''",
    "{}",
    "[]",
)

values = st.recursive(
    st.integers().map(str)
    | st.floats().map(lambda number: repr(number))
    | st.text(max_size=40).map(lambda text: json.dumps(text, ensure_ascii=False))
    | st.sampled_from(ODD_VALUES),
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda each: f"[{', '.join(each)}]")
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4).map(
            lambda each: "{" + ", ".join(f"{key} = {value}" for key, value in each.items()) + "}"
        )
    ),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return the documented configuration with fragments removed, inserted or replaced."""
    text = DOCUMENTED
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 0, 1, 5, 40, 400))))
        text = text[:start] + draw(st.sampled_from(FRAGMENTS) | st.text(max_size=8) | values) + text[end:]
    return text.encode(errors="surrogatepass")


@st.composite
def retyped(draw: st.DrawFn) -> bytes:
    """Return the documented configuration with other values."""
    lines = DOCUMENTED.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[number].partition("=")
        lines[number] = f"{key}= {draw(values)}" if equals else f"{draw(st.sampled_from(KEYS))} = {draw(values)}"
    return "\n".join(lines).encode(errors="surrogatepass")


@st.composite
def bombs(draw: st.DrawFn) -> bytes:
    """Return a very deep or very long configuration."""
    depth, key = draw(st.sampled_from((10, 300, 1500, 20_000, 200_000))), draw(st.sampled_from(KEYS))
    shape = draw(
        st.sampled_from(
            (
                f"{key} = {'[' * depth}",
                f"{key} = {'[' * depth}{']' * depth}",
                f"{key} = {'{a = ' * depth}1{'}' * depth}",
                f"{key}{'.a' * depth} = 1",
                f"[{key}{'.a' * depth}]",
                f"[[{key}{'.a' * depth}]]",
                f"[[{key}]]\n" * (depth // 10),
                "\n".join(f"k{number} = 1" for number in range(depth // 10)),
                f"{'k' * depth} = 1",
                f'{key} = "{"x" * depth}"',
                f"{key} = [{'1, ' * depth}]",
                f"{key} = {'9' * depth}",
                f"{key} = '''" + "\n" * depth,
                "[[cameras]]\nname = 'a'\nsource = '0'\nignore = [[" + "[0.5, 0.5], " * depth + "]]",
                "".join(f"[[cameras]]\nname = 'c{number}'\nsource = '0'\n" for number in range(min(depth, 20_000))),
            )
        )
    )
    return (shape if draw(st.booleans()) else f"{DOCUMENTED}\n{shape}").encode()


def fuzz_configurations(path: Path, count: int) -> list[bytes]:
    """Try configurations; return some of them."""
    samples: list[bytes] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=SLOW)
    @given(mutated() | retyped() | bombs() | st.binary(max_size=300))
    def evaluate(content: bytes) -> None:
        path.write_bytes(content)
        started, error = time.monotonic(), error_of(path)
        seconds = time.monotonic() - started
        assert error.isprintable(), error
        assert len(error) <= LONGEST
        assert seconds < SLOWEST or seconds < SLOWEST * slowdown()
        if len(samples) < 200:
            samples.append(content)

    evaluate()
    return samples


def error_of(path: Path) -> str:
    """Return the error without the path; it is empty if the configuration is valid."""
    try:
        assert isinstance(load_config(path), ServiceConfig)
    except ConfigError as error:
        return str(error).replace(str(path), "")
    return ""


@pytest.mark.slow
def test_config_errors_are_one_line(tmp_path: Path):
    fuzz_configurations(tmp_path / "serve.toml", 200)


@pytest.mark.soak
def test_4000_configurations_leak_no_memory(tmp_path: Path):
    path, memory = tmp_path / "serve.toml", []
    contents = fuzz_configurations(path, 4000)
    for _ in range(5):  # again, because Hypothesis itself takes memory
        for content in contents:
            path.write_bytes(content)
            error_of(path)
        memory.append(psutil.Process().memory_info().rss)
    print(f"memory {memory[0] / 1e6:.0f} MB, then {memory[-1] / 1e6:.0f} MB")
    assert memory[-1] < memory[0] + 10e6


# Requests


@pytest.fixture
def service(tmp_path: Path, edge_bundle: Path) -> Iterator[Running]:
    config = tmp_path / "serve.toml"
    config.write_text(
        f"[model]\nbundle = '{edge_bundle}'\nthreads = 1\n"
        + "[web]\nport = 0\nimages = true\nrequests_per_minute = 100000\n"
        + camera("door", CLIP, loop=True, rate=4)
    )
    service = Running(config)
    try:
        service.wait(lambda: service.http_status("/readyz") == 200)
        yield service
    finally:
        service.close()


def check_survival(service: Running, fuzz: Fuzzed, count: int) -> None:
    """Check that the service continues as before, and its memory does not grow."""
    fuzz(service, count // 5)
    before, frames = service.status()["memory_bytes"], service.camera("door")["frames"]
    fuzz(service, count - count // 5)
    time.sleep(1)
    after = service.status()["memory_bytes"]
    print(f"{count}: memory {before / 1e6:.0f} MB, then {after / 1e6:.0f} MB")
    assert after < before * 1.05 + 15e6
    service.wait(lambda: service.camera("door")["frames"] > frames + 2)
    assert service.camera("door")["state"] == "live"
    assert service.stop()[0] == 0
    assert [line for line in service.errors if not line.startswith(SAYS) or TRACEBACK.search(line)] == []


HEADERS = ("Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Cookie", "Authorization", "Expect")
HEADERS += ("Origin", "Range", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "X-Forwarded-For", "Accept-Encoding")
PATHS = (
    "/",
    "/api/status",
    "/api/cameras/door",
    "/api/events",
    "/ws",
    "/metrics",
    "/login",
    "/logout",
    "/../etc/passwd",
)
PATHS += ("/api/cameras/%00", "/%ff%fe", "//", "/api/events?limit=" + "9" * 500, "*", "http://elsewhere/", "/a" * 9000)
WORDS = (
    "close",
    "chunked",
    "websocket",
    "-1",
    "5",
    "99999999999999999999",
    "Bearer x",
    "stm-skeletons=1.2",
    "\xff\xfe",
)
WORDS += ("x" * 20_000, "a\r\nb: c", "\0", "13", "keep-alive, Upgrade", "100-continue", "bytes=0-", "stm-skeletons=ü.")


def request(rng: random.Random) -> bytes:
    """Return a request that may be invalid."""
    if rng.random() < 0.15:
        return rng.randbytes(rng.choice((1, 30, 3000, 50_000)))
    method = rng.choice(("GET", "POST", "HEAD", "PUT", "OPTIONS", "PRI", "get", "G" * 5000, "\xff", ""))
    version = rng.choice(("HTTP/1.1",) * 6 + ("HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "RTSP/1.0"))
    lines = [f"{method} {rng.choice(PATHS)} {version}"]
    if rng.random() < 0.8:
        lines.append("Host: 127.0.0.1")
    for _ in range(rng.choice((0, 1, 2, 3, 300))):
        lines.append(f"{rng.choice(HEADERS)}: {rng.choice(WORDS)}")
    body = rng.choice((b"", b"token=x", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", rng.randbytes(9000)))
    data = bytearray("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body)
    for _ in range(rng.choice((0, 0, 0, 1, 5))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)


def send_request(port: int, seed: int) -> None:
    """Send a request; the answer must be one of the service, or nothing."""
    rng, answer = random.Random(seed), b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(request(rng))
            if rng.random() < 0.1:
                return
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                answer += piece
        except TimeoutError:
            raise
        except OSError:  # the service closed the connection
            pass
    assert not answer or re.match(rb"HTTP/1\.1 [1-4]\d\d ", answer), answer[:300]
    assert not TRACEBACK.search(answer.partition(b"\r\n\r\n")[2].decode(errors="replace")) or b"200 OK" in answer[:20]


def send_requests(service: Running, count: int) -> None:
    port = int(service.page.rpartition(":")[2])
    with ThreadPoolExecutor(16) as many:
        list(many.map(lambda seed: send_request(port, seed), range(count)))


def send_described_requests(service: Running, examples: int) -> int:
    """Send requests that schemathesis generates from the API's description; return their number."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{service.page}/api/openapi.json"]
    command += ["--max-examples", str(examples), "--seed", "1", "--checks", "not_a_server_error"]
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=600)
    assert ran.returncode == 0, ran.stdout[-3000:]
    return int(ran.stdout.partition(" generated")[0].split()[-1])


@pytest.mark.slow
def test_service_survives_200_requests(service: Running):
    check_survival(service, send_requests, 200)


@pytest.mark.soak
def test_service_survives_3000_requests(service: Running):
    count = send_described_requests(service, 100)
    print(f"{count} as described")
    check_survival(service, send_requests, max(500, 3000 - count))


# WebSocket messages


def frame(rng: random.Random) -> bytes:
    """Return a WebSocket frame that may be invalid."""
    operation = rng.choice((0, 1, 1, 1, 2, 3, 7, 8, 9, 9, 10, 15))
    payload = rng.choice(
        (
            b"",
            b"{}",
            b'{"cameras": null}',
            b'{"images": true}',
            rng.randbytes(125),
            b"[" * 4000,
            b"\xff\xfe",
            b"x" * 5000,
        )
    )
    if operation == 8:
        payload = rng.choice((b"", b"\x03", struct.pack(">H", rng.randrange(65_536)) + payload[:50]))
    first = rng.choice((0x80, 0x80, 0x80, 0x00, 0xC0, 0xF0)) | operation
    mask = rng.randbytes(4)
    length = rng.choice((len(payload),) * 9 + (2**63, 2**31, 0))
    size = (
        bytes([0x80 | length])
        if length < 126
        else (b"\xfe" + struct.pack(">H", length) if length < 65_536 else b"\xff" + struct.pack(">Q", length))
    )
    if rng.random() < 0.05:
        size, mask = bytes([size[0] & 0x7F]) + size[1:], b""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if mask else payload
    return bytes([first]) + size + mask + masked


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def send_frames(port: int, seed: int, frames: int) -> int:
    """Send frames until the service closes the connection; return their number."""
    rng, sent = random.Random(seed), 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, suppress(ConnectionError):
        connection.sendall(UPGRADE)
        assert b"101" in connection.recv(4096)
        flood = frame(random.Random(seed)) if rng.random() < 0.2 else None
        for _ in range(frames):
            connection.sendall(flood or frame(rng))
            sent += 1
            if rng.random() < 0.3:
                time.sleep(0.002)
    return sent


def send_frames_in_parallel(service: Running, count: int) -> None:
    port, sent, seed = int(service.page.rpartition(":")[2]), 0, count
    while sent < count:
        with ThreadPoolExecutor(8) as many:
            sent += sum(many.map(lambda each: send_frames(port, each, 20), range(seed, seed + 8)))
        seed += 8


async def send_messages(page: str, count: int) -> None:
    """Send complete messages with invalid content."""
    rng = random.Random(count)
    for _ in range(count // 10):
        with suppress(WebSocketException, OSError):
            async with connect(page.replace("http", "ws") + "/ws", max_size=None) as client:
                for _ in range(10):
                    await client.send(rng.choice(MESSAGES))


MESSAGES: tuple[Any, ...] = (
    "",
    "{",
    "null",
    "[]",
    '{"cameras": ["../etc"]}',
    '{"cameras": ["door"], "images": 1}',
    b"\0",
)
MESSAGES += (
    '{"images": true}',
    '{"cameras": []}',
    "[" * 3000,
    '{"a": ' * 600,
    '"\\ud800"',
    "1e999",
    "x" * 100_000,
    b"x" * 5000,
)


def send_frames_and_messages(service: Running, count: int) -> None:
    send_frames_in_parallel(service, count // 2)
    asyncio.run(send_messages(service.page, count - count // 2))


@pytest.mark.slow
def test_service_survives_200_messages(service: Running):
    check_survival(service, send_frames_and_messages, 200)


@pytest.mark.soak
def test_service_survives_2000_messages(service: Running):
    check_survival(service, send_frames_and_messages, 2000)


# RTSP answers


def fuzz_answers(folder: Path, bundle: Path, cameras: int, count: int) -> None:
    """Run a valid camera together with many fake ones."""
    fake, config = FakeRtsp(7), folder / "serve.toml"
    text = f"[model]\nbundle = '{bundle}'\nthreads = 1\n[web]\nport = 0\nrequests_per_minute = 100000\n"
    text += camera("door", CLIP, loop=True, rate=4)
    for each in range(cameras):
        text += camera(f"odd-{each}", f"rtsp://somebody:s3cret@127.0.0.1:{fake.port}/{each}", stall=1.0)
    config.write_text(text)
    service = Running(config)
    try:
        service.wait(lambda: service.camera("door")["frames"] > 5)
        service.wait(lambda: fake.answers > count / 4, 600)
        memory, started, frames = service.status()["memory_bytes"], time.monotonic(), service.camera("door")["frames"]
        service.wait(lambda: fake.answers > count, 600)
        status, seconds = service.status(), time.monotonic() - started
        rate = (service.camera("door")["frames"] - frames) / seconds
        print(f"{fake.answers} answers; memory {memory / 1e6:.0f} MB, then {status['memory_bytes'] / 1e6:.0f} MB")
        print(f"door: {rate:.2f} frames a second over {seconds:.0f} s; {status['cameras'][1]}")
        assert seconds < 5 or 3.6 <= rate <= 4.4
        assert status["memory_bytes"] < memory * 1.1 + 20e6
        code, took = service.stop()
        assert code == 0
        assert took < 2 * slowdown()
        assert "s3cret" not in "\n".join(service.errors)
        assert [line for line in service.errors if not line.startswith(SAYS) or TRACEBACK.search(line)] == []
    finally:
        service.close()
        fake.close()


@pytest.mark.slow
def test_service_survives_120_rtsp_answers(tmp_path: Path, edge_bundle: Path):
    fuzz_answers(tmp_path, edge_bundle, 30, 120)


@pytest.mark.soak
def test_service_survives_6000_rtsp_answers(tmp_path: Path, edge_bundle: Path):
    fuzz_answers(tmp_path, edge_bundle, 60, 6000)
