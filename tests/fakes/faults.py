"""What may go wrong at any fake server that streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

Piece = TypeVar("Piece", str, bytes)


@dataclass
class StreamFaults:
    """`statuses`: answered first, one per request for work; the `_after` count pieces of a stream.

    `start_s` is how long it takes before it answers.
    """

    statuses: list[int] = field(default_factory=list)
    die_after: int | None = None
    garble_after: int | None = None
    error_after: int | None = None
    hang_after: int | None = None
    start_s: float = 0.0

    async def at(self, number: int, *, garbled: Piece, error: Piece) -> Piece | None:
        """What comes in place of that piece, as this server would say it; None = nothing is wrong there.

        Raises ConnectionError when it dies.
        """
        if number == self.die_after:
            raise ConnectionError("the server died")
        if number == self.hang_after:
            await asyncio.sleep(60)
        if number == self.garble_after:
            return garbled
        return error if number == self.error_after else None
