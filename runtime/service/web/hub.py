"""From the detector to the pages that watch: the newest of each camera, and the latest events.

Three threads meet here. The detector offers results, which costs it a few microseconds. A thread of the hub's own makes
messages of what somebody wants to see. The event loop of the web server sends them.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass

import stm_skeletons
from runtime.blur import HeadBlur
from runtime.service.config import WebConfig
from runtime.service.results import Event, Output, Result
from runtime.service.web import messages
from runtime.service.web.clients import Client, Clients, Wish, WishMessage
from stm_skeletons.errors import one_line
from stm_skeletons.skeleton import Skeleton

KEPT_EVENTS = 200
_PICTURE_EVERY, _JITTER = 0.1, 0.02
"""Seconds between pictures of a camera, and by how much one may come early."""
_FRAME, _PICTURE = "frame:", "picture:"
"""What clients are owed: these and a camera's name; or one of "hello", "status", "events"."""


@dataclass
class _Camera:
    """What the hub's thread keeps of a camera."""

    pictured: float = 0.0
    """When the next picture is due."""
    blur: HeadBlur | None = None


class Hub:
    """One for the service."""

    def __init__(self, config: WebConfig) -> None:
        self.clients = Clients(config.clients, self._wished)
        self._config = config
        self._wishes: tuple[Wish, ...] = ()
        self._outputs: dict[str, _PageOutput] = {}
        self._lock = threading.Condition()
        """Of what follows."""
        self._newest: dict[str, Result] = {}
        self._events: deque[tuple[int, Event]] = deque(maxlen=KEPT_EVENTS)
        self._last_event = 0
        self._latest: dict[str, tuple[str | bytes, ...]] = {}
        """What clients are owed, as messages."""
        self._changed: dict[str, None] = {}
        """Of these, what the event loop has not been told of."""
        self._skeleton: Skeleton | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def output(self, camera: str) -> Output:
        """What shows the results of a camera."""
        output = _PageOutput(self, camera)
        self._outputs[camera] = output
        return output

    def events(self, most: int = KEPT_EVENTS) -> tuple[Event, ...]:
        """The latest, the newest first."""
        with self._lock:
            return tuple(event for _, event in reversed(self._events))[:most]

    def open(self) -> None:
        """Begin to send, from the event loop that is running."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._newest, self._changed = {}, {}
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send no more. May be opened again."""
        with self._lock:
            self._loop = None
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def publish_status(self, status_json: str) -> None:
        """To all who watch. In the event loop, as are the other methods below."""
        with self._lock:
            self._latest["status"] = (messages.status(status_json),)
        self.clients.owe("status")

    def greet(self, client: Client) -> None:
        """A client has come."""
        for what in ("hello", "status", "events"):
            client.owe(what)

    def wish(self, client: Client, message: WishMessage) -> None:
        """A client wants to see something else."""
        self.clients.wishes(client, message.cameras, message.images and self._config.images)

    def messages(self, client: Client, what: str) -> tuple[str | bytes, ...]:
        """What a client is to be sent."""
        with self._lock:
            if what == "hello":
                login = self._config.token_file is not None
                return (messages.hello(stm_skeletons.__version__, self._config.images, login, self._skeleton),)
            if what == "events":
                return self._unseen_events(client)
            return self._latest.get(what, ())

    def _unseen_events(self, client: Client) -> tuple[str, ...]:
        unseen = [(number, event) for number, event in self._events if number > client.event]
        client.event = self._last_event
        return (messages.events(unseen),) if unseen else ()

    def _wished(self, wishes: tuple[Wish, ...]) -> None:
        self._wishes = wishes

    def _wanted(self, camera: str, images: bool) -> bool:
        return any(pictures == images and (cameras is None or camera in cameras) for cameras, pictures in self._wishes)

    # In the detector's thread

    def take(self, result: Result) -> bool:
        """Keep events, and the frame if somebody wants to see it. Whether an earlier one was dropped for it."""
        if not self._wishes and not result.events:
            return False
        with self._lock:
            for event in result.events:
                self._last_event += 1
                self._events.append((self._last_event, event))
            if result.events:
                self._tell("events")
            camera = result.camera
            if not (self._wanted(camera, False) or self._wanted(camera, True)):
                return False
            dropped = self._newest.pop(camera, None) is not None
            self._newest[camera] = result
            self._lock.notify_all()
            return dropped

    def forget(self, output: "_PageOutput") -> None:
        """A camera is not there any more."""
        with self._lock:
            if self._outputs.get(output.camera) is output:
                del self._outputs[output.camera]
                self._newest.pop(output.camera, None)
                for what in (_FRAME, _PICTURE):
                    self._latest.pop(what + output.camera, None)

    # In the thread of our own

    def _run(self) -> None:
        cameras: dict[str, _Camera] = {}
        while (results := self._wait()) is not None:
            for name, result in results.items():
                if (output := self._outputs.get(name)) is None:
                    cameras.pop(name, None)
                    continue
                try:
                    self._show(result, cameras.setdefault(name, _Camera()))
                    output.shown(None)
                except Exception as error:  # a page that cannot be drawn must not end the others
                    output.shown(one_line(f"cannot show a frame: {error}"))

    def _wait(self) -> dict[str, Result] | None:
        """The newest frames, by camera; None when closed."""
        with self._lock:
            while self._loop is not None and not self._newest:
                self._lock.wait()
            results, self._newest = self._newest, {}
            return None if self._loop is None else results

    def _show(self, result: Result, camera: _Camera) -> None:
        name, skeleton = result.camera, result.parts.skeleton
        if skeleton != self._skeleton:
            with self._lock:
                self._skeleton = skeleton
                self._tell("hello")
        if self._wanted(name, False):
            self._post(_FRAME + name, messages.frame(result, pictured=False))
        now = time.monotonic()
        if self._config.images and self._wanted(name, True) and now >= camera.pictured - _JITTER:
            camera.pictured = max(camera.pictured + _PICTURE_EVERY, now)
            picture = self._picture(result, camera)
            self._post(_PICTURE + name, messages.frame(result, pictured=True), picture)

    def _picture(self, result: Result, camera: _Camera) -> bytes:
        image = messages.small(result.frame.image)
        if self._config.blur_heads:
            camera.blur = camera.blur or HeadBlur(result.parts.skeleton)
            image = camera.blur.blur(image, result.everybody, time.monotonic())
        return messages.picture(result.camera, result.frame.number, image)

    def _post(self, what: str, *message: str | bytes) -> None:
        with self._lock:
            self._latest[what] = message
            self._tell(what)

    # Under the lock, in any thread

    def _tell(self, what: str) -> None:
        """The event loop, once for all that is new at the time."""
        if self._loop is None:
            return
        told, self._changed[what] = bool(self._changed), None
        if not told:
            with contextlib.suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, {}
        for what in changed:
            kind, _, camera = what.partition(":")
            if camera:
                self.clients.owe_frame(camera, what, images=kind == _PICTURE[:-1])
            else:
                self.clients.owe(what)


class _PageOutput:
    """The output "page" of a camera."""

    name = "page"

    def __init__(self, hub: Hub, camera: str) -> None:
        self.camera = camera
        self._hub = hub
        self._written = self._dropped = self._failed = 0
        self._problem: str | None = None

    def offer(self, result: Result) -> None:
        self._dropped += self._hub.take(result)

    def shown(self, problem: str | None) -> None:
        """A frame was made into messages, or why not."""
        self._problem = problem
        if problem is None:
            self._written += 1
        else:
            self._failed += 1

    def counters(self) -> dict[str, int]:
        return {"written": self._written, "dropped": self._dropped, "failed": self._failed}

    def problem(self) -> str | None:
        return self._problem

    def close(self, within: float) -> None:  # noqa: ARG002 - nothing is waited for
        self._hub.forget(self)
