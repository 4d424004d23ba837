"""The connected clients. Everything here runs in the event loop.

A client has no queue, only a list of what it has not seen yet. Whenever its connection has room, it is sent the newest
of that. A slow client misses frames, needs no memory for them, and delays nobody.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import Field

from runtime.service.config import Name
from runtime.service.web.limits import Allowance
from runtime.session_group import MOST_CAMERAS
from stm_skeletons.strict import Exact

Subscription = tuple[frozenset[str] | None, bool]
"""Cameras whose frames a client wants to see (None: all), and whether with images."""
_MESSAGES_PER_MINUTE = 120


class SubscriptionMessage(Exact):
    """A message from a client."""

    cameras: Annotated[list[Name], Field(max_length=MOST_CAMERAS)] | None = None
    """None means all."""
    images: bool = False


class Client:
    """A connected client."""

    def __init__(self) -> None:
        self.subscription: Subscription = (None, False)
        self.event = 0
        """Number of the last event sent to it."""
        self._due: dict[str, None] = {}
        """Items not sent yet, in order."""
        self._wakeup = asyncio.Event()
        self._messages = Allowance(_MESSAGES_PER_MINUTE)

    def may_send(self) -> bool:
        """Whether the client has not sent too many messages."""
        return self._messages.spend("")

    def mark_unsent(self, item: str) -> None:
        """Mark an item as not sent yet."""
        self._due[item] = None
        self._wakeup.set()

    async def next(self) -> str:
        """Wait for the next item to send."""
        while not self._due:
            self._wakeup.clear()
            await self._wakeup.wait()
        item = next(iter(self._due))
        del self._due[item]
        return item


class Clients:
    """All connected clients."""

    def __init__(self, most: int, on_change: Callable[[tuple[Subscription, ...]], Any]) -> None:
        """``on_change`` is called with the clients' subscriptions whenever they change."""
        self._most, self._on_change = most, on_change
        self._clients: set[Client] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def add(self) -> Client | None:
        """Add a client; None if the limit is reached."""
        if len(self._clients) >= self._most:
            return None
        client = Client()
        self._clients.add(client)
        self._notify()
        return client

    def remove(self, client: Client) -> None:
        """Remove a client that has gone."""
        self._clients.discard(client)
        self._notify()

    def subscribe(self, client: Client, cameras: Iterable[str] | None, images: bool) -> None:
        """Change what a client wants to see."""
        client.subscription = None if cameras is None else frozenset(cameras), images
        self._notify()

    def mark_unsent(self, item: str) -> None:
        """Mark an item as not sent yet for all clients."""
        for client in self._clients:
            client.mark_unsent(item)

    def mark_frame_unsent(self, camera: str, item: str, images: bool) -> None:
        """Mark a camera's frame as not sent yet for the clients that want it, with or without images."""
        for client in self._clients:
            cameras, with_images = client.subscription
            if with_images == images and (cameras is None or camera in cameras):
                client.mark_unsent(item)

    def _notify(self) -> None:
        self._on_change(tuple({client.subscription for client in self._clients}))
