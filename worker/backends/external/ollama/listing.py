"""The models of an Ollama server, with all it says of each: `GET /api/tags`, then `POST /api/show`, `GET /api/ps`.

What `show` says hangs on the model's digest alone, so it is asked once a digest. Models that the server only forwards
to another host (Ollama's cloud) are left out: a fleet's prompts stay where they were sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

from tasks.contract import JsonObject, ModelInfo
from worker.backends.external.probing import look, seen
from worker.backends.external.product import Found, NotFoundHere, ProductName, Served

MOST_SHOWS = 5
_SHOW_S = 10.0
_FEATURES = ("vision", "tools", "thinking")
_IMAGES_PATH = "/v1/images/generations"
_NOT_FOUND = 404


class Listing:
    """Remembers what `show` said, by digest, for as long as some tag has that digest. One event loop."""

    def __init__(self) -> None:
        self._shown: dict[str, JsonObject] = {}
        self._draws: dict[tuple[str, str], bool] = {}

    async def models(self, http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
        """Raises NotFoundHere when the server does not list its models."""
        tags = [
            tag for tag in tags_of(await look(http, found.url, "/api/tags", within_s=_SHOW_S)) if not _remote(tag)
        ]
        await self._learn(http, found, tags)
        loaded = await _loaded(http, found)
        made = [served(tag, self._shown.get(_digest(tag), {}), loaded) for tag in tags]
        if any(one is not None and one.info.capability == "image" for one in made):
            draws = await self._can_draw(http, found)
            made = [one for one in made if one is None or draws or one.info.capability != "image"]
        return tuple(one for one in made if one is not None)

    async def _learn(self, http: httpx.AsyncClient, found: Found, tags: Sequence[JsonObject]) -> None:
        """Ask about the digests that are new, MOST_SHOWS at a time, and forget those that are gone.

        What was learnt stays learnt when time runs out in the middle: the next look goes on from there.
        """
        names = {_digest(tag): str(tag["name"]) for tag in tags}
        self._shown = {digest: shown for digest, shown in self._shown.items() if digest in names}
        gate = asyncio.Semaphore(MOST_SHOWS)
        new = [(digest, name) for digest, name in names.items() if digest not in self._shown]
        await asyncio.gather(*(self._ask(http, found, digest, name, gate) for digest, name in new))

    async def _ask(
        self, http: httpx.AsyncClient, found: Found, digest: str, name: str, gate: asyncio.Semaphore
    ) -> None:
        async with gate:
            shown = await _show(http, found, name)
        if shown is not None:
            self._shown[digest] = shown

    async def _can_draw(self, http: httpx.AsyncClient, found: Found) -> bool:
        """Whether this version makes images: it could from 0.14.3 to 0.32.5, and the route came and went with that.

        An empty request is refused (400) where the route is, not found (404) where it is not. Asked once a version.
        """
        key = (found.url, found.version)
        if key not in self._draws:
            try:
                answer = await http.post(found.url + _IMAGES_PATH, json={}, timeout=_SHOW_S)
            except httpx.HTTPError:
                return False
            self._draws = {**self._draws, key: answer.status_code != _NOT_FOUND}
        return self._draws[key]


def tags_of(said: JsonObject) -> list[JsonObject]:
    """The entries of `/api/tags`. Raises NotFoundHere when it is not shaped like Ollama's."""
    tags = said.get("models")
    if tags is None and "models" in said:
        return []  # Go's empty list
    if not isinstance(tags, list) or not all(
        isinstance(tag, dict) and isinstance(tag.get("name"), str) for tag in tags
    ):
        raise NotFoundHere("GET /api/tags answered JSON that is not Ollama's")
    return tags


def served(tag: JsonObject, shown: JsonObject, loaded: frozenset[str]) -> Served | None:
    """One model. None when it does nothing that we offer. Pure."""
    details = {**_object(tag.get("details")), **_object(shown.get("details"))}
    facts = _object(shown.get("model_info"))
    capabilities = _words(shown.get("capabilities")) or _words(tag.get("capabilities"))
    capability = _capability(capabilities, details, facts)
    if capability is None:
        return None
    name = str(tag["name"])
    info = ModelInfo(
        id=name,
        capability=capability,
        backend=ProductName.OLLAMA,
        context_length=_context_length(facts, details),
        parameter_size=_text(details.get("parameter_size")),
        quantisation=_text(details.get("quantization_level")),
        family=_text(details.get("family")),
        size_bytes=tag.get("size") if isinstance(tag.get("size"), int) else None,
        loaded=name in loaded,
        features=tuple(word for word in _FEATURES if word in capabilities) if capabilities else None,
    )
    return Served(info, name, {"digest": _digest(tag), "format": _text(details.get("format")) or ""})


def _capability(capabilities: Sequence[str], details: JsonObject, facts: JsonObject) -> str | None:
    """Servers before 0.6.4 do not say; there, models that pool are for embeddings."""
    if not capabilities:
        arch = str(facts.get("general.architecture") or details.get("family") or "")
        return "embedding" if f"{arch}.pooling_type" in facts or "bert" in arch else "chat"
    if "completion" in capabilities:
        return "chat"
    if "embedding" in capabilities:
        return "embedding"
    return "image" if "image" in capabilities else None


def _context_length(facts: JsonObject, details: JsonObject) -> int | None:
    length = facts.get(f"{facts.get('general.architecture')}.context_length") or details.get("context_length")
    return length if isinstance(length, int) and length > 0 else None


async def _show(http: httpx.AsyncClient, found: Found, name: str) -> JsonObject | None:
    """None when the server did not say; it is asked again at the next look."""
    try:
        response = await http.post(f"{found.url}/api/show", json={"model": name}, timeout=_SHOW_S)
        return seen(response, "/api/show")
    except (httpx.HTTPError, NotFoundHere):
        return None


async def _loaded(http: httpx.AsyncClient, found: Found) -> frozenset[str]:
    """The models in memory; none when the server does not say."""
    with suppress(NotFoundHere):
        running = (await look(http, found.url, "/api/ps")).get("models")
        if isinstance(running, list):
            return frozenset(str(one.get("name")) for one in running if isinstance(one, dict))
    return frozenset()


def _remote(tag: JsonObject) -> bool:
    return bool(tag.get("remote_host") or tag.get("remote_model"))


def _digest(tag: JsonObject) -> str:
    return str(tag.get("digest") or tag["name"])


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(word) for word in value) if isinstance(value, list) else ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
