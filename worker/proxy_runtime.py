"""What a proxy worker serves: the models of the external servers that its host reaches.

    loop thread:  discovery.tick every refresh ─► directory ─► changed()
    task thread:  serve(job) ─► loop thread: targets, the preferred first ─► product.serve ─► the job's reply
                                             └ not available, or without the model: the next target

It satisfies `worker.process.Serving`; llama.cpp is not loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial

import httpx

from tasks.capability import objection
from tasks.contract import BackendReport, Job, ModelInfo
from tasks.errors import BadRequestError, PendraError, UnavailableError, WorkerError
from tasks.figures import LoadFigures
from tasks.logs import event, where
from tasks.settings import Settings
from worker.backends.base import CancelToken, Reply, StepPublisher
from worker.backends.external import registry
from worker.backends.external.directory import Directory, Target
from worker.backends.external.discovery import Discovery, endpoints_of
from worker.backends.external.faults import LABELS, MODEL_GONE, UNAVAILABLE
from worker.backends.external.logins import logins_of, with_key
from worker.backends.external.openai.alive import signs_of_life
from worker.backends.external.product import Product, ProductName
from worker.engine.api import EngineStats
from worker.loop_thread import LoopThread

_LOG = logging.getLogger("pendra.proxy")
_ANOTHER = {UNAVAILABLE: "backend.unavailable", MODEL_GONE: "backend.model_gone"}
"""Errors after which the next server is asked, and what the log calls them."""
_LEAST_GAP_S = 0.5  # between looks, however many requests find their server gone
_KEPT = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0)


def make_client(settings: Settings) -> httpx.AsyncClient:
    """The pooled client for all servers, with their API keys. The environment's proxies are not used: they are near.

    A private CA goes into `SSL_CERT_FILE`, as everywhere.
    """
    hooks = {"request": [with_key(logins_of(settings))]}
    return httpx.AsyncClient(limits=_KEPT, trust_env=False, verify=ssl.create_default_context(), event_hooks=hooks)


class ProxyRuntime:
    """All methods from any thread. `changed` is called after the models changed, on the loop thread."""

    def __init__(
        self,
        settings: Settings,
        slots: int,
        publisher: StepPublisher,
        changed: Callable[[], None],
        *,
        products: Sequence[Product] | None = None,
    ) -> None:
        del publisher  # replies post to it by themselves
        self._slots = slots
        self._changed = changed
        self._only = settings.models
        self._refresh_s = settings.refresh_seconds
        known = registry.products() if products is None else products
        self._discovery = Discovery(known, endpoints_of(settings), settings.backend_order, self._take_over)
        self._directory = Directory()
        self._reports = self._discovery.reports()
        self._wake = asyncio.Event()
        self._gates = {product.name: asyncio.Semaphore(settings.backend_limit) for product in known}
        self._http = make_client(settings)
        self._busy = 0
        self._loop = LoopThread("proxy-loop", self._http.aclose)
        self._looking: asyncio.Task[None] | None = None
        self._loop.post(self._begin)

    # ------------------------------------------------------------------ Serving

    def serve(self, job: Job, reply: Reply, cancel: CancelToken) -> None:
        """Run the job and block until it has ended. Raises PendraError when nothing was replied yet."""
        self._loop.call(partial(self._serve, job, reply), cancel)

    def models(self) -> tuple[ModelInfo, ...]:
        return self._directory.infos

    def reports(self) -> tuple[BackendReport, ...]:
        """What is known of every kind of server."""
        return self._reports

    def preload(self, models: Iterable[str]) -> None:
        """Nothing: external servers load their models by themselves."""

    def withdraw(self, model_id: str, *, force: bool) -> int:  # noqa: ARG002  # Serving's
        """Nothing holds the model here: the files that are about to go are the built-in engine's. Returns 0."""
        return 0

    def restore(self, model_id: str) -> None:  # noqa: ARG002  # Serving's
        """Something was installed or removed: look now."""
        self.look_soon()

    def stats(self) -> dict[str, EngineStats]:
        """One row, whose steps grow while the loop turns; a silent server is its product's business."""
        zero = dict.fromkeys(("kv_cells_used", "kv_cells_total", "prompt_tokens", "cached_tokens"), 0)
        row = EngineStats(
            slots_total=self._slots,
            slots_busy=self._busy,
            waiting=0,
            steps=self._loop.beats,
            completion_tokens=0,
            **zero,
        )
        return {"proxy": row}

    def loads(self) -> tuple[LoadFigures, ...]:
        """None: external servers load their models by themselves."""
        return ()

    def close(self) -> None:
        """Close every request to a server. Blocks; idempotent."""
        self._loop.close()

    def look_soon(self) -> None:
        """Look for changes now rather than at the next refresh."""
        with contextlib.suppress(UnavailableError):
            self._loop.post(self._wake.set)

    # ------------------------------------------------------------ loop: discovery

    def _begin(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def _look_on(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._discovery.tick(self._http)
            except Exception as exc:  # noqa: BLE001  # discovery must go on whatever went wrong
                event(_LOG, logging.ERROR, "discovery.crashed", error=type(exc).__name__, at=where(exc))
            await asyncio.sleep(min(_LEAST_GAP_S, self._refresh_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._refresh_s - _LEAST_GAP_S)):
                    await self._wake.wait()

    def _take_over(self) -> None:
        before = self._directory.infos, self._reports
        self._directory = self._discovery.directory(self._only)
        self._reports = self._discovery.reports()
        if before != (self._directory.infos, self._reports):
            self._changed()

    # ---------------------------------------------------------------- loop: jobs

    async def _serve(self, job: Job, reply: Reply) -> None:
        self._busy += 1
        try:
            await self._by_preference(job, reply)
        finally:
            self._busy -= 1

    async def _by_preference(self, job: Job, reply: Reply) -> None:
        error = _unfit(job)
        for target in [] if error else self._targets(job):
            try:
                await self._by(target, job, reply)
            except PendraError as exc:
                if exc.code not in _ANOTHER:
                    raise
                self._wake.set()  # it went, or lost the model: the fleet should know soon
                error = exc if error is None or exc.code == UNAVAILABLE else error
                event(_LOG, logging.WARNING, _ANOTHER[exc.code], job_id=job.job_id, product=target.product.name)
            else:
                return
        raise error or self._nobody(job)

    def _targets(self, job: Job) -> list[Target]:
        """Who may serve it, the preferred first; those that are full come after those that are not."""
        targets = self._directory.targets(job.model, job.kind)
        return sorted(targets, key=lambda target: self._gates[target.product.name].locked())

    async def _by(self, target: Target, job: Job, reply: Reply) -> None:
        async with self._turn(target.product.name, reply):
            await target.product.serve(self._http, target.found, target.served, job, reply)

    @contextlib.asynccontextmanager
    async def _turn(self, name: ProductName, reply: Reply) -> AsyncIterator[None]:
        """A place among the requests that the server gets at once."""
        gate = self._gates[name]
        async with signs_of_life(reply, stage="queued"):
            await gate.acquire()
        try:
            yield
        finally:
            gate.release()

    def _nobody(self, job: Job) -> PendraError:
        have = self._directory.models.get(job.model, ())
        if not have:
            return WorkerError(f"the server that had the model '{job.model}' is gone", code=UNAVAILABLE)
        rows = [target.served.info for target in have]
        return objection(job.kind, job.model, rows, self._directory.infos) or _unserved(job, have)


def _unserved(job: Job, have: Iterable[Target]) -> PendraError:
    whose = " and ".join(dict.fromkeys(LABELS[target.product.name] for target in have))
    return BadRequestError(f"{whose}, which has '{job.model}', does not serve {job.kind}", code="wrong_capability")


def _unfit(job: Job) -> PendraError | None:
    """Nobody but our own engine can go on in the middle of a reply."""
    if job.resume is not None and job.resume.token_ids:
        return WorkerError("an external server cannot go on with a reply that another began", code=UNAVAILABLE)
    return None
