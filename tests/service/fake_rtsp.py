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
                chance = random.Random(self._random.random())
                threading.Thread(target=self._serve, args=(client, chance), daemon=True).start()

    def _serve(self, client: socket.socket, chance: random.Random) -> None:
        goes_well = chance.randrange(5)
        """Number of valid answers before a faulty one."""
        with suppress(OSError), client:
            client.settimeout(30)
            while not self._closed.is_set() and (request := client.recv(65_536)):
                method, _, rest = request.decode(errors="replace").partition(" ")
                sequence = rest.partition("CSeq: ")[2].partition("\r\n")[0]
                right = answer(method, sequence, self.port, chance)
                self.answers += 1
                if goes_well > 0:
                    goes_well -= 1
                    client.sendall(right)
                    if method == "PLAY":
                        self._stream(client, chance)
                    continue
                wrong: Callable[..., None] = chance.choice(WRONG)
                wrong(client, right, chance, self._closed)
                if chance.random() < 0.5:
                    return

    def _stream(self, client: socket.socket, chance: random.Random) -> None:
        """Invalid packets."""
        for number in range(chance.randrange(200)):
            payload = chance.randbytes(chance.choice((0, 1, 3, 7, 12, 60, 1400)))
            header = struct.pack(
                ">BBHII",
                chance.choice((0x80, 0x80, 0x90, 0xBF)),
                chance.choice((26, 96, 154, 224)),
                number,
                number * 9000,
                7,
            )
            packet = header + (
                struct.pack(">BBHBBBB", 0, 0, 0, chance.choice((0, 1, 255)), chance.choice((1, 99, 255)), 32, 20)
                + payload
            )
            length = chance.choice((len(packet),) * 8 + (0, 65_535))
            client.sendall(struct.pack(">BBH", 0x24, chance.choice((0, 0, 0, 1, 7, 255)), length) + packet)
            self.answers += 1
            if self._closed.wait(0.02):
                return


def answer(method: str, sequence: str, port: int, chance: random.Random) -> bytes:
    """A valid answer."""
    head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n"
    if method == "OPTIONS":
        return f"{head}Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".encode()
    if method == "DESCRIBE":
        body = sdp(chance)
        about = f"Content-Base: rtsp://127.0.0.1:{port}/\r\nContent-Type: application/sdp\r\n"
        return f"{head}{about}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    if method == "SETUP":
        return f"{head}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 12345678\r\n\r\n".encode()
    return f"{head}Session: 12345678\r\n\r\n".encode()


def sdp(chance: random.Random) -> str:
    """A description of some codec, with parameters that may be invalid."""
    noise = base64.b64encode(chance.randbytes(chance.choice((1, 20, 5000)))).decode()
    return chance.choice(
        (
            SDP.format(kind=26, codec="JPEG", more=""),
            SDP.format(kind=26, codec="JPEG", more=f"a=framesize:26 {chance.randrange(-9, 99999)}-{2**31}\r\n"),
            SDP.format(kind=96, codec="H264", more=f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={noise}\r\n"),
            SDP.format(kind=96, codec="H265", more=f"a=fmtp:96 sprop-vps={noise};sprop-sps={noise}\r\n"),
            SDP.format(kind=96, codec="MP4V-ES", more=f"a=fmtp:96 config={noise.encode().hex()}\r\n"),
            SDP.format(kind=96, codec="VP8", more=""),
            SDP.format(kind=96, codec="raw", more="a=fmtp:96 sampling=YCbCr-4:2:0;width=99999;height=99999\r\n"),
            SDP.format(
                kind=chance.randrange(256), codec=noise[:300], more="a=" + "x" * chance.randrange(20_000) + "\r\n"
            ),
            SDP.format(kind=26, codec="JPEG", more="") * chance.randrange(1, 100),
        )
    )


# Faults in an answer


def _garbage(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    client.sendall(chance.randbytes(chance.choice((1, 100, 5000, 200_000))))


def _half(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    client.sendall(right[: chance.randrange(len(right))])


def _nothing(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    closed.wait(chance.choice((0, 1, 20)))


def _bent(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    bent = bytearray(right)
    for _ in range(chance.randrange(1, 20)):
        bent[chance.randrange(len(bent))] = chance.randrange(256)
    client.sendall(bytes(bent))


def _endless_headers(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    client.sendall(right.partition(b"\r\n")[0] + b"\r\n")
    for _ in range(2000):
        client.sendall(b"X-Header: " + b"x" * chance.choice((1, 1000)) + b"\r\n")


def _endless_line(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    for _ in range(500):
        client.sendall(b"x" * 4096)


def _drips(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    for byte in right:
        client.sendall(bytes([byte]))
        if closed.wait(_SLOW):
            return


def _length(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    length = chance.choice((b"-1", b"-2147483648", b"2147483647", b"4294967296", b"99999999999999999999", b"x", b""))
    head, _, body = right.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    client.sendall(b"\r\n".join([*lines, b"Content-Length: " + length]) + b"\r\n\r\n" + body)


def _redirect(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    port = client.getsockname()[1]
    to = chance.choice((f"rtsp://127.0.0.1:{port}/again", "rtsp://127.0.0.1:9/", "rtsp://" + "x" * 5000, *SECRETS))
    line, _, rest = right.partition(b"\r\n")
    client.sendall(line.replace(b"200 OK", b"302 Found") + f"\r\nLocation: {to}\r\n".encode() + rest)


def _status(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    status = chance.choice((b"401 No", b"404 No", b"454 No", b"500 No", b"0", b"-5 No", b"99999999999 No", b"100 Wait"))
    challenge = b'\r\nWWW-Authenticate: Digest realm="' + b"r" * chance.randrange(3000) + b'", nonce="\r\n'
    line, _, rest = right.partition(b"\r\n")
    client.sendall(line.replace(b"200 OK", status) + challenge + rest)


def _transport(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    value = chance.choice((b"interleaved=-5--9", b"interleaved=250-999", b"server_port=0-70000", b";;;;=", b"x" * 4000))
    client.sendall(right.replace(b"interleaved=0-1", value))


def _many(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    client.sendall(right * chance.randrange(2, 50))


def _late_packets(client: socket.socket, right: bytes, chance: random.Random, closed: threading.Event) -> None:
    client.sendall(b"$" + chance.randbytes(3) + chance.randbytes(500) + right)


WRONG = (
    *(_garbage, _half, _nothing, _bent, _bent, _endless_headers, _endless_line, _drips, _length, _redirect),
    *(_status, _transport, _many, _late_packets),
)
