"""Embeddings a second, the whole stack against llama-server: `python -m bench.embeddings --llama-server BINARY`.

all-MiniLM-L6-v2 in F16, texts of about 30 tokens, several clients with several texts a request. They take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from statistics import median

import httpx

from bench.client import Target
from bench.prompts import TOPICS
from bench.servers import Size, llama_server, stack
from tests.fakes.minilm import minilm_gguf


def texts(count: int, start: int) -> list[str]:
    return [
        f"Note {start + n}: people who like {TOPICS[n % 32]} often also like {TOPICS[(n * 3 + 1) % 32]}, and on most "
        f"days they would rather talk about {TOPICS[(n * 5 + 2) % 32]} than about anything else at all."
        for n in range(count)
    ]


async def _client(http: httpx.AsyncClient, target: Target, requests: int, per: int, first: int) -> None:
    for number in range(requests):
        asked = {"model": target.model, "input": texts(per, first + number * per), "encoding_format": "base64"}
        answer = await http.post(f"{target.url}/embeddings", json=asked)
        answer.raise_for_status()
        assert len(answer.json()["data"]) == per


async def round_of(target: Target, clients: int, requests: int, per: int) -> float:
    """Texts a second."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {target.key}"}, timeout=120) as http:
        started = time.perf_counter()
        await asyncio.gather(*(_client(http, target, requests, per, 1000 * n) for n in range(clients)))
        return clients * requests * per / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--shapes", type=int, nargs="+", default=[1, 16], help="texts a request")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--llama-server", metavar="BINARY", required=True)
    args = parser.parse_args()
    size = Size(8, 512, args.threads)
    path = minilm_gguf()
    seen: dict[tuple[str, int], list[float]] = {}
    with (
        stack(path, size) as ours,
        llama_server(args.llama_server, path, size, "--embedding", "-b", "4096", "-ub", "4096") as theirs,
    ):
        targets = {"stack": ours, "llama-server": theirs}
        for target in targets.values():
            asyncio.run(round_of(target, args.clients, 1, 1))
        for _ in range(args.rounds):
            for per in args.shapes:
                for name, target in targets.items():
                    speed = asyncio.run(round_of(target, args.clients, args.requests, per))
                    seen.setdefault((name, per), []).append(speed)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {args.threads} threads, {args.clients} clients")
    print("| texts a request | stack /s | llama-server /s | ratio |\n|---|---|---|---|")
    for per in args.shapes:
        a, b = seen["stack", per], seen["llama-server", per]
        ratio = median(x / y for x, y in zip(a, b, strict=True))
        print(f"| {per} | {median(a):.1f} | {median(b):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
