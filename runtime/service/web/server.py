"""The web server: uvicorn in its own thread."""

import asyncio
import logging
import socket
import ssl
import threading
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.service.config import WebConfig
from runtime.service.web.access import is_loopback
from runtime.service.web.security import LONGEST_BODY
from stm_skeletons.errors import ServiceError, one_line

_LONGEST_HEADERS = 16_384
_HEADER_SECONDS = 10.0
_BESIDE_CLIENTS = 100
"""Connections allowed in addition to those of watching clients."""
_SEND_BUFFER = 32_768
"""Send buffer of each connection in bytes. A small one keeps slow clients from receiving old frames."""
_STARTING = 20.0
"""Seconds for starting the server."""
_log = logging.getLogger(__name__)


class WebServer:
    """Serves an app."""

    def __init__(self, app: Any, config: WebConfig) -> None:
        self._app, self._config = app, config
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def address(self) -> str:
        """Address of the page; with the actual port if the configuration says 0."""
        assert self._socket is not None, "it has not been started"
        scheme, (host, port) = "https" if self._config.certificate else "http", self._socket.getsockname()[:2]
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def start(self) -> None:
        """Return once requests are served. Raises ServiceError if the port is in use or a TLS file is invalid."""
        config = self._config
        check_certificate(config)
        self._socket = _bound(config)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                loop="asyncio",
                http=_TimeoutProtocol,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws_max_size=LONGEST_BODY,
                ws_max_queue=4,
                ws_per_message_deflate=False,  # images are compressed already, and it costs memory per client
                limit_concurrency=config.clients + _BESIDE_CLIENTS,
                h11_max_incomplete_event_size=_LONGEST_HEADERS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
                ssl_certfile=config.certificate,
                ssl_keyfile=config.key,
            )
        )
        self._thread = threading.Thread(target=self._run, args=(self._server, self._socket), name="web", daemon=True)
        self._thread.start()
        self._wait_until_started(self._server, self._thread)

    def stop(self, within: float = 2.0) -> None:
        """Disconnect all clients and stop in ``within`` seconds. May be called twice."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(max(0.0, within - 0.2))
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(0.2)

    @property
    def has_ended(self) -> bool:
        """Whether requests are no longer served."""
        return self._thread is not None and not self._thread.is_alive()

    def _run(self, server: uvicorn.Server, listening: socket.socket) -> None:
        try:
            asyncio.run(server.serve(sockets=[listening]))
        except SystemExit:  # uvicorn's way to report a failed start
            pass
        except Exception as error:
            if not server.should_exit:  # while stopping, it trips over closing WebSockets
                _log.error("the web server stopped: %s: %s", type(error).__name__, one_line(error))

    def _wait_until_started(self, server: uvicorn.Server, thread: threading.Thread) -> None:
        end = time.monotonic() + _STARTING
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                self.stop()
                raise ServiceError("the web server did not start; see the log")
            time.sleep(0.01)


class _TimeoutProtocol(H11Protocol):
    """Adds a timeout for receiving a request and a limit on connections, which uvicorn lacks."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        assert self.limit_concurrency is not None
        if len(self.connections) > self.limit_concurrency:
            transport.abort()
            return
        self._timer = self.loop.call_later(_HEADER_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        if self._timer is None and (before is None or before.response_complete):
            self._timer = self.loop.call_later(_HEADER_SECONDS, self._give_up)
        super().data_received(data)
        if self.cycle is not before or self.transport.is_closing():
            self._cancel()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._cancel()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abort()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _bound(config: WebConfig) -> socket.socket:
    """Return a socket that listens on exactly this address."""
    where = f"web.host {config.host}, port {config.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, ValueError) as error:
        raise ServiceError(f"{where}: no such address on this machine: {one_line(error)}") from error
    if config.token_file is None and not is_loopback(str(address[0])):
        raise ServiceError(
            f"{where}: {address[0]} is reachable from other machines; set web.token_file to a file with a token"
        )
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ServiceError(f"{where}: cannot listen: {error.strerror}; choose another port or address") from error
    return listening


def check_certificate(config: WebConfig) -> None:
    """Raise ServiceError if certificate and key do not match or are invalid."""
    if (config.certificate is None) != (config.key is None):
        raise ServiceError("web.certificate and web.key must be given together")
    if config.certificate is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config.certificate, config.key, password=lambda: "")  # never asks on a terminal
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ServiceError(
            f"web.certificate {config.certificate} and web.key {config.key} cannot be used: {one_line(error)}; both "
            "must be PEM and match, and the key must have no password"
        ) from error
