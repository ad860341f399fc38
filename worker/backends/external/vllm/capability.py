"""Whether a vLLM server chats or embeds. It runs one task, and does not list it.

Current versions only have the routes of their task, which the OpenAPI document tells. Older ones (before 0.13), and
those started with `--disable-fastapi-docs`, are asked for a chat without messages: one that cannot chat says so
before it looks at the messages, one that can refuses them. Neither costs it work.
"""

from __future__ import annotations

import asyncio

import httpx

from tasks.contract import JsonObject
from worker.backends.external.faults import message_of
from worker.backends.external.probing import LOOK_S, look
from worker.backends.external.product import NotFoundHere

CHAT, EMBEDDING, RERANK = "chat", "embedding", "rerank"
_CHATS = "/v1/chat/completions"
_EMBEDS = "/v1/embeddings"
_NO_ROUTE = 404
_NOT_IMPLEMENTED = 501


async def capability(http: httpx.AsyncClient, url: str, name: str) -> str:
    """`chat` or `embedding`. A server that will not tell is taken for one that chats, as most do."""
    try:
        document = await look(http, url, "/openapi.json")
    except NotFoundHere:
        return await _asked(http, url, name)
    return told(document) or await _asked(http, url, name)


def told(document: JsonObject) -> str | None:
    """Pure. What the routes say; None when both or neither are there."""
    paths = document.get("paths")
    chats, embeds = (isinstance(paths, dict) and path in paths for path in (_CHATS, _EMBEDS))
    if chats == embeds:
        return None
    return CHAT if chats else EMBEDDING


async def _asked(http: httpx.AsyncClient, url: str, name: str) -> str:
    body = {"model": name, "messages": [], "max_tokens": 1}
    try:
        async with asyncio.timeout(LOOK_S):
            response = await http.post(url + _CHATS, json=body, follow_redirects=False)
    except (TimeoutError, httpx.HTTPError):
        return CHAT
    refused = "does not support chat" in message_of(response.content).lower()
    absent = response.status_code in (_NO_ROUTE, _NOT_IMPLEMENTED)
    return EMBEDDING if refused or absent else CHAT
