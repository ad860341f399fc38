"""Clients of a fleet that is being broken: each asks for a text it knows and looks at every token that comes.

Some read slowly, some leave in the middle, some want the reply in one piece. What is refused before it was taken
(429, 503) is asked again, as the official clients do; what went wrong later is a broken promise.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from tests.chaos.cluster import MODEL
from tests.fakes.counting_llama import COUNT, prompt, reply

PATIENCE_S = 90.0
_REFUSED = (429, 503)


class Manner(StrEnum):
    """How a client takes its reply."""

    STREAM = "stream"
    SLOW = "slow"  # reads a little, then looks away
    WHOLE = "whole"  # not streamed
    LEAVES = "leaves"  # goes away in the middle


@dataclass(frozen=True, slots=True)
class Wish:
    """What one client asks for. `leaves_after`: chunks."""

    start: int
    tokens: int
    manner: Manner
    leaves_after: int = 0

    @property
    def text(self) -> str:
        return reply(self.start, self.tokens)

    @property
    def body(self) -> dict[str, Any]:
        return {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt(self.start)}],
            "temperature": 0,
            "max_tokens": self.tokens,
            "stream": self.manner is not Manner.WHOLE,
        }


def wishes(rng: random.Random, *, longest: int = 160, leaving: float = 0.3) -> Wish:
    """The next client's: of all, `leaving` go away early."""
    tokens = rng.randint(1, longest)
    draw = rng.random()
    if draw < leaving:
        return Wish(rng.randrange(COUNT), tokens, Manner.LEAVES, leaves_after=rng.randrange(tokens))
    manner = Manner.SLOW if draw < leaving + 0.1 else Manner.WHOLE if draw < leaving + 0.2 else Manner.STREAM
    return Wish(rng.randrange(COUNT), tokens, manner)


@dataclass(slots=True, eq=False)
class Reading:
    """One request while it is under way, and what came of it. Times are monotonic seconds."""

    wish: Wish
    asked: float
    times: list[float] = field(default_factory=list)
    text: str = ""
    finishes: int = 0
    ends: int = 0
    usages: list[int] = field(default_factory=list)
    wrong: str = ""
    request_id: str = ""
    over: bool = False

    def take(self, line: str) -> None:
        """One line of a stream."""
        if line == "data: [DONE]":
            self.ends += 1
        elif line.startswith("data: "):
            self._chunk(json.loads(line[len("data: ") :]))

    def _chunk(self, data: dict[str, Any]) -> None:
        if "error" in data:
            self.wrong = f"error in band: {data['error'].get('code')}: {data['error'].get('message')}"
            return
        self.times.append(time.monotonic())
        for choice in data["choices"]:
            self.text += choice["delta"].get("content") or ""
            self.finishes += choice["finish_reason"] is not None
        if data.get("usage"):
            self.usages.append(data["usage"]["completion_tokens"])

    def judge(self) -> None:
        """The reply is complete: say what is wrong with it, if anything."""
        wish = self.wish
        if self.wrong:
            return
        if self.text != wish.text:
            self.wrong = f"the text is not the one that was asked for: {_difference(self.text, wish)}"
        elif (self.finishes, self.ends) != (1, 1):
            self.wrong = f"{self.finishes} finish reasons and {self.ends} ends"
        elif self.usages not in ([], [wish.tokens]):
            self.wrong = f"usage {self.usages} for {wish.tokens} tokens"


def _difference(text: str, wish: Wish) -> str:
    """Where the text leaves the known one, in numbers."""
    wanted = wish.text
    at = next((i for i, (a, b) in enumerate(zip(text, wanted, strict=False)) if a != b), min(len(text), len(wanted)))
    said = [(ord(c) - ord(reply(wish.start, 1))) % COUNT for c in text[at : at + 5]]
    return f"{len(text)} of {len(wanted)} tokens; at {at} came {said}"


class Readers:
    """Keeps `count` clients busy until `stop`; `readings` are all there were."""

    def __init__(self, url: str, key: str, rng: random.Random, *, count: int, longest: int = 160) -> None:
        self._rng = rng
        self._longest = longest
        self._stopping = False
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=PATIENCE_S,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
        self.readings: list[Reading] = []
        self.refused: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._keep_asking()) for _ in range(count)]

    @property
    def open(self) -> list[Reading]:
        return [reading for reading in self.readings[-4 * len(self._tasks) :] if not reading.over]

    async def until(self, look: Callable[[], Any], timeout_s: float) -> Any:
        """The first truthy value of `look`, asked whenever something came; None when time runs out."""
        deadline = time.monotonic() + timeout_s
        while not (found := look()):
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return None
        return found

    async def stop(self) -> None:
        """No new requests; returns when all that run are over. Raises what a client raised."""
        self._stopping = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self._http.aclose()

    async def ask(self, wish: Wish) -> Reading:
        """One request of its own, to its end."""
        while True:
            reading = Reading(wish, time.monotonic())
            self.readings.append(reading)
            self._changed.set()
            try:
                if await self._answered(reading):
                    return reading
            except (httpx.HTTPError, OSError) as exc:
                reading.wrong = f"{type(exc).__name__}: {exc}"
                return reading
            finally:
                reading.over = True
            self.readings.remove(reading)
            await asyncio.sleep(0.2)

    async def _keep_asking(self) -> None:
        while not self._stopping:
            await self.ask(wishes(self._rng, longest=self._longest))

    async def _answered(self, reading: Reading) -> bool:
        """False: it was refused, and is to be asked again."""
        async with self._http.stream("POST", "/v1/chat/completions", json=reading.wish.body) as response:
            reading.request_id = response.headers.get("x-request-id", "")
            if response.status_code != httpx.codes.OK:
                return await self._refused(reading, response)
            if reading.wish.manner is Manner.WHOLE:
                self._whole(reading, await response.aread())
                return True
            return await self._streamed(reading, response)

    async def _refused(self, reading: Reading, response: httpx.Response) -> bool:
        code = json.loads(await response.aread())["error"].get("code")
        if response.status_code in _REFUSED:
            self.refused[code] += 1
            return False
        reading.wrong = f"{response.status_code} {code}"
        return True

    def _whole(self, reading: Reading, data: bytes) -> None:
        answer = json.loads(data)
        if "error" in answer:
            reading.wrong = f"error: {answer['error'].get('code')}"
            return
        (choice,) = answer["choices"]
        reading.text = choice["message"]["content"]
        reading.finishes = reading.ends = 1
        reading.usages = [answer["usage"]["completion_tokens"]]
        reading.judge()

    async def _streamed(self, reading: Reading, response: httpx.Response) -> bool:
        wish = reading.wish
        async for line in response.aiter_lines():
            reading.take(line)
            self._changed.set()
            if wish.manner is Manner.LEAVES and len(reading.times) > wish.leaves_after:
                return True
            if wish.manner is Manner.SLOW and len(reading.times) % 50 == 49:
                await asyncio.sleep(1.0)
        reading.judge()
        return True
