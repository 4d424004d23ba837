"""The web application: routes and WebSocket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.websockets import WebSocketDisconnect

import stm_skeletons
from runtime.service.config import Name, ServiceConfig, WebConfig
from runtime.service.results import Event
from runtime.service.status import Board, CameraStatus, ServiceStatus, State
from runtime.service.web.access import COOKIE, COOKIE_SECONDS, Access
from runtime.service.web.clients import Client, SubscriptionMessage
from runtime.service.web.hub import KEPT_EVENTS, Hub
from runtime.service.web.limits import Allowance
from runtime.service.web.metrics import CONTENT_TYPE, Metrics
from runtime.service.web.security import WRONG_TOKEN_COSTS, Guard
from stm_skeletons.errors import one_line

STATUS_EVERY = 0.5
"""Seconds between status messages to pages. A page that misses them assumes that the service is gone."""
_SLOWEST = 30.0
"""Seconds for sending a message, after which the client is disconnected."""
_TRY_AGAIN_LATER, _REFUSED = 1013, 1008
"""WebSocket close codes."""
_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/draw.js": ("draw.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""All static files; no part of a request is ever used as a file name."""
_PAGE_HEADERS = {"Referrer-Policy": "same-origin"}
"""Headers of pages with a form: under "no-referrer" a browser omits the form's Origin as well."""
_WRONG_TOKEN = '<p class="wrong" role="alert">Wrong token.</p>'


class Problem(BaseModel):
    """Why a request failed."""

    detail: str
    """The reason, on one line."""


class Health(BaseModel):
    """Whether the service is processing frames."""

    healthy: bool
    stuck: bool


class Readiness(BaseModel):
    """Whether at least one camera is live."""

    ready: bool
    cameras: dict[str, State]


def make_app(board: Board, hub: Hub, config: ServiceConfig) -> FastAPI:
    """Create the app with page and API. Raises ServiceError if a token is missing or cannot be read."""
    web = config.web or WebConfig()
    access, allowance, tls = Access(web), Allowance(web.requests_per_minute), web.certificate is not None
    app = FastAPI(
        title="STM-skeletons",
        version=stm_skeletons.__version__,
        description="Status of the service and its cameras. Results are sent over the WebSocket /ws.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages would load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        # For newer FastAPI versions; older ones ignore it. Nothing leaves this machine, whatever the environment says.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lambda _app: _lifespan(board, hub),
    )
    app.add_middleware(Guard, access=access, allowance=allowance, tls=tls)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(_api(board, hub, access))
    app.include_router(_page())
    app.include_router(_login(access, allowance, tls))

    @app.websocket("/ws")
    async def watch(socket: WebSocket) -> None:
        await _watch(socket, hub)

    return app


@contextlib.asynccontextmanager
async def _lifespan(board: Board, hub: Hub) -> AsyncIterator[None]:
    hub.open()
    telling = asyncio.create_task(_tell_status(board, hub))
    try:
        yield
    finally:
        telling.cancel()
        hub.close()


async def _tell_status(board: Board, hub: Hub) -> None:
    while True:
        if hub.clients:
            hub.publish_status(board.snapshot().model_dump_json())
        await asyncio.sleep(STATUS_EVERY)


