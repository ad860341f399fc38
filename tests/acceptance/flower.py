"""`pendra flower` beside a running stack: a real process, asked over HTTP as a browser or a script would."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.acceptance.stack import Stack, eventually, free_port
from tests.fakes.waiting import PATIENCE_S

_AUTH = ("ops", "hush")


@dataclass(frozen=True)
class Flower:
    """What Flower says."""

    client: httpx.Client

    def workers(self) -> dict[str, bool]:
        """Name → whether it is online, as the page of workers shows it from their events."""
        rows: list[dict[str, Any]] = self.client.get("/workers", params={"json": 1}).raise_for_status().json()["data"]
        return {row["hostname"]: row["status"] for row in rows}

    def online(self) -> dict[str, bool]:
        """The same, as the API says it to scripts."""
        return dict(self.client.get("/api/workers", params={"status": 1}).raise_for_status().json())

    def inspected(self, name: str) -> dict[str, Any]:
        """What the worker itself answers when Flower asks it."""
        found = self.client.get("/api/workers", params={"refresh": 1, "workername": name})
        return dict(found.raise_for_status().json()[name])

    def page(self, name: str) -> str:
        """The worker's own page."""
        return self.client.get(f"/worker/{name}").raise_for_status().text


@contextlib.contextmanager
def flower_of(stack: Stack) -> Iterator[Flower]:
    """Flower on the stack's Redis, from its first answer on until the end of the block."""
    port = free_port()
    env = stack.env() | {"FLOWER_BASIC_AUTH": ":".join(_AUTH), "PENDRA_REDIS_URL": stack.status_url()}
    argv = [sys.executable, "-m", "ops.cli", "flower", "--port", str(port), "--logging=warning"]
    log = stack.home / "flower.out"
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base, auth=_AUTH, timeout=PATIENCE_S, trust_env=False) as client:
            assert eventually(lambda: process.poll() is None and _answers(client), 60, 0.1), log.read_text()
            yield Flower(client)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return client.get("/healthcheck").status_code == 200
    return False
