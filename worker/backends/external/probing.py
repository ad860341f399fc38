"""Looking at an address: a JSON object, or in words for an operator what is there instead."""

from __future__ import annotations

import asyncio
import json

import httpx

from tasks.contract import JsonObject
from worker.backends.external.faults import message_of
from worker.backends.external.logins import without_key
from worker.backends.external.product import NotFoundHere
from worker.backends.external.upstream import reason

LOOK_S = 2.0
_MOST = 8 * 1024 * 1024
_GOOD = range(200, 300)


async def look(http: httpx.AsyncClient, url: str, path: str, *, within_s: float = LOOK_S) -> JsonObject:
    """GET a JSON object. Raises NotFoundHere: who did not answer, or what was found there."""
    try:
        async with asyncio.timeout(within_s):
            response = await http.get(url + path, follow_redirects=False)
    except TimeoutError:
        raise NotFoundHere(f"no answer to GET {path} within {within_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise NotFoundHere(_words(exc)) from exc
    return seen(response, path)


def seen(response: httpx.Response, path: str) -> JsonObject:
    """Pure. The JSON object of a good answer; raises NotFoundHere for all else."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.status_code not in _GOOD:
        says = message_of(without_key(response.content[:_MOST], response))
        raise NotFoundHere(
            f"GET {path} answered HTTP {response.status_code}{_by(response)}{f': {says}' if says else ''}"
        )
    if kind == "text/html":
        raise NotFoundHere(f"GET {path} answered an HTML page{_by(response)}")
    try:
        value = json.loads(response.content)
    except ValueError:
        raise NotFoundHere(f"GET {path} answered {kind or 'something'} that is not JSON{_by(response)}") from None
    if not isinstance(value, dict):
        raise NotFoundHere(f"GET {path} answered JSON of another shape{_by(response)}")
    return value


def _by(response: httpx.Response) -> str:
    server = response.headers.get("server", "")[:40]
    return f" (server: {server})" if server.isprintable() and server else ""


def _words(exc: Exception) -> str:
    if isinstance(exc, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return "not an http:// or https:// address"
    return reason(exc)
