"""Configurations, requests, WebSocket messages and RTSP answers that nobody foresaw: refused in a line, and forgotten.

In CI some hundreds of them; the soaks have fifteen thousand.
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
from hypothesis import strategies as some
from pace import slowdown
from running import CLIP, ROOT, Running, camera
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from runtime.service.config import ServiceConfig, load_config
from stm_skeletons.errors import ConfigError

SLOWEST = 2.0
"""Seconds for a configuration."""
LONGEST = 1000
"""Characters of an error."""
TRACEBACK = re.compile(r"Traceback|File \"|\.py\b")
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
Fuzzed = Callable[[Running, int], None]


# Configurations

RIGHT = (ROOT / "docs" / "service.md").read_text().partition("```toml\n")[2].partition("```")[0]
KEYS = sorted(set(re.findall(r"(\w+) *=", RIGHT)) | {"cameras", "model", "web", "mqtt", "host", "folder", "clips"})
BITS = [
    *RIGHT.split(),
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
ODD = (
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

values = some.recursive(
    some.integers().map(str)
    | some.floats().map(lambda number: repr(number))
    | some.text(max_size=40).map(lambda text: json.dumps(text, ensure_ascii=False))
    | some.sampled_from(ODD),
    lambda inner: (
        some.lists(inner, max_size=5).map(lambda each: f"[{', '.join(each)}]")
        | some.dictionaries(some.sampled_from(KEYS), inner, max_size=4).map(
            lambda each: "{" + ", ".join(f"{key} = {value}" for key, value in each.items()) + "}"
        )
    ),
    max_leaves=12,
)


@some.composite
def mutated(draw: some.DrawFn) -> bytes:
    """The documented configuration, with pieces taken out, put in or replaced."""
    text = RIGHT
    for _ in range(draw(some.integers(1, 5))):
        start = draw(some.integers(0, len(text)))
        end = min(len(text), start + draw(some.sampled_from((0, 0, 1, 5, 40, 400))))
        text = text[:start] + draw(some.sampled_from(BITS) | some.text(max_size=8) | values) + text[end:]
    return text.encode(errors="surrogatepass")


@some.composite
def retyped(draw: some.DrawFn) -> bytes:
    """The documented configuration with other values."""
    lines = RIGHT.splitlines()
    for _ in range(draw(some.integers(1, 4))):
        number = draw(some.integers(0, len(lines) - 1))
        key, equals, _ = lines[number].partition("=")
        lines[number] = f"{key}= {draw(values)}" if equals else f"{draw(some.sampled_from(KEYS))} = {draw(values)}"
    return "\n".join(lines).encode(errors="surrogatepass")


@some.composite
def bombs(draw: some.DrawFn) -> bytes:
    """Deep or long without end."""
    deep, key = draw(some.sampled_from((10, 300, 1500, 20_000, 200_000))), draw(some.sampled_from(KEYS))
    shape = draw(
        some.sampled_from(
            (
                f"{key} = {'[' * deep}",
                f"{key} = {'[' * deep}{']' * deep}",
                f"{key} = {'{a = ' * deep}1{'}' * deep}",
                f"{key}{'.a' * deep} = 1",
                f"[{key}{'.a' * deep}]",
                f"[[{key}{'.a' * deep}]]",
                f"[[{key}]]\n" * (deep // 10),
                "\n".join(f"k{number} = 1" for number in range(deep // 10)),
                f"{'k' * deep} = 1",
                f'{key} = "{"x" * deep}"',
                f"{key} = [{'1, ' * deep}]",
                f"{key} = {'9' * deep}",
                f"{key} = '''" + "\n" * deep,
                "[[cameras]]\nname = 'a'\nsource = '0'\nignore = [[" + "[0.5, 0.5], " * deep + "]]",
                "".join(f"[[cameras]]\nname = 'c{number}'\nsource = '0'\n" for number in range(min(deep, 20_000))),
            )
        )
    )
    return (shape if draw(some.booleans()) else f"{RIGHT}\n{shape}").encode()


def fuzz_configurations(path: Path, number: int) -> list[bytes]:
    """Some of the configurations that were tried."""
    some_of_them: list[bytes] = []

    @settings(max_examples=number, deadline=None, database=None, derandomize=True, suppress_health_check=SLOW)
    @given(mutated() | retyped() | bombs() | some.binary(max_size=300))
    def evaluate(content: bytes) -> None:
        path.write_bytes(content)
        started, says = time.monotonic(), said_of(path)
        seconds = time.monotonic() - started
        assert says.isprintable(), says
        assert len(says) <= LONGEST
        assert seconds < SLOWEST or seconds < SLOWEST * slowdown()
        if len(some_of_them) < 200:
            some_of_them.append(content)

    evaluate()
    return some_of_them


def said_of(path: Path) -> str:
    """The error, in which the path would be; nothing where the configuration is right."""
    try:
        assert isinstance(load_config(path), ServiceConfig)
    except ConfigError as error:
        return str(error).replace(str(path), "")
    return ""


@pytest.mark.slow
def test_configurations(tmp_path: Path):
    fuzz_configurations(tmp_path / "serve.toml", 200)


@pytest.mark.soak
def test_four_thousand_configurations(tmp_path: Path):
    path, memory = tmp_path / "serve.toml", []
    contents = fuzz_configurations(path, 4000)
    for _ in range(5):  # again, since what tries so many takes memory itself
        for content in contents:
            path.write_bytes(content)
            said_of(path)
        memory.append(psutil.Process().memory_info().rss)
    print(f"memory {memory[0] / 1e6:.0f} MB, then {memory[-1] / 1e6:.0f} MB")
    assert memory[-1] < memory[0] + 10e6


# A service that is asked, and told, what makes no sense


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
        service.wait(lambda: service.code("/readyz") == 200)
        yield service
    finally:
        service.close()


def survives(service: Running, fuzz: Fuzzed, number: int) -> None:
    """It goes on as before, and takes no more memory."""
    fuzz(service, number // 5)
    before, frames = service.status()["memory_bytes"], service.camera("door")["frames"]
    fuzz(service, number - number // 5)
    time.sleep(1)
    after = service.status()["memory_bytes"]
    print(f"{number}: memory {before / 1e6:.0f} MB, then {after / 1e6:.0f} MB")
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


def request(chance: random.Random) -> bytes:
    """Something like one."""
    if chance.random() < 0.15:
        return chance.randbytes(chance.choice((1, 30, 3000, 50_000)))
    method = chance.choice(("GET", "POST", "HEAD", "PUT", "OPTIONS", "PRI", "get", "G" * 5000, "\xff", ""))
    version = chance.choice(("HTTP/1.1",) * 6 + ("HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "RTSP/1.0"))
    lines = [f"{method} {chance.choice(PATHS)} {version}"]
    if chance.random() < 0.8:
        lines.append("Host: 127.0.0.1")
    for _ in range(chance.choice((0, 1, 2, 3, 300))):
        lines.append(f"{chance.choice(HEADERS)}: {chance.choice(WORDS)}")
    body = chance.choice((b"", b"token=x", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", chance.randbytes(9000)))
    whole = bytearray("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body)
    for _ in range(chance.choice((0, 0, 0, 1, 5))):
        whole[chance.randrange(len(whole))] = chance.randrange(256)
    return bytes(whole[: chance.randrange(len(whole))] if chance.random() < 0.2 else whole)


def ask(port: int, seed: int) -> None:
    """One that is answered by something of ours, or by nothing."""
    chance, answer = random.Random(seed), b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as there:
        try:
            there.sendall(request(chance))
            if chance.random() < 0.1:
                return
            there.shutdown(socket.SHUT_WR)
            while piece := there.recv(65_536):
                answer += piece
        except TimeoutError:
            raise
        except OSError:  # it has heard enough
            pass
    assert not answer or re.match(rb"HTTP/1\.1 [1-4]\d\d ", answer), answer[:300]
    assert not TRACEBACK.search(answer.partition(b"\r\n\r\n")[2].decode(errors="replace")) or b"200 OK" in answer[:20]


def ask_oddly(service: Running, number: int) -> None:
    port = int(service.page.rpartition(":")[2])
    with ThreadPoolExecutor(16) as many:
        list(many.map(lambda seed: ask(port, seed), range(number)))


def ask_as_described(service: Running, examples: int) -> int:
    """With schemathesis, which reads what the API says of itself; how many requests these were."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{service.page}/api/openapi.json"]
    command += ["--max-examples", str(examples), "--seed", "1", "--checks", "not_a_server_error"]
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=600)
    assert ran.returncode == 0, ran.stdout[-3000:]
    return int(ran.stdout.partition(" generated")[0].split()[-1])


