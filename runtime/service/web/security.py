"""Checks every request before the app sees it, and adds security headers to every answer."""

import asyncio
import json
import logging
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.service.web.access import Access, is_same_origin
from runtime.service.web.limits import Allowance

LONGEST_BODY = 4096
"""Largest request body in bytes. Only the login token is ever sent in one."""
WRONG_TOKEN_COSTS = 0.1
"""Share of a minute's requests that a wrong token costs."""

_BODY_SECONDS = 10.0
_WITHOUT_TOKEN = ("/login", "/style.css")
"""Paths open without a token: the login form and its style sheet."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HSTS = {"Strict-Transport-Security": "max-age=31536000"}
_log = logging.getLogger(__name__)


class _Refused(Exception):  # noqa: N818 - it is an answer
    """Ends a request with this answer."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


class Guard:
    """The outermost middleware. Checks requests and WebSockets alike."""

    def __init__(self, app: ASGIApp, access: Access, allowance: Allowance, tls: bool) -> None:
        self._app, self._access, self._allowance = app, access, allowance
        self._headers = _HEADERS | (_HSTS if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._headers)
        try:
            self._check(scope)
            body = _Body(receive) if scope["type"] == "http" else receive
            await self._app(scope, body, answer)
        except _Refused as refused:
            await answer.refuse(scope, refused)
        except Exception:
            _log.exception("a request for %s failed", scope["path"][:100])
            await answer.refuse(scope, _Refused(500, "internal error; see the service's log"))

    def _check(self, scope: Scope) -> None:
        """Raises _Refused."""
        headers, address = Headers(scope=scope), (scope.get("client") or ("",))[0]
        if not self._allowance.spend(address):
            raise _Refused(429, "too many requests per minute", {"Retry-After": "10"})
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._access.is_our_host(host):
            raise _Refused(403, "the Host header does not name this machine; use its address or its own name")
        if origin is not None and not is_same_origin(origin, host):
            raise _Refused(403, "the Origin header belongs to another page")
        if scope["path"] in _WITHOUT_TOKEN or self._access.admits(headers):
            return
        if scope["path"] == "/":
            raise _Refused(303, "log in first", {"Location": "/login"})
        if "authorization" in headers:
            self._allowance.penalise(address, WRONG_TOKEN_COSTS)
        raise _Refused(401, "token required: 'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"})


class _Answer:
    """Sends messages with our headers added."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send, self._headers = send, headers
        self._started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        self._started = True
        await self._send(message)

    async def refuse(self, scope: Scope, refused: _Refused) -> None:
        """Send the refusal, unless an answer has already begun; then the server ends the connection."""
        if self._started:
            if scope["type"] == "websocket":
                await self._send({"type": "websocket.close", "code": 1011})
            return
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            await self._send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        headers = {"Content-Type": "application/json"} | refused.headers
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": f"{kind}.start", "status": refused.status, "headers": raw})
        await self({"type": f"{kind}.body", "body": json.dumps({"detail": refused.detail}).encode()})


class _Body:
    """Receives a request's body, limited in size and time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes, self._complete = 0, False

    async def __call__(self) -> Message:
        if self._complete:  # now waiting for the client to disconnect
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), _BODY_SECONDS)
        except asyncio.TimeoutError:
            raise _Refused(408, "the rest of the request did not arrive in time", {"Connection": "close"}) from None
        self._bytes += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._bytes > LONGEST_BODY:
            raise _Refused(413, f"the request body exceeds {LONGEST_BODY} bytes", {"Connection": "close"})
        return message
