"""Connects the detector with the watching pages: newest frame of each camera, and latest events.

Three threads meet here. The detector offers results, which costs it a few microseconds. The hub's own thread builds the
messages that clients want. The web server's event loop sends them.
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
from runtime.service.web.clients import Client, Clients, Subscription, SubscriptionMessage
from stm_skeletons.errors import one_line
from stm_skeletons.skeleton import Skeleton

KEPT_EVENTS = 200
_IMAGE_INTERVAL, _JITTER = 0.1, 0.02
"""Seconds between images of a camera, and tolerance for early ones."""
_FRAME, _IMAGE = "frame:", "picture:"
"""Items sent to clients: one of these with a camera's name, or "hello", "status", "events"."""


@dataclass
class _Camera:
    """The hub thread's state of a camera."""

    pictured: float = 0.0
    """Time at which the next image is due."""
    blur: HeadBlur | None = None


class Hub:
    """The service's hub."""

    def __init__(self, config: WebConfig) -> None:
        self.clients = Clients(config.clients, self._set_subscriptions)
        self._config = config
        self._subscriptions: tuple[Subscription, ...] = ()
        self._outputs: dict[str, _PageOutput] = {}
        self._lock = threading.Condition()
        """Guards the following attributes."""
        self._newest: dict[str, Result] = {}
        self._events: deque[tuple[int, Event]] = deque(maxlen=KEPT_EVENTS)
        self._last_event = 0
        self._latest: dict[str, tuple[str | bytes, ...]] = {}
        """Messages of each item."""
        self._changed: dict[str, None] = {}
        """Items that the event loop has not been told of."""
        self._skeleton: Skeleton | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def output(self, camera: str) -> Output:
        """Create the output that shows a camera's results."""
        output = _PageOutput(self, camera)
        self._outputs[camera] = output
        return output

    def events(self, most: int = KEPT_EVENTS) -> tuple[Event, ...]:
        """Return the latest events, newest first."""
        with self._lock:
            return tuple(event for _, event in reversed(self._events))[:most]

    def open(self) -> None:
        """Start sending, from the running event loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._newest, self._changed = {}, {}
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop sending. May be opened again."""
        with self._lock:
            self._loop = None
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def publish_status(self, status_json: str) -> None:
        """Send the status to all clients. Like the methods below, runs in the event loop."""
        with self._lock:
            self._latest["status"] = (messages.status(status_json),)
        self.clients.mark_unsent("status")

    def greet(self, client: Client) -> None:
        """Send the first messages to a new client."""
        for item in ("hello", "status", "events"):
            client.mark_unsent(item)

    def subscribe(self, client: Client, message: SubscriptionMessage) -> None:
        """Apply a client's message."""
        self.clients.subscribe(client, message.cameras, message.images and self._config.images)

    def messages(self, client: Client, item: str) -> tuple[str | bytes, ...]:
        """Return the messages of an item for a client."""
        with self._lock:
            if item == "hello":
                login = self._config.token_file is not None
                return (messages.hello(stm_skeletons.__version__, self._config.images, login, self._skeleton),)
            if item == "events":
                return self._unsent_events(client)
            return self._latest.get(item, ())

    def _unsent_events(self, client: Client) -> tuple[str, ...]:
        unseen = [(number, event) for number, event in self._events if number > client.event]
        client.event = self._last_event
        return (messages.events(unseen),) if unseen else ()

    def _set_subscriptions(self, subscriptions: tuple[Subscription, ...]) -> None:
        self._subscriptions = subscriptions

    def _wanted(self, camera: str, images: bool) -> bool:
        return any(
            with_images == images and (cameras is None or camera in cameras)
            for cameras, with_images in self._subscriptions
        )

    # Called in the detector's thread

    def take(self, result: Result) -> bool:
        """Keep events, and the frame if a client wants it. Returns whether an earlier frame was dropped."""
        if not self._subscriptions and not result.events:
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
        """Remove a camera."""
        with self._lock:
            if self._outputs.get(output.camera) is output:
                del self._outputs[output.camera]
                self._newest.pop(output.camera, None)
                for item in (_FRAME, _IMAGE):
                    self._latest.pop(item + output.camera, None)

    # Called in the hub's thread

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
                except Exception as error:  # one camera's error must not end the others
                    output.shown(one_line(f"cannot show a frame: {error}"))

    def _wait(self) -> dict[str, Result] | None:
        """Return the newest frames by camera; None when closed."""
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
            camera.pictured = max(camera.pictured + _IMAGE_INTERVAL, now)
            jpeg_message = self._jpeg_message(result, camera)
            self._post(_IMAGE + name, messages.frame(result, pictured=True), jpeg_message)

    def _jpeg_message(self, result: Result, camera: _Camera) -> bytes:
        image = messages.small(result.frame.image)
        if self._config.blur_heads:
            camera.blur = camera.blur or HeadBlur(result.parts.skeleton)
            image = camera.blur.blur(image, result.everybody, time.monotonic())
        return messages.jpeg_message(result.camera, result.frame.number, image)

    def _post(self, item: str, *message: str | bytes) -> None:
        with self._lock:
            self._latest[item] = message
            self._tell(item)

    # Called under the lock, in any thread

    def _tell(self, item: str) -> None:
        """Notify the event loop, once for all items that are new at the time."""
        if self._loop is None:
            return
        told, self._changed[item] = bool(self._changed), None
        if not told:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, {}
        for item in changed:
            kind, _, camera = item.partition(":")
            if camera:
                self.clients.mark_frame_unsent(camera, item, images=kind == _IMAGE[:-1])
            else:
                self.clients.mark_unsent(item)


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
        """Count a frame that was turned into messages, or record why not."""
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