@pytest.mark.slow
def test_requests(service: Running):
    survives(service, ask_oddly, 200)


@pytest.mark.soak
def test_three_thousand_requests(service: Running):
    described = ask_as_described(service, 100)
    print(f"{described} as described")
    survives(service, ask_oddly, max(500, 3000 - described))


# WebSocket messages


def frame(chance: random.Random) -> bytes:
    """Of the protocol, or nearly so."""
    operation = chance.choice((0, 1, 1, 1, 2, 3, 7, 8, 9, 9, 10, 15))
    payload = chance.choice(
        (
            b"",
            b"{}",
            b'{"cameras": null}',
            b'{"images": true}',
            chance.randbytes(125),
            b"[" * 4000,
            b"\xff\xfe",
            b"x" * 5000,
        )
    )
    if operation == 8:
        payload = chance.choice((b"", b"\x03", struct.pack(">H", chance.randrange(65_536)) + payload[:50]))
    first = chance.choice((0x80, 0x80, 0x80, 0x00, 0xC0, 0xF0)) | operation
    mask = chance.randbytes(4)
    length = chance.choice((len(payload),) * 9 + (2**63, 2**31, 0))
    size = (
        bytes([0x80 | length])
        if length < 126
        else (b"\xfe" + struct.pack(">H", length) if length < 65_536 else b"\xff" + struct.pack(">Q", length))
    )
    if chance.random() < 0.05:
        size, mask = bytes([size[0] & 0x7F]) + size[1:], b""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if mask else payload
    return bytes([first]) + size + mask + masked


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def talk(port: int, seed: int, frames: int) -> int:
    """Say so many things, until the other side has heard enough; how many."""
    chance, said = random.Random(seed), 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as there, suppress(ConnectionError):
        there.sendall(UPGRADE)
        assert b"101" in there.recv(4096)
        flood = frame(random.Random(seed)) if chance.random() < 0.2 else None
        for _ in range(frames):
            there.sendall(flood or frame(chance))
            said += 1
            if chance.random() < 0.3:
                time.sleep(0.002)
    return said


