"""The bridge process: wires session, link, relay and dispatch together. `python -m bridge.main`.

One event loop, one thread (besides the one that Celery sends in). Every shell reports to `Bridge`, which asks the
session and carries out what it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import redis

from bridge import problems
from bridge.admission import Limits
from bridge.audit_chain import Checkpoint
from bridge.audit_files import DAY_S
from bridge.audit_log import AuditLog
from bridge.auditor import Auditor
from bridge.backoff import Fatal
from bridge.blob_store import ReplyReader
from bridge.client import Link
from bridge.dispatch import Dispatcher
from bridge.effects import DropLink, Effect, Heal, Send, SendReply
from bridge.fleet import Gone
from bridge.hooks import Hooks, Together
from bridge.identity import Identity, sign_hello
from bridge.install_watch import InstallWatch
from bridge.lease import Lease, LeaseLostError
from bridge.metrics.server import MetricsServer
from bridge.metrics.tally import Tally
from bridge.parcels import Parcels
from bridge.protocol import ApiFrame, AuditCheckpoint, Challenge, Hello, Welcome, encode
from bridge.registry import Registry
from bridge.relay import Relay
from bridge.session import Session
from bridge.traces import Traces
from tasks import core_dumps, event_loop, keys, logs, redis_persistence, tracing
from tasks.cancelling import ended
from tasks.celery_app import make_app
from tasks.contract import InstallProgress, WorkerInfo
from tasks.errors import ConfigError, PendraError, SealError
from tasks.events import unpack
from tasks.logs import event
from tasks.redis_client import connect_async
from tasks.sealing import Opener, Sealer
from tasks.settings import Settings, load_settings

log = logging.getLogger("pendra.bridge")

TICK_S = 0.05
FIRST_REDIS_S = 5.0  # how long the first connection to the API waits for Redis, so that it hears of workers at once
TAKE_OVER_S = 10.0
REPORT_S = 1.0
EXIT_REPLACED = 75  # EX_TEMPFAIL: started again, it waits for its turn
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: restarting does not help


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
        self._loop: asyncio.AbstractEventLoop | None = None
        self.audit = audit_of(settings, identity, self._checkpoint)
        self.tracer = tracing.start("bridge", settings.worker_id)
        self.session = Session(
            self.bridge_id,
            Opener(*fleet_keys),
            limits=limits,
            order=order,
            hooks=self._hooks(tally),
            veto=self._veto,
        )
        self.metrics = metrics_of(settings, self.session, tally)
        self._client = connect_async(settings.redis_url)
        sealer = Sealer(fleet_keys[0])
        self.lease = Lease(self._client, self.bridge_id)
        app, scripts = make_app(settings.redis_url), self.lease.scripts
        self._registry = Registry(self._client, self.bridge_id, sealer, Opener(*fleet_keys), scripts)
        self.dispatcher = Dispatcher(self._client, app, sealer, self, self._registry, scripts)
        self._healed = asyncio.Event()
        self.relay = Relay(self._client, self.bridge_id, self)
        self.installs = InstallWatch(self._client, self)
        self.link = Link(settings.app_server_ws_url, self._hello, self)
        self.parcels = Parcels(ReplyReader(self._client, Opener(*fleet_keys)), self)

    async def run(self, stop: asyncio.Event) -> Fatal | None:
        """Until `stop` is set (then finish within the grace), or the link fails for good."""
        self._loop = asyncio.get_running_loop()
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
            self._open_audit()
            return await self.link.run()
        await self.lease.held.wait()
        self._open_audit()
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
            self._healed.clear()
            self.apply(self.session.adopt(left, time.monotonic()))
            self.relay.heal(full=True)
            await self._healed.wait()

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
            said = self.session.overview(time.monotonic())
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
        await self._close_audit()  # now, so that the last checkpoint still reaches the API
        try:
            async with asyncio.timeout(2.0):
                await asyncio.gather(self.link.flushed(), self.dispatcher.settle())
        except TimeoutError:
            event(log, logging.WARNING, "bridge.unflushed")

    def _busy_before(self, deadline: float) -> bool:
        return self.session.open_jobs > 0 and time.monotonic() < deadline

    async def _close(self, *tasks: asyncio.Task[None]) -> None:
        await ended(*tasks)
        await self._close_audit()
        self.parcels.stop()
        await self.dispatcher.close()
        with contextlib.suppress(redis.RedisError, OSError):
            await self.lease.give_back()
        await self._client.aclose()
        await asyncio.to_thread(self.tracer.close)

    # ---------------------------------------------------------------- audit

    def _hooks(self, tally: Tally | None) -> Hooks:
        auditor = Auditor(self.audit.put, self._sha256_of) if self.audit else None
        traces = None if self.tracer is tracing.NO_TRACER else Traces(self.tracer, self._serves)
        return Together(*(one for one in (tally, auditor, traces) if one))

    def _serves(self, model: str) -> bool:
        return self.session.serves(model)  # which is made after the hooks

    def _sha256_of(self, worker_id: str, model: str) -> str | None:
        return self.session.sha256_of(worker_id, model)  # which is made after the hooks

    def _veto(self) -> PendraError | None:
        failing = self.audit is not None and self.audit.failing
        return problems.NO_AUDIT if failing and self._settings.audit == "required" else None

    def _checkpoint(self, checkpoint: Checkpoint) -> None:
        """On the audit log's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is over: the next start signs again
            if self._loop:
                self._loop.call_soon_threadsafe(self._send_checkpoint, checkpoint)

    def _send_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.send_piece(encode(AuditCheckpoint.model_validate(checkpoint.model_dump())))

    def _open_audit(self) -> None:
        """Not before the jobs are ours: one that only stands by would keep the log from the one that writes it."""
        if self.audit:
            self.audit.start()

    async def _close_audit(self) -> None:
        if self.audit:
            await asyncio.to_thread(self.audit.close)

    # ---------------------------------------------------------------- what the session wants

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
        if self.audit and self.audit.newest:
            self._send_checkpoint(self.audit.newest)

    def frame(self, frame: ApiFrame) -> None:
        self.apply(self.session.frame(frame, time.monotonic()))

    def written(self, chars: int) -> None:
        self.apply(self.session.written(chars))

    def unlinked(self) -> None:
        self.parcels.stop()
        self.session.unlinked()

    # ---------------------------------------------------------------- from the relay

    def batch(self, data: bytes) -> None:
        try:
            envelopes = unpack(data)
        except SealError as exc:
            event(log, logging.ERROR, "events.unreadable", why=exc.message, size=len(data))
            return
        self.apply(self.session.events(envelopes, time.monotonic()))

    def fleet_news(self, news: WorkerInfo | Gone) -> None:
        self.apply(self.session.fleet_news(news, time.monotonic()))

    def pong(self) -> None:
        self.session.pong(time.monotonic())

    def redis_lost(self) -> None:
        self.session.redis_lost(time.monotonic())

    def redis_back(self, *, data_lost: bool) -> None:
        self.apply(self.session.redis_back(time.monotonic(), data_lost=data_lost))

    def heal_started(self) -> None:
        self.session.heal_started()

    def healed(self, *, full: bool) -> None:
        self.apply(self.session.healed(time.monotonic(), full=full))
        self._healed.set()

    # ---------------------------------------------------------------- from the watch of installs

    def install_tasks(self) -> tuple[str, ...]:
        return self.session.install_tasks

    def install_progress(self, task_id: str, progress: InstallProgress) -> None:
        self.apply(self.session.install_progress(task_id, progress, time.monotonic()))

    def install_ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None:
        self.apply(self.session.install_ended(task_id, result, problem, time.monotonic()))

    # ---------------------------------------------------------------- from the parcels

    def send_piece(self, text: str) -> None:
        self.session.sent_piece(text)
        self.link.send(text)

    async def room(self) -> bool:
        return await self.link.room()

    def reply_lost(self, job_id: str) -> None:
        self.apply(self.session.reply_lost(job_id, time.monotonic()))

    # ---------------------------------------------------------------- from the dispatcher

    def blob_stored(self, size: int) -> None:
        self.session.blob_stored(size)

    def blob_failed(self, job_id: str) -> None:
        self.apply(self.session.blob_failed(job_id, time.monotonic()))

    def taken(self, job_id: str, attempt: int, worker_id: str, size: int) -> None:
        self.apply(self.session.taken(job_id, attempt, worker_id, size, time.monotonic()))

    def none_free(self, job_id: str, attempt: int) -> None:
        self.apply(self.session.none_free(job_id, attempt, time.monotonic()))

    def dispatch_failed(self, job_id: str, attempt: int) -> None:
        self.apply(self.session.dispatch_failed(job_id, attempt, time.monotonic()))

    def fenced(self, job_id: str, attempt: int) -> None:
        self.apply(self.session.fenced(job_id, attempt, time.monotonic()))

    def fence_failed(self, job_id: str, attempt: int) -> None:
        self.apply(self.session.fence_failed(job_id, attempt, time.monotonic()))

    def enqueue_failed(self, job_id: str, attempt: int) -> None:
        self.apply(self.session.enqueue_failed(job_id, attempt, time.monotonic()))


