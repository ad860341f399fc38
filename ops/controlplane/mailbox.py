"""What a request's handler waits for: pieces of the reply, its end, signs that nothing came. One loop, one reader.

Nothing here takes time from the hot path: no timeout is armed for a chunk; silence is noticed by the hub's tick.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from bridge.protocol import ResultFrame
from ops.controlplane.errors import Problem


class Sign(Enum):
    KEEP_ALIVE = "keep_alive"
    """The client has heard nothing for long: send something that means nothing."""
    GONE = "gone"
    """The client went away: nobody reads what is written."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The reply is complete."""

    result: ResultFrame


Item = bytes | Ended | Problem | Sign


class Mailbox:
    """Holds items in order until the one reader takes them all. `unread` counts the bytes of pieces held."""

    __slots__ = ("_items", "_waiter", "unread")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._waiter: asyncio.Future[None] | None = None
        self.unread = 0

    def put(self, item: Item) -> None:
        self._items.append(item)
        if type(item) is bytes:
            self.unread += len(item)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def take_now(self) -> list[Item]:
        items, self._items = self._items, []
        self.unread = 0
        return items

    async def take(self) -> list[Item]:
        """All items there are, at least one. Canceling is safe: nothing is lost."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.take_now()
