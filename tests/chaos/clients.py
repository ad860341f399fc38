"""A client that watches its stream closely: everything that may not be lost, doubled or changed by a failover."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.acceptance.stack import MODEL, Stack

TIMEOUT_S = 90.0
ASKS = (
    "Write a long story about a lighthouse.",
    "Explain how bread is baked, step by step.",
    "Describe the sea in winter.",
    "Write a letter to an old friend about a garden.",
)


def request(ask: str = ASKS[0], *, max_tokens: int = 200, stream: bool = True) -> dict[str, Any]:
    """The same text at every run: temperature 0, no cache that would change the shape of a batch."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": ask}],
        "temperature": 0,
        "seed": 7,
        "max_tokens": max_tokens,
        "cache_prompt": False,
        "stream": stream,
    }


@dataclass
class Watched:
    """One reply as it came in. `times` are when its chunks came (monotonic seconds)."""

    text: str = ""
    roles: int = 0
    ids: set[str] = field(default_factory=set)
    finishes: list[str] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    done: int = 0

    @property
    def longest_pause(self) -> float:
        return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)

    def take(self, line: str) -> None:
        """One line of the stream."""
        if not line.startswith("data: "):
            return
        if line == "data: [DONE]":
            self.done += 1
            return
        data = json.loads(line[len("data: ") :])
        if "error" in data:
            self.errors.append(data["error"])
            return
        self._chunk(data)

    def _chunk(self, data: dict[str, Any]) -> None:
        self.times.append(time.monotonic())
        if data.get("id"):
            self.ids.add(data["id"])
        for choice in data.get("choices", []):
            delta = choice["delta"]
            self.roles += "role" in delta
            self.text += delta.get("content") or ""
            if choice["finish_reason"]:
                self.finishes.append(choice["finish_reason"])
        if data.get("usage"):
            self.usages.append(data["usage"])
        worker = (data.get("pendra") or {}).get("worker")
        if worker:
            self.workers.append(worker["id"])


def assert_whole(seen: Watched, undisturbed: Watched) -> None:
    """The reader noticed nothing but a pause."""
    assert seen.errors == []
    assert seen.text == undisturbed.text
    assert (seen.roles, seen.done, len(seen.ids)) == (1, 1, 1)
    assert seen.finishes == undisturbed.finishes
    assert [_counts(usage) for usage in seen.usages] == [_counts(usage) for usage in undisturbed.usages]


def _counts(usage: dict[str, Any]) -> tuple[int, int]:
    """Without what a cache saved."""
    return usage["prompt_tokens"], usage["completion_tokens"]


class Client(threading.Thread):
    """Reads one stream on a thread of its own. `after(n)` blocks until n chunks are there."""

    def __init__(self, stack: Stack, body: dict[str, Any], *, leave_after: int | None = None) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._body = body
        self._leave_after = leave_after
        self._changed = threading.Condition()
        self.seen = Watched()
        self.failure: BaseException | None = None
        self.status = 0
        self.start()

    def run(self) -> None:
        try:
            self._read()
        except (httpx.HTTPError, OSError) as exc:
            self.failure = exc
        with self._changed:
            self._changed.notify_all()

    def _read(self) -> None:
        url, headers = f"{self._stack.url}/v1/chat/completions", {"Authorization": f"Bearer {self._stack.key}"}
        with httpx.stream("POST", url, json=self._body, headers=headers, timeout=TIMEOUT_S) as reply:
            self.status = reply.status_code
            for line in reply.iter_lines():
                with self._changed:
                    self.seen.take(line)
                    self._changed.notify_all()
                if self._leave_after is not None and len(self.seen.times) >= self._leave_after:
                    return

    def after(self, chunks: int) -> Watched:
        with self._changed:
            there = self._changed.wait_for(
                lambda: len(self.seen.times) >= chunks or not self.is_alive() or self.failure, TIMEOUT_S
            )
        assert there, f"{len(self.seen.times)} chunks after {TIMEOUT_S} s"
        return self.seen

    def result(self) -> Watched:
        self.join(TIMEOUT_S)
        assert not self.is_alive(), f"no end after {TIMEOUT_S} s; {len(self.seen.times)} chunks"
        assert self.failure is None, self.failure
        return self.seen
