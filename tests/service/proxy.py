"""A simulated network cable: it can be unplugged, cut, or made to corrupt bytes."""

import random
import socket
import threading
from contextlib import suppress

_FLIPPED = 2e-4
"""Share of the bytes that a bad cable corrupts."""


class Proxy:
    """Forwards connections to its port to another port of this machine, in both directions."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self._target, self._random = target, random.Random(seed)
        self._whole = threading.Event()
        self._whole.set()
        self.bad = False
        """Whether bytes from the target are corrupted."""
        self.refuses = False
        """Whether new connections are refused."""
        self._ends: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, name="cable", daemon=True).start()

    def pull(self) -> None:
        """Silently stop forwarding; pending data arrives once the cable is plugged in again."""
        self._whole.clear()

    def plug(self) -> None:
        self._whole.set()

    def cut(self) -> None:
        """Close every connection."""
        for end in list(self._ends):
            _end(end)

    def close(self) -> None:
        self._listening.close()
        self.plug()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._listening.accept()[0]
                try:
                    if self.refuses:
                        raise ConnectionRefusedError
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                self._ends |= {client, server}
                for start, end, may_be_bad in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=(start, end, may_be_bad), daemon=True).start()

    def _pass(self, start: socket.socket, end: socket.socket, may_be_bad: bool) -> None:
        with suppress(OSError):
            while data := start.recv(65_536):
                self._whole.wait()
                end.sendall(self._bent(data) if may_be_bad and self.bad else data)
        for each in (start, end):
            _end(each)
            self._ends.discard(each)
        start.close()

    def _bent(self, data: bytes) -> bytes:
        bent = bytearray(data)
        for _ in range(max(1, round(len(bent) * _FLIPPED))):
            bent[self._random.randrange(len(bent))] ^= 1 << self._random.randrange(8)
        return bytes(bent)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
