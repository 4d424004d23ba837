"""Who watches. Everything here runs in the event loop.

A client has no queue: it has a list of what it has not seen yet, and is sent the newest of that whenever its connection
takes more. So a slow one misses frames, needs no memory for them, and holds up nobody.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import Field

from runtime.service.config import Name
from runtime.service.web.limits import Allowance
from runtime.session_group import MOST_CAMERAS
from stm_skeletons.strict import Exact

Wish = tuple[frozenset[str] | None, bool]
"""Of which cameras somebody wants to see frames (None: of all), and whether with pictures."""
_WISHES_PER_MINUTE = 120


class WishMessage(Exact):
    """What a client may send."""

    cameras: Annotated[list[Name], Field(max_length=MOST_CAMERAS)] | None = None
    """None: all."""
    images: bool = False


class Client:
    """One of them."""

    def __init__(self) -> None:
        self.wish: Wish = (None, False)
        self.event = 0
        """The number of the last event that it was sent."""
        self._due: dict[str, None] = {}
        """In the order in which it fell due."""
        self._news = asyncio.Event()
        self._wishes = Allowance(_WISHES_PER_MINUTE)

    def may_wish(self) -> bool:
        """Whether it has not done so too often."""
        return self._wishes.spend("")

    def owe(self, what: str) -> None:
        """It has not seen the newest of this."""
        self._due[what] = None
        self._news.set()

    async def next(self) -> str:
        """What it is to be sent now."""
        while not self._due:
            self._news.clear()
            await self._news.wait()
        what = next(iter(self._due))
        del self._due[what]
        return what


class Clients:
    """All of them."""

    def __init__(self, most: int, told: Callable[[tuple[Wish, ...]], Any]) -> None:
        """``told`` learns what is wished for whenever that changes."""
        self._most, self._told = most, told
        self._clients: set[Client] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def add(self) -> Client | None:
        """None: there are as many as may be."""
        if len(self._clients) >= self._most:
            return None
        client = Client()
        self._clients.add(client)
        self._tell()
        return client

    def remove(self, client: Client) -> None:
        """It has gone."""
        self._clients.discard(client)
        self._tell()

    def wishes(self, client: Client, cameras: Iterable[str] | None, images: bool) -> None:
        """It wants to see something else."""
        client.wish = None if cameras is None else frozenset(cameras), images
        self._tell()

    def owe(self, what: str) -> None:
        """There is something new for all."""
        for client in self._clients:
            client.owe(what)

    def owe_frame(self, camera: str, what: str, images: bool) -> None:
        """There is a new frame for those who want this camera's, with or without pictures."""
        for client in self._clients:
            cameras, pictures = client.wish
            if pictures == images and (cameras is None or camera in cameras):
                client.owe(what)

    def _tell(self) -> None:
        self._told(tuple({client.wish for client in self._clients}))
