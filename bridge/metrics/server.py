"""The metrics port: `GET /metrics`, in the text format or OpenMetrics, as the scraper asks.

Prometheus' own HTTP server answers on threads of its own. The state belongs to the event loop, so a scrape asks the
loop for a look at it (copies, well under a millisecond) and writes the text on its thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from bridge.metrics.families import Look, bridge_families, job_families, look
from bridge.metrics.picture import Picture
from bridge.metrics.tally import Tally
from bridge.metrics.workers import worker_families
from tasks.logs import event

log = logging.getLogger("pendra.bridge.metrics")

LOOK_S = 5.0  # less than a scraper waits; a loop that is stuck for so long is worth an empty answer
AGAIN_S = 10.0


class FleetCollector(Collector):
    """`look` is called on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, look_now: Callable[[], Look]) -> None:
        self._loop = loop
        self._look_now = look_now

    def collect(self) -> Iterator[Metric]:
        """On any thread but the loop's. Nothing when the loop does not answer: the bridge's own numbers are stale."""
        try:
            seen = asyncio.run_coroutine_threadsafe(self._look(), self._loop).result(LOOK_S)
        except (FutureTimeoutError, RuntimeError):
            event(log, logging.WARNING, "metrics.no_look")
            return
        yield from bridge_families(seen)
        yield from job_families(seen)
        yield from worker_families(seen)

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the loop that is registering."""
        return iter(())

    async def _look(self) -> Look:
        return self._look_now()


class Watched(Protocol):
    """What is needed of the session's `readings`."""

    def picture(self, now: float) -> Picture: ...
    def serves(self, model: str) -> bool: ...


class MetricsServer:
    """Serves from `run` until that is cancelled. `tally` is the session's hook."""

    def __init__(self, host: str, port: int, session: Watched, tally: Tally, version: str) -> None:
        self._host, self._port = host, port
        self._session, self._tally, self._version = session, tally, version
        tally.served = session.serves
        self.bound: asyncio.Future[int] | None = None
        """The port, once it is bound (made by `run`)."""

    async def run(self) -> None:
        """A port that is taken is tried again, and told: requests matter more than being watched."""
        loop = asyncio.get_running_loop()
        self.bound = loop.create_future()
        registry = CollectorRegistry()
        registry.register(FleetCollector(loop, self._look))
        ProcessCollector(registry=registry)
        server, thread = await self._listen(registry)
        port = server.server_port
        self.bound.set_result(port)
        event(log, logging.INFO, "metrics.serving", host=self._host, port=port)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(_close, server, thread)

    async def _listen(self, registry: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
        while True:
            try:
                return await asyncio.to_thread(start_http_server, self._port, self._host, registry)
            except (OSError, UnicodeError) as exc:  # UnicodeError: a host that is no name at all
                why = getattr(exc, "strerror", None) or type(exc).__name__
                event(log, logging.ERROR, "metrics.not_serving", host=self._host, port=self._port, why=why)
                await asyncio.sleep(AGAIN_S)

    def _look(self) -> Look:
        return look(self._session.picture(time.monotonic()), self._tally.counts, self._tally.model, self._version)


def _close(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
