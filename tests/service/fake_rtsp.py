"""An RTSP server with invalid answers, for tests of camera reading."""

import base64
import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP {kind}\r\n"
    "a=rtpmap:{kind} {codec}/90000\r\n{more}a=control:stream=0\r\n"
)
SECRETS = "file:///etc/passwd", "http://127.0.0.1:9/", "concat:/etc/passwd|/etc/hosts", "/etc/passwd"
_SLOW = 0.05
"""Seconds between single bytes of a slow answer."""


class FakeRtsp:
    """Answers every connection with random faults, from a fixed seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.answers = 0
        self._closed = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                rng = random.Random(self._random.random())
                threading.Thread(target=self._serve, args=(client, rng), daemon=True).start()

    def _serve(self, client: socket.socket, rng: random.Random) -> None:
        valid_answers = rng.randrange(5)
        """Number of valid answers before a faulty one."""
        with suppress(OSError), client:
            client.settimeout(30)
            while not self._closed.is_set() and (request := client.recv(65_536)):
                method, _, rest = request.decode(errors="replace").partition(" ")
                sequence = rest.partition("CSeq: ")[2].partition("\r\n")[0]
                valid = answer(method, sequence, self.port, rng)
                self.answers += 1
                if valid_answers > 0:
                    valid_answers -= 1
                    client.sendall(valid)
                    if method == "PLAY":
                        self._stream(client, rng)
                    continue
                fault: Callable[..., None] = rng.choice(FAULTS)
                fault(client, valid, rng, self._closed)
                if rng.random() < 0.5:
                    return

    def _stream(self, client: socket.socket, rng: random.Random) -> None:
        """Send invalid packets."""
        for number in range(rng.randrange(200)):
            payload = rng.randbytes(rng.choice((0, 1, 3, 7, 12, 60, 1400)))
            header = struct.pack(
                ">BBHII",
                rng.choice((0x80, 0x80, 0x90, 0xBF)),
                rng.choice((26, 96, 154, 224)),
                number,
                number * 9000,
                7,
            )
            packet = header + (
                struct.pack(">BBHBBBB", 0, 0, 0, rng.choice((0, 1, 255)), rng.choice((1, 99, 255)), 32, 20) + payload
            )
            length = rng.choice((len(packet),) * 8 + (0, 65_535))
            client.sendall(struct.pack(">BBH", 0x24, rng.choice((0, 0, 0, 1, 7, 255)), length) + packet)
            self.answers += 1
            if self._closed.wait(0.02):
                return


def answer(method: str, sequence: str, port: int, rng: random.Random) -> bytes:
    """Return a valid answer."""
    head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n"
    if method == "OPTIONS":
        return f"{head}Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".encode()
    if method == "DESCRIBE":
        body = sdp(rng)
        headers = f"Content-Base: rtsp://127.0.0.1:{port}/\r\nContent-Type: application/sdp\r\n"
        return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    if method == "SETUP":
        return f"{head}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 12345678\r\n\r\n".encode()
    return f"{head}Session: 12345678\r\n\r\n".encode()


def sdp(rng: random.Random) -> str:
    """Return a description of some codec, with parameters that may be invalid."""
    noise = base64.b64encode(rng.randbytes(rng.choice((1, 20, 5000)))).decode()
    return rng.choice(
        (
            SDP.format(kind=26, codec="JPEG", more=""),
            SDP.format(kind=26, codec="JPEG", more=f"a=framesize:26 {rng.randrange(-9, 99999)}-{2**31}\r\n"),
            SDP.format(kind=96, codec="H264", more=f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={noise}\r\n"),
            SDP.format(kind=96, codec="H265", more=f"a=fmtp:96 sprop-vps={noise};sprop-sps={noise}\r\n"),
            SDP.format(kind=96, codec="MP4V-ES", more=f"a=fmtp:96 config={noise.encode().hex()}\r\n"),
            SDP.format(kind=96, codec="VP8", more=""),
            SDP.format(kind=96, codec="raw", more="a=fmtp:96 sampling=YCbCr-4:2:0;width=99999;height=99999\r\n"),
            SDP.format(kind=rng.randrange(256), codec=noise[:300], more="a=" + "x" * rng.randrange(20_000) + "\r\n"),
            SDP.format(kind=26, codec="JPEG", more="") * rng.randrange(1, 100),
        )
    )


# Faults in an answer


def _garbage(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    client.sendall(rng.randbytes(rng.choice((1, 100, 5000, 200_000))))


def _truncated(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    client.sendall(valid[: rng.randrange(len(valid))])


def _silence(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    closed.wait(rng.choice((0, 1, 20)))


def _corrupted(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    corrupted = bytearray(valid)
    for _ in range(rng.randrange(1, 20)):
        corrupted[rng.randrange(len(corrupted))] = rng.randrange(256)
    client.sendall(bytes(corrupted))


def _endless_headers(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    client.sendall(valid.partition(b"\r\n")[0] + b"\r\n")
    for _ in range(2000):
        client.sendall(b"X-Header: " + b"x" * rng.choice((1, 1000)) + b"\r\n")


def _endless_line(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    for _ in range(500):
        client.sendall(b"x" * 4096)


def _byte_by_byte(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    for byte in valid:
        client.sendall(bytes([byte]))
        if closed.wait(_SLOW):
            return


def _wrong_length(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    length = rng.choice((b"-1", b"-2147483648", b"2147483647", b"4294967296", b"99999999999999999999", b"x", b""))
    head, _, body = valid.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    client.sendall(b"\r\n".join([*lines, b"Content-Length: " + length]) + b"\r\n\r\n" + body)


def _redirect(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    port = client.getsockname()[1]
    target = rng.choice((f"rtsp://127.0.0.1:{port}/again", "rtsp://127.0.0.1:9/", "rtsp://" + "x" * 5000, *SECRETS))
    line, _, rest = valid.partition(b"\r\n")
    client.sendall(line.replace(b"200 OK", b"302 Found") + f"\r\nLocation: {target}\r\n".encode() + rest)


def _wrong_status(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    status = rng.choice((b"401 No", b"404 No", b"454 No", b"500 No", b"0", b"-5 No", b"99999999999 No", b"100 Wait"))
    challenge = b'\r\nWWW-Authenticate: Digest realm="' + b"r" * rng.randrange(3000) + b'", nonce="\r\n'
    line, _, rest = valid.partition(b"\r\n")
    client.sendall(line.replace(b"200 OK", status) + challenge + rest)


def _wrong_transport(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    value = rng.choice((b"interleaved=-5--9", b"interleaved=250-999", b"server_port=0-70000", b";;;;=", b"x" * 4000))
    client.sendall(valid.replace(b"interleaved=0-1", value))


def _repeated(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    client.sendall(valid * rng.randrange(2, 50))


def _late_packets(client: socket.socket, valid: bytes, rng: random.Random, closed: threading.Event) -> None:
    client.sendall(b"$" + rng.randbytes(3) + rng.randbytes(500) + valid)


FAULTS = (
    *(
        _garbage,
        _truncated,
        _silence,
        _corrupted,
        _corrupted,
        _endless_headers,
        _endless_line,
        _byte_by_byte,
        _wrong_length,
        _redirect,
    ),
    *(_wrong_status, _wrong_transport, _repeated, _late_packets),
)
