"""A simulated network cable: it can be unplugged, cut, or made to corrupt bytes."""

import random
import socket
import threading
from contextlib import suppress

_CORRUPTED_SHARE = 2e-4
"""Share of the bytes that a bad cable corrupts."""


class Proxy:
    """Forwards connections to its port to another port of this machine, in both directions."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self._target, self._random = target, random.Random(seed)
        self._plugged_in = threading.Event()
        self._plugged_in.set()
        self.corrupts = False
        """Whether bytes from the target are corrupted."""
        self.refuses = False
        """Whether new connections are refused."""
        self._sockets: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, name="cable", daemon=True).start()

    def pull(self) -> None:
        """Silently stop forwarding; pending data arrives once the cable is plugged in again."""
        self._plugged_in.clear()

    def plug(self) -> None:
        self._plugged_in.set()

    def cut(self) -> None:
        """Close every connection."""
        for connection in list(self._sockets):
            _shut_down(connection)

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
                self._sockets |= {client, server}
                for start, end, corruptible in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._forward, args=(start, end, corruptible), daemon=True).start()

    def _forward(self, start: socket.socket, end: socket.socket, corruptible: bool) -> None:
        with suppress(OSError):
            while data := start.recv(65_536):
                self._plugged_in.wait()
                end.sendall(self._corrupt(data) if corruptible and self.corrupts else data)
        for each in (start, end):
            _shut_down(each)
            self._sockets.discard(each)
        start.close()

    def _corrupt(self, data: bytes) -> bytes:
        corrupted = bytearray(data)
        for _ in range(max(1, round(len(corrupted) * _CORRUPTED_SHARE))):
            corrupted[self._random.randrange(len(corrupted))] ^= 1 << self._random.randrange(8)
        return bytes(corrupted)


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
