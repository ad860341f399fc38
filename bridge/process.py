"""The parts of one bridge process, and its life: wires session, link, relay and dispatch together.

One event loop, one thread (besides the one that Celery sends in). Every shell reports to `Bridge` or its `Reports`,
which ask the session; `Bridge.apply` carries out what it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import redis

from bridge.auditing import Auditing
from bridge.backoff import Fatal
from bridge.blob_store import ReplyReader
from bridge.client import Link
from bridge.dispatch import Dispatcher
from bridge.effects import DropLink, Effect, Heal, Send, SendReply
from bridge.hooks import Hooks, Together
from bridge.identity import Identity, sign_hello
from bridge.install_watch import InstallWatch
from bridge.lease import Lease
from bridge.metrics.tally import Tally
from bridge.parcels import Parcels
from bridge.parts import limits_of, metrics_of
from bridge.protocol import ApiFrame, Challenge, Hello, Welcome
from bridge.registry import Registry
from bridge.relay import Relay
from bridge.reports import Reports
from bridge.session import Session
from bridge.traces import Traces
from tasks import keys, redis_persistence, tracing
from tasks.cancelling import ended
from tasks.celery_app import make_app
from tasks.logs import event
from tasks.redis_client import connect_async
from tasks.sealing import Opener, Sealer
from tasks.settings import Settings
from tasks.version import version

log = logging.getLogger("pendra.bridge")

TICK_S = 0.05
FIRST_REDIS_S = 5.0  # how long the first connection to the API waits for Redis, so that it hears of workers at once
TAKE_OVER_S = 10.0
REPORT_S = 1.0


class Bridge:
    """The shell around the session: implements what link, relay and dispatcher report to."""

    def __init__(self, settings: Settings, identity: Identity) -> None:
        self._settings = settings
        self._identity = identity
        self.grace_s = settings.grace_seconds
        self.bridge_id = settings.worker_id
        fleet_keys = settings.fleet_keys()
        self._fleet_keys = tuple(key.id.hex() for key in fleet_keys)
        limits, order = limits_of(settings), settings.backend_order
        tally = None if settings.metrics_port is None else Tally()
        self.audit = Auditing(settings, identity, self.send_piece)
        self.tracer = tracing.start("bridge", settings.worker_id)
        self.session = Session(
            self.bridge_id,
            Opener(*fleet_keys),
            limits=limits,
            order=order,
            hooks=self._hooks(tally),
            veto=self.audit.veto,
        )
        self.reports = Reports(self.session, self.apply)
        self.metrics = metrics_of(settings, self.session.readings, tally)
        self._client = connect_async(settings.redis_url)
        sealer = Sealer(fleet_keys[0])
        self.lease = Lease(self._client, self.bridge_id)
        app, scripts = make_app(settings.redis_url), self.lease.scripts
        self._registry = Registry(self._client, self.bridge_id, sealer, Opener(*fleet_keys), scripts)
        self.dispatcher = Dispatcher(self._client, app, sealer, self.reports, self._registry, scripts)
        self.relay = Relay(self._client, self.bridge_id, self.reports)
        self.installs = InstallWatch(self._client, self.reports)
        self.link = Link(settings.app_server_ws_url, self._hello, self, confirm=self.lease.confirm)
        self.parcels = Parcels(ReplyReader(self._client, Opener(*fleet_keys)), self)

    async def run(self, stop: asyncio.Event) -> Fatal | None:
        """Until `stop` is set (then finish within the grace), or the link fails for good."""
        await asyncio.gather(
            self.dispatcher.warm_up(), asyncio.to_thread(redis_persistence.warn, self._settings.redis_url)
        )
        shells = (self._tick(), self.lease.run(), self.relay.run(), self.installs.run(), self._report())
        workers = [asyncio.ensure_future(work) for work in shells]
        if self.metrics:
            workers.append(asyncio.ensure_future(self.metrics.run()))
        link = asyncio.ensure_future(self._linked())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([*workers, link, stopped], return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                if worker.done():
                    worker.result()
            if link.done():
                await self.lease.confirm()
                if link.result().final:
                    await self._end()
                return link.result()
            await self._finish()
            return None
        finally:
            await ended(link, stopped)
            await self._close(*workers)

    async def _linked(self) -> Fatal:
        """Dial once Redis is subscribed (what is enqueued before would have no listener) and the jobs are ours."""
        try:
            async with asyncio.timeout(FIRST_REDIS_S):
                await self.lease.answered.wait()
        except TimeoutError:
            event(log, logging.WARNING, "redis.not_there", waited_s=FIRST_REDIS_S)
            self.audit.open()
            return await self.link.run()
        await self.lease.held.wait()
        self.audit.open()
        try:
            async with asyncio.timeout(TAKE_OVER_S):
                await self._take_over()
        except (TimeoutError, redis.RedisError, OSError) as exc:
            event(log, logging.ERROR, "bridge.not_adopted", error=type(exc).__name__)
        self.apply(self.session.adopted(time.monotonic()))
        return await self.link.run()

    async def _take_over(self) -> None:
        """Go on with what a predecessor left, as far as the replay stream tells. Raises redis.RedisError."""
        await self.relay.subscribed.wait()
        self.apply(self.session.adopt_installs(await self._registry.installs(), time.monotonic()))
        left = await self._registry.read()
        if left:
            self.reports.healed_once.clear()
            self.apply(self.session.adopt(left, time.monotonic()))
            self.relay.heal(full=True)
            await self.reports.healed_once.wait()

    async def _tick(self) -> None:
        while True:
            self.apply(self.session.tick(time.monotonic()))
            await asyncio.sleep(TICK_S)

    async def _report(self) -> None:
        """Tell `pendra jobs` what is open. Lost reports are no loss."""
        while True:
            await asyncio.sleep(REPORT_S)
            if not self.lease.held.is_set():
                continue
            said = self.session.readings.overview(time.monotonic())
            text = said.model_copy(update={"version": version(), "fleet_keys": self._fleet_keys}).model_dump_json()
            with contextlib.suppress(redis.RedisError, OSError):
                await self._client.set(keys.overview(self.bridge_id), text, ex=keys.OVERVIEW_TTL_S)

    async def _finish(self) -> None:
        """SIGTERM: take nothing new, let the open jobs end, then end them."""
        self.apply(self.session.drain(time.monotonic()))
        deadline = time.monotonic() + self.grace_s
        while self._busy_before(deadline):  # noqa: ASYNC110  # a sans-I/O session sets no events
            await asyncio.sleep(TICK_S)
        await self._end()

    async def _end(self) -> None:
        """End the open jobs, on the workers too."""
        self.apply(self.session.shutdown(time.monotonic()))
        await self.audit.close()  # now, so that the last checkpoint still reaches the API
        try:
            async with asyncio.timeout(2.0):
                await asyncio.gather(self.link.flushed(), self.dispatcher.settle())
        except TimeoutError:
            event(log, logging.WARNING, "bridge.unflushed")

    def _busy_before(self, deadline: float) -> bool:
        return self.session.open_jobs > 0 and time.monotonic() < deadline

    async def _close(self, *tasks: asyncio.Task[None]) -> None:
        await ended(*tasks)
        await self.audit.close()
        self.parcels.stop()
        await self.dispatcher.close()
        with contextlib.suppress(redis.RedisError, OSError):
            await self.lease.give_back()
        await self._client.aclose()
        await asyncio.to_thread(self.tracer.close)

    # ---------------------------------------------------------------- what the session asks and wants

    def _hooks(self, tally: Tally | None) -> Hooks:
        auditor = self.audit.auditor(self._sha256_of)
        traces = None if self.tracer is tracing.NO_TRACER else Traces(self.tracer, self._serves)
        return Together(*(one for one in (tally, auditor, traces) if one))

    def _serves(self, model: str) -> bool:
        return self.session.readings.serves(model)  # which is made after the hooks

    def _sha256_of(self, worker_id: str, model: str) -> str | None:
        return self.session.readings.sha256_of(worker_id, model)  # which is made after the hooks

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.link.send(effect.text)
            elif isinstance(effect, DropLink):
                self.link.drop()
            elif isinstance(effect, SendReply):
                self.parcels.send(effect)
            elif isinstance(effect, Heal):
                self.relay.heal(full=effect.full)
            else:
                self.dispatcher.do(effect)

    def _hello(self, challenge: Challenge) -> Hello:
        return sign_hello(
            challenge,
            self._identity,
            worker_id=self._settings.worker_id,
            name=self._settings.worker_name,
            version=version(),
            now=time.time(),
        )

    # ---------------------------------------------------------------- from the link

    def welcomed(self, welcome: Welcome) -> None:
        self.apply(self.session.welcomed(welcome, time.monotonic()))
        self.audit.tell_newest()

    def frame(self, frame: ApiFrame) -> None:
        self.apply(self.session.frame(frame, time.monotonic()))

    def written(self, chars: int) -> None:
        self.apply(self.session.written(chars))

    def unlinked(self) -> None:
        self.parcels.stop()
        self.session.unlinked()

    # ---------------------------------------------------------------- from the parcels

    def send_piece(self, text: str) -> None:
        self.session.pieces.sent(text)
        self.link.send(text)

    async def room(self) -> bool:
        return await self.link.room()

    def reply_lost(self, job_id: str) -> None:
        self.apply(self.session.pieces.reply_lost(job_id, time.monotonic()))
