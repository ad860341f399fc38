"""How a pull goes at an Ollama server, line by line, and what may go wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.fakes.ollama_shapes import Line

_STEP = 100  # bytes a line


@dataclass
class Registry:
    """`library`: what can be pulled, in layers (digest → bytes). `pulled`: how much of each layer is there already.

    The latter outlives a pull that broke off, as Ollama's partial blobs do.
    """

    library: dict[str, dict[str, int]] = field(default_factory=dict)
    pulled: dict[str, int] = field(default_factory=dict)
    dies: list[int] = field(default_factory=list)
    """Of each pull the bytes in all at which the connection breaks."""
    hangs_after: int | None = None
    error: str = ""

    async def pull(self, name: str) -> AsyncIterator[Line]:
        """Raises ConnectionError when it dies."""
        yield {"status": "pulling manifest"}
        if name not in self.library:
            yield {"error": "pull model manifest: file does not exist"}
            return
        dies = self.dies.pop(0) if self.dies else None
        for digest, total in self.library[name].items():
            head = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
            yield head
            while self.pulled.get(digest, 0) < total:
                await self._may_go_on(dies)
                self.pulled[digest] = min(total, self.pulled.get(digest, 0) + _STEP)
                yield head | {"completed": self.pulled[digest]}
        yield {"status": "verifying sha256 digest"}
        if self.error:
            yield {"error": self.error}
            return
        yield {"status": "writing manifest"}
        yield {"status": "success"}

    async def _may_go_on(self, dies: int | None) -> None:
        await asyncio.sleep(0)
        if dies is not None and self._bytes >= dies:
            raise ConnectionError("the connection was lost")
        while self._hangs:  # noqa: ASYNC110  # until a test's thread, which has no loop, lets go
            await asyncio.sleep(0.02)

    @property
    def _bytes(self) -> int:
        return sum(self.pulled.values())

    @property
    def _hangs(self) -> bool:
        return self.hangs_after is not None and self._bytes >= self.hangs_after
