"""A small load generator for any OpenAI-shaped server: asyncio sockets, almost no work per token."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from bench.load import Ask, Load, Sample, Series


@dataclass(frozen=True)
class Target:
    """An OpenAI base URL (`http://host:port/v1`), its key, and the model to ask."""

    url: str
    key: str
    model: str


def body(ask: Ask, model: str) -> dict[str, Any]:
    """The same work for every server: fixed length, no cache, greedy."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "max_tokens": ask.tokens,
        "min_tokens": ask.tokens,
        "ignore_eos": True,
        "temperature": 0,
        "cache_prompt": False,
    }


def run(target: Target, series: list[Series]) -> Load:
    """All clients at once, each one request after the other; raises RuntimeError on any answer but 200."""
    payloads = [[body(ask, target.model) for ask in asks] for asks in series]
    return asyncio.run(_round(target, payloads))


def stream_one(target: Target, payload: dict[str, Any]) -> tuple[Sample, str]:
    """One request of your own making, and the text of its reply."""
    clock = _Clock()
    asyncio.run(_request(target, payload, clock))
    return clock.sample(), clock.text


async def _round(target: Target, payloads: list[list[dict[str, Any]]]) -> Load:
    started = time.perf_counter()
    samples = await asyncio.gather(*(_client(target, mine) for mine in payloads))
    return Load(len(payloads), time.perf_counter() - started, tuple(s for mine in samples for s in mine))


async def _client(target: Target, payloads: list[dict[str, Any]]) -> list[Sample]:
    samples = []
    for payload in payloads:
        clock = _Clock()
        await _request(target, payload, clock)
        samples.append(clock.sample())
    return samples


@dataclass
class _Clock:
    """Notes when texts come. Lines are told apart by their bytes; JSON is read afterwards."""

    started: float = field(default_factory=time.perf_counter)
    times: list[float] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    ended: float = 0.0

    def line(self, line: bytes) -> None:
        self.times.append(time.perf_counter())
        self.lines.append(line)

    def sample(self) -> Sample:
        chunks = [json.loads(line[6:]) for line in self.lines]
        shown = [at for at, chunk in zip(self.times, chunks, strict=True) if _text(chunk)]
        usage = next((c["usage"] for c in reversed(chunks) if c.get("usage")), {"completion_tokens": len(shown)})
        gaps = tuple(b - a for a, b in pairwise(shown))
        return Sample(shown[0] - self.started, self.ended - self.started, usage["completion_tokens"], gaps)

    @property
    def text(self) -> str:
        return "".join(_text(json.loads(line[6:])) for line in self.lines)


def _text(chunk: dict[str, Any]) -> str:
    if "error" in chunk:
        raise RuntimeError(str(chunk["error"]))
    return "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", ()))


async def _request(target: Target, payload: dict[str, Any], clock: _Clock) -> None:
    data = json.dumps(payload | {"stream": True, "stream_options": {"include_usage": True}}).encode()
    parts = urlsplit(target.url)
    clock.started = time.perf_counter()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {target.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + data)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"{status.decode().strip()}: {(await reader.read(2000)).decode(errors='replace')}")
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            clock.line(line)
    clock.ended = time.perf_counter()
    writer.close()
