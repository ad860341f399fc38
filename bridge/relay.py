"""Events and heartbeats from Redis: one subscription, and the replay stream for what pub/sub lost.

Pub/sub loses silently, so this side listens for the signs: a second `subscribe` confirmation (the library
reconnected), a ping of our own that does not come back, a hole in a job's seq (the session notices). Each leads to
reading the replay stream again from the last place known to be safe; the session drops what it has already.

The safe place: with every ping the newest id of the stream is noted. When ping n is back, everything up to the id
noted with ping n-4 (LOST_S earlier) had been published before it, and so was received.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import Any, Protocol, cast

import redis
import redis.asyncio as aredis

from bridge.fleet import Gone, decode_fleet
from tasks import keys
from tasks.cancelling import ended
from tasks.contract import WorkerInfo
from tasks.logs import event
from tasks.redis_client import retryable

log = logging.getLogger("pendra.bridge.relay")

PING_S = 0.5
LOST_S = 2.0  # a ping that is not back by then
PAGE = 200
_BACKLOG = round(LOST_S / PING_S)
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_PING = b"ping:"  # no event batch begins like this: MessagePack arrays start at 0x90
_START = b"0-0"


class Sink(Protocol):
    """Where it all goes; called on the event loop."""

    def batch(self, data: bytes) -> None: ...
    def fleet_news(self, news: WorkerInfo | Gone) -> None: ...
    def pong(self) -> None: ...
    def redis_lost(self) -> None: ...
    def redis_back(self, *, data_lost: bool) -> None: ...
    def heal_started(self) -> None: ...
    def healed(self, *, full: bool) -> None: ...


class SubscriptionLostError(redis.ConnectionError):
    """Nothing is wrong that the library noticed, but messages may have been lost."""


class Relay:
    """Runs until cancelled; survives every failure of Redis. `subscribed` is set while messages can arrive."""

    def __init__(self, client: aredis.Redis, bridge_id: str, sink: Sink) -> None:
        self._client = client
        self._sink = sink
        self._channel = keys.events(bridge_id).encode()
        self._fleet = keys.FLEET.encode()
        self._stream = keys.replay(bridge_id)
        self._run_id: str | None = None
        self._noted: deque[tuple[int, bytes]] = deque()
        self._pings = self._pongs = 0
        self._ping_mark = _PING + secrets.token_hex(4).encode() + b":"
        self._safe = _START
        self._heal_wanted = asyncio.Event()
        self._heal_full = False
        self.subscribed = asyncio.Event()

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                await self._session()
            except (redis.RedisError, OSError) as exc:
                failures = 0 if self.subscribed.is_set() else failures + 1
                self.subscribed.clear()
                self._sink.redis_lost()
                level = logging.WARNING if retryable(exc) else logging.ERROR
                event(log, level, "relay.lost", error=type(exc).__name__, failures=failures)
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])

    def heal(self, *, full: bool) -> None:
        """Read the replay stream again, soon."""
        self._heal_full = self._heal_full or full
        self._heal_wanted.set()

    # ---------------------------------------------------------------- one subscription

    async def _session(self) -> None:
        """Until the connection or its health is lost. Raises redis.RedisError or OSError."""
        self._noted.clear()
        self._pongs = self._pings
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(self._channel, self._fleet)
            tasks = [asyncio.ensure_future(work) for work in (self._listen(pubsub), self._ping(), self._heal())]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                await ended(*tasks)

    async def _listen(self, pubsub: aredis.client.PubSub) -> None:
        confirmed = False
        async for message in pubsub.listen():
            if message["type"] == "message":
                self._message(message["channel"], message["data"])
            elif message["type"] == "subscribe" and message["channel"] == self._channel:
                if confirmed:
                    raise SubscriptionLostError("subscribed anew behind our back")
                confirmed = True
                await self._begin()

    async def _begin(self) -> None:
        """The subscription stands: learn what there is, then read what we may have missed."""
        info = await self._client.info("server")
        run_id, known = str(info["run_id"]), self._run_id
        self._run_id = run_id
        data_lost = known is not None and known != run_id
        if data_lost:
            self._safe = _START
        await self._read_fleet()
        self.subscribed.set()
        self._sink.redis_back(data_lost=data_lost)
        event(log, logging.INFO, "relay.subscribed", data_lost=data_lost)
        if known is not None:
            self.heal(full=False)

    async def _read_fleet(self) -> None:
        """The workers that beat before we listened. Their leases say whether they still live."""
        rows = cast("dict[bytes, bytes]", await self._client.hgetall(keys.WORKERS))
        found = [info for info in map(decode_fleet, rows.values()) if isinstance(info, WorkerInfo)]
        if not found:
            return
        leases = await self._client.mget([keys.worker_lease(info.worker_id) for info in found])
        epochs = cast("list[bytes | None]", leases)
        for info, epoch in zip(found, epochs, strict=True):
            if epoch is not None and epoch.decode() == info.epoch:
                self._sink.fleet_news(info)

    def _message(self, channel: bytes, data: bytes) -> None:
        if channel == self._fleet:
            news = decode_fleet(data)
            if news is not None:
                self._sink.fleet_news(news)
        elif data.startswith(self._ping_mark):
            self._pong(int(data[len(self._ping_mark) :]))
        elif data.startswith(_PING):
            pass  # a successor's that waits for its turn, or a predecessor's
        else:
            self._sink.batch(data)

    # ---------------------------------------------------------------- health

    async def _ping(self) -> None:
        """Raises SubscriptionLostError when a ping is not back after LOST_S."""
        await self.subscribed.wait()
        while True:
            self._pings += 1
            newest = await self._newest()
            self._noted.append((self._pings, newest))
            await self._client.publish(self._channel, self._ping_mark + b"%d" % self._pings)
            await asyncio.sleep(PING_S)
            if self._pings - self._pongs >= _BACKLOG:
                raise SubscriptionLostError("our own pings do not come back")

    async def _newest(self) -> bytes:
        rows = cast("list[tuple[bytes, Any]]", await self._client.xrevrange(self._stream, count=1))
        return rows[0][0] if rows else _START

    def _pong(self, number: int) -> None:
        self._pongs = number
        self._sink.pong()
        while len(self._noted) > _BACKLOG and self._noted[_BACKLOG][0] <= number:
            self._safe = max(self._safe, self._noted.popleft()[1], key=_order)

    # ---------------------------------------------------------------- healing

    async def _heal(self) -> None:
        while True:
            await self._heal_wanted.wait()
            await self.subscribed.wait()
            full, self._heal_full = self._heal_full, False
            self._heal_wanted.clear()
            try:
                await self._read_stream(_START if full else self._safe)
            except (redis.RedisError, OSError):
                self.heal(full=full)  # the next subscription goes on with it
                raise
            self._sink.healed(full=full)

    async def _read_stream(self, start: bytes) -> None:
        """Feed every batch later than `start` to the sink."""
        self._sink.heal_started()
        last, batches = start, 0
        while True:
            page = await self._client.xrange(self._stream, min=b"(" + last, count=PAGE)
            rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", page)
            for _, fields in rows:
                self._sink.batch(fields.get(b"b", b""))
            batches += len(rows)
            if len(rows) < PAGE:
                event(log, logging.INFO, "relay.healed", batches=batches)
                return
            last = rows[-1][0]


def _order(stream_id: bytes) -> tuple[int, int]:
    time, _, number = stream_id.partition(b"-")
    return int(time), int(number)