def _api(board: Board, hub: Hub, access: Access) -> APIRouter:
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem} for status in (401, 403, 408, 413, 422, 429, 500)
    }
    token = [Depends(HTTPBearer(auto_error=False, description="The token in web.token_file."))]
    router = APIRouter(responses=refused, dependencies=token if access.wants_token else [])

    @router.get("/api/status")
    async def status() -> ServiceStatus:
        """Status of the service and all its cameras."""
        return board.snapshot()

    @router.get("/api/cameras/{name}", responses={404: {"model": Problem}})
    async def camera(name: Annotated[Name, Path(description="Name in the configuration.")]) -> CameraStatus:
        """Status of a camera."""
        for each in board.snapshot().cameras:
            if each.name == name:
                return each
        raise HTTPException(404, "no camera with this name")

    @router.get("/api/events")
    async def events(limit: Annotated[int, Query(ge=1, le=KEPT_EVENTS)] = KEPT_EVENTS) -> tuple[Event, ...]:
        """Latest events of the rules, newest first."""
        return hub.events(limit)

    @router.get("/healthz", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """200 while the service processes frames, 503 if it is stuck."""
        stuck = board.stuck
        response.status_code = 503 if stuck else 200
        return Health(healthy=not stuck, stuck=stuck)

    @router.get("/readyz", responses={503: {"model": Readiness}})
    async def readiness(response: Response) -> Readiness:
        """200 once every camera has given a frame or reported a reason, and one is live; otherwise 503."""
        now = board.snapshot()
        response.status_code = 200 if now.ready else 503
        return Readiness(ready=now.ready, cameras={each.name: each.state for each in now.cameras})

    measured = Metrics(board)

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @router.get("/metrics", response_class=Response, responses=text)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(measured.text(), headers={"Content-Type": CONTENT_TYPE})

    return router


def _page() -> APIRouter:
    """Fixed paths to static files, read once."""
    router = APIRouter(include_in_schema=False)
    for path, (file, kind) in _STATIC.items():
        router.add_api_route(path, _answering(_static(file), kind), response_class=Response)
    return router


def _answering(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, headers={"Content-Type": kind} | (_PAGE_HEADERS if "html" in kind else {}))

    return answer


def _login(access: Access, allowance: Allowance, tls: bool) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    form = _static("login.html").decode()

    @router.get("/login")
    async def ask() -> Response:
        return HTMLResponse(form, headers=_PAGE_HEADERS) if access.wants_token else RedirectResponse("/", 303)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        body = (await request.body()).decode(errors="replace")
        token = parse_qs(body, max_num_fields=4).get("token", [""])[0] if body.count("&") < 4 else ""
        if not access.wants_token or access.is_token(token.strip()):
            answer = RedirectResponse("/", 303)
            _set_cookie(answer, access.new_cookie(), COOKIE_SECONDS)
            return answer
        allowance.penalise(request.client.host if request.client else "", WRONG_TOKEN_COSTS)
        return HTMLResponse(form.replace("<!-- wrong -->", _WRONG_TOKEN), 401, _PAGE_HEADERS)

    @router.post("/logout")
    async def log_out() -> Response:
        answer = RedirectResponse("/login", 303)
        _set_cookie(answer, "", 0)
        return answer

    def _set_cookie(answer: Response, value: str, seconds: int) -> None:
        answer.set_cookie(COOKIE, value, max_age=seconds, secure=tls, httponly=True, samesite="strict")

    return router


async def _watch(socket: WebSocket, hub: Hub) -> None:
    await socket.accept()
    if (client := hub.clients.add()) is None:
        await socket.close(_TRY_AGAIN_LATER, "too many pages are connected")
        return
    hub.greet(client)
    both = [asyncio.create_task(_send(socket, hub, client)), asyncio.create_task(_listen(socket, hub, client))]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.clients.remove(client)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _send(socket: WebSocket, hub: Hub, client: Client) -> None:
    """Send until the client has gone or is too slow."""
    with contextlib.suppress(WebSocketDisconnect, asyncio.TimeoutError, RuntimeError):
        while True:
            for message in hub.messages(client, await client.next()):
                send = socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
                await asyncio.wait_for(send, _SLOWEST)


async def _listen(socket: WebSocket, hub: Hub, client: Client) -> None:
    """Receive until the client has gone or sends an invalid message."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            received = await socket.receive()
            if received["type"] != "websocket.receive":
                return
            if not client.may_send():
                await socket.close(_REFUSED, "too many messages")
                return
            try:
                hub.subscribe(client, SubscriptionMessage.model_validate_json(received.get("text") or b""))
            except ValidationError:
                await socket.close(_REFUSED, 'expected {"cameras": [NAME, ...] or null, "images": true or false}')
                return


async def _invalid(_request: Request, error: Exception) -> Response:
    """Answer with the validation error on one line, without the request's content."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"detail": one_line(f"{where}: {first['msg']}")}, 422)


def _static(file: str) -> bytes:
    return (files("runtime.service.web") / "static" / file).read_bytes()