def audit_of(settings: Settings, identity: Identity, told: Callable[[Checkpoint], None]) -> AuditLog | None:
    """This bridge's audit log, not started yet; None when it is off."""
    if settings.audit == "off":
        return None
    days = settings.audit_retention_days
    return AuditLog(
        settings.audit_dir / settings.worker_id,
        identity,
        retention_s=None if days is None else days * DAY_S,
        copy=settings.audit_checkpoints,
        told=told,
    )


def limits_of(settings: Settings) -> Limits:
    return Limits(
        waiting=settings.max_waiting,
        of_model=settings.max_waiting_model,
        of_key=settings.max_waiting_key,
        wait_s=settings.max_wait_seconds,
        batch_wait_s=settings.max_wait_batch_seconds,
    )


def metrics_of(settings: Settings, session: Session, tally: Tally | None) -> MetricsServer | None:
    """The port that Prometheus asks, None when it is off."""
    if settings.metrics_port is None or tally is None:
        return None
    return MetricsServer(settings.metrics_host, settings.metrics_port, session, tally, version())


def version() -> str:
    try:
        return metadata.version("pendra-worker")
    except metadata.PackageNotFoundError:
        return "0+source"


def run(settings: Settings) -> int:
    """Configure logging and run a bridge until SIGTERM or SIGINT. Returns the exit code; 78: a person must help.

    Raises ConfigError when the settings cannot be used.
    """
    logs.configure(settings, "bridge")
    if settings.gpu_worker_private_key is None:
        raise ConfigError(
            "GPU_WORKER_PRIVATE_KEY is not set: the bridge cannot prove itself to the API. "
            "Copy the key from the console, or run `pendra setup`"
        )
    identity = Identity.from_base64(settings.gpu_worker_private_key.get_secret_value())
    return event_loop.run(_run(settings, identity))


async def _run(settings: Settings, identity: Identity) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bridge = Bridge(settings, identity)
    gc.collect()
    gc.freeze()  # what was imported lives for ever: the collector need not look at it while tokens pass
    event(log, logging.INFO, "bridge.started", bridge_id=bridge.bridge_id, api=settings.app_server_ws_url)
    fatal = await bridge.run(stop)
    if fatal is not None:
        event(log, logging.CRITICAL, "bridge.fatal", why=fatal.words)
        print(f"pendra bridge: {fatal.words}", file=sys.stderr)  # noqa: T201  # for the person at the terminal
        return EXIT_CONFIG
    event(log, logging.INFO, "bridge.stopped")
    return 0


def main() -> int:
    core_dumps.forbid()
    try:
        return run(load_settings())
    except ConfigError as exc:
        print(f"pendra bridge: {exc.message}", file=sys.stderr)  # noqa: T201  # logging may not work yet
        return EXIT_CONFIG
    except LeaseLostError as exc:
        event(log, logging.CRITICAL, "bridge.replaced", why=exc.message)
        return EXIT_REPLACED


if __name__ == "__main__":
    sys.exit(main())
