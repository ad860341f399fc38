"""An ASGI app that is another one: one real HTTP server for all tests of a file, each with a fake of its own."""

from __future__ import annotations

from typing import Any


class Stage:
    """Set `app` before each test; `url` is where it is served."""

    app: Any = None
    url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
