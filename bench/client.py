"""A small load generator for any OpenAI-shaped server: asyncio sockets, almost no work per token."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Sample:
    """One streamed request: seconds to its first token, to its last, and completion tokens by `usage`."""

    ttft: float
    total: float
    tokens: int


@dataclass(frozen=True)
class Load:
    """One round of `concurrent` requests started together."""

    concurrent: int
    seconds: float
    samples: tuple[Sample, ...]

    @property
    def tokens_per_second(self) -> float:
        return sum(s.tokens for s in self.samples) / self.seconds

    @property
    def ttft_ms(self) -> float:
        return 1000 * median(s.ttft for s in self.samples)


def body(prompt: str, model: str, tokens: int) -> dict[str, object]:
    """The same work for every server: fixed length, no cache, greedy."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "min_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "cache_prompt": False,
    }


async def _request(url: str, key: str, payload: bytes) -> Sample:
    parts = urlsplit(url)
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + payload)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"{status.decode().strip()}: {(await reader.read(2000)).decode(errors='replace')}")
    first, tokens = 0.0, 0
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        if not first and b'"content":"' in line.replace(b'": "', b'":"').replace(b'"content":""', b""):
            first = time.perf_counter() - started
        if b'"usage":{' in line.replace(b'": {', b'":{'):
            tokens = json.loads(line[6:])["usage"]["completion_tokens"]
    writer.close()
    return Sample(first, time.perf_counter() - started, tokens)


async def _round(url: str, key: str, payloads: list[bytes]) -> Load:
    started = time.perf_counter()
    samples = await asyncio.gather(*(_request(url, key, p) for p in payloads))
    return Load(len(payloads), time.perf_counter() - started, tuple(samples))


def run(url: str, key: str, model: str, prompts: list[str], tokens: int) -> Load:
    """Stream all `prompts` at once from the OpenAI base URL `url`; raises RuntimeError on any non-200."""
    payloads = [json.dumps(body(p, model, tokens)).encode() for p in prompts]
    return asyncio.run(_round(url, key, payloads))
