"""API keys of external servers: each goes with the requests to its own server's configured endpoint, nowhere else.

A server that was only found (no endpoint configured) gets no key: whoever listens on that port first would have it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from tasks.logs import event
from tasks.settings import Settings
from tasks.settings_values import OFF
from worker.backends.external.product import ProductName

_LOG = logging.getLogger("pendra.discovery")


@dataclass(frozen=True, slots=True)
class Login:
    """A key, and the endpoint that may have it."""

    place: httpx.URL
    key: SecretStr = field(repr=False)

    def opens(self, url: httpx.URL) -> bool:
        """Whether the URL is under the endpoint: the same scheme, host and port, and its path or one below. Pure."""
        same = (url.scheme, url.host, url.port) == (self.place.scheme, self.place.host, self.place.port)
        return same and f"{url.path}/".startswith(f"{self.place.path.rstrip('/')}/")


def logins_of(settings: Settings) -> tuple[Login, ...]:
    """The keys that have a place to go to. One without is told in the log, by name."""
    made = []
    for name in ProductName:
        key: SecretStr | None = getattr(settings, f"{name}_api_key")
        endpoint: str = getattr(settings, f"{name}_endpoint")
        if key is not None and endpoint not in {"", OFF}:
            made.append(Login(httpx.URL(endpoint), key))
        elif key is not None and not endpoint:
            event(_LOG, logging.WARNING, "backend.key_unused", product=name, needs=f"{name.upper()}_ENDPOINT")
    return tuple(made)


def key_for(url: httpx.URL, logins: Iterable[Login]) -> SecretStr | None:
    """The key for this URL: of endpoints that are under one another, the longest has its say. Pure."""
    fitting = [login for login in logins if login.opens(url)]
    return max(fitting, key=lambda login: len(login.place.path)).key if fitting else None


def with_key(logins: tuple[Login, ...]) -> Callable[[httpx.Request], Awaitable[None]]:
    """A request hook for an httpx client. It comes after the user and password that a URL may hold, and wins."""

    async def add(request: httpx.Request) -> None:
        if (key := key_for(request.url, logins)) is not None:
            request.headers["Authorization"] = f"Bearer {key.get_secret_value()}"

    return add


def without_key(body: bytes, response: httpx.Response) -> bytes:
    """What the server says, without the key that its request had: some quote the one that they refuse. Pure."""
    try:
        kind, _, key = response.request.headers.get("authorization", "").partition(" ")
    except RuntimeError:  # made by hand, without a request
        return body
    return body.replace(key.encode(), b"***") if kind == "Bearer" and key else body