def chatter(service: Running, number: int) -> None:
    port, said, seed = int(service.page.rpartition(":")[2]), 0, number
    while said < number:
        with ThreadPoolExecutor(8) as many:
            said += sum(many.map(lambda each: talk(port, each, 20), range(seed, seed + 8)))
        seed += 8


async def wish(page: str, number: int) -> None:
    """Messages that are whole, and mean nothing."""
    chance = random.Random(number)
    for _ in range(number // 10):
        with suppress(WebSocketException, OSError):
            async with connect(page.replace("http", "ws") + "/ws", max_size=None) as client:
                for _ in range(10):
                    await client.send(chance.choice(MESSAGES))


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


def say_oddly(service: Running, number: int) -> None:
    chatter(service, number // 2)
    asyncio.run(wish(service.page, number - number // 2))


@pytest.mark.slow
def test_messages(service: Running):
    survives(service, say_oddly, 200)


@pytest.mark.soak
def test_two_thousand_messages(service: Running):
    survives(service, say_oddly, 2000)


# RTSP answers


def fuzz_answers(folder: Path, bundle: Path, cameras: int, number: int) -> None:
    """A camera that is one, beside many that are none."""
    fake, config = FakeRtsp(7), folder / "serve.toml"
    text = f"[model]\nbundle = '{bundle}'\nthreads = 1\n[web]\nport = 0\nrequests_per_minute = 100000\n"
    text += camera("door", CLIP, loop=True, rate=4)
    for each in range(cameras):
        text += camera(f"odd-{each}", f"rtsp://somebody:s3cret@127.0.0.1:{fake.port}/{each}", stall=1.0)
    config.write_text(text)
    service = Running(config)
    try:
        service.wait(lambda: service.camera("door")["frames"] > 5)
        service.wait(lambda: fake.answers > number / 4, 600)
        memory, started, frames = service.status()["memory_bytes"], time.monotonic(), service.camera("door")["frames"]
        service.wait(lambda: fake.answers > number, 600)
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
def test_rtsp_answers(tmp_path: Path, edge_bundle: Path):
    fuzz_answers(tmp_path, edge_bundle, 30, 120)


@pytest.mark.soak
def test_six_thousand_rtsp_answers(tmp_path: Path, edge_bundle: Path):
    fuzz_answers(tmp_path, edge_bundle, 60, 6000)
