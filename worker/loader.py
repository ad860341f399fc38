"""Brings models into memory: room, plan, weights, engine. One after the other, because each measures what is free."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from tasks.errors import JobCancelledError, WorkerError
from tasks.logs import event
from tasks.settings import Settings
from worker.backends.base import StepPublisher
from worker.capacity import POOLED, SMALLEST_CTX, Demand, Plan, demand_of, plan_slots, usable, wanted_ctx
from worker.memory import free_bytes, on_cpu
from worker.residency import decide
from worker.residents import Loaded, Model, Residents
from worker.store.catalogue import Entry

_LOG = logging.getLogger("pendra.runtime")

Progress = Callable[[float], bool]


class Opener(Protocol):
    """`_open`, or a test's."""

    def __call__(
        self, entry: Entry, plan: Plan, settings: Settings, publisher: StepPublisher, progress: Progress
    ) -> Model: ...


class Loader:
    """`load` from any thread; `evicted` is called after idle models had to go."""

    def __init__(
        self,
        settings: Settings,
        slots: int,
        publisher: StepPublisher,
        residents: Residents,
        *,
        evicted: Callable[[], None],
        opener: Opener | None = None,
        free: Callable[[Settings], int] = free_bytes,
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._publisher = publisher
        self._residents = residents
        self._evicted = evicted
        self._opener = opener or _open
        self._free = free
        self._cpu = on_cpu(settings)
        self._one = threading.Lock()
        self._closed = False

    def load(self, entry: Entry, progress: Progress) -> None:
        """Put the model among the residents. Blocks; `progress` returning False stops it with JobCancelledError.

        Raises WorkerError (out_of_memory, model_corrupt, …); other models are untouched then.
        """
        began = time.monotonic()
        with self._one:
            if self._closed or not progress(0.0):
                raise JobCancelledError(f"nobody waits for {entry.id} any more")
            demand = demand_of(entry, cpu=self._cpu, n_gpu_layers=self._settings.n_gpu_layers)
            self._make_room(entry, demand)
            plan = self._plan(demand)
            model = self._opener(entry, plan, self._settings, self._publisher, progress)
            size = plan.bytes_with(demand.model_bytes, demand.kv_bytes_per_token)
            self._residents.add(Loaded(entry, model, size))
        ms = round((time.monotonic() - began) * 1000)
        ctx = model.context_length
        event(_LOG, logging.INFO, "runtime.loaded", model=entry.id, slots=plan.slots, context=ctx, ms=ms)

    def close(self) -> None:
        """Load nothing more. Blocks until the running load, which should be stopped first, has ended."""
        self._closed = True
        with self._one:
            pass

    def _plan(self, demand: Demand) -> Plan:
        plan = plan_slots(
            self._free(self._settings),
            demand.model_bytes,
            demand.kv_bytes_per_token,
            demand.n_ctx_train,
            self._settings.max_concurrent,
            self._settings.context_length,
            cpu=self._cpu,
        )
        return Plan(min(plan.slots, self._slots), plan.ctx_per_slot)

    def _make_room(self, entry: Entry, demand: Demand) -> None:
        """Evict idle models as far as that helps. Raises WorkerError(`out_of_memory`) when busy ones are too big."""
        ctx = wanted_ctx(demand.n_ctx_train, self._settings.context_length)
        least = Plan(1, min(ctx, SMALLEST_CTX)).bytes_with(demand.model_bytes, demand.kv_bytes_per_token)
        wanted = Plan(self._slots, ctx).bytes_with(demand.model_bytes, demand.kv_bytes_per_token)
        residents = self._residents.snapshot()
        decision = decide(least, wanted, usable(self._free(self._settings), cpu=self._cpu), residents)
        busy = ", ".join(one.model for one in residents if one.busy)
        if not decision.fits and busy:
            why = f"{entry.id} does not fit beside the models in use ({busy}); try again when they are idle"
            raise WorkerError(why, code="out_of_memory")
        for model_id in decision.evict:
            close_model(self._residents.remove(model_id, idle=True))
        if decision.evict:
            self._evicted()


def close_model(loaded: Loaded | None) -> bool:
    """Free a model that was taken out of the residents. Blocks until what runs on it has ended."""
    if loaded is None:
        return False
    loaded.model.close()
    event(_LOG, logging.INFO, "runtime.unloaded", model=loaded.entry.id)
    return True


def _open(entry: Entry, plan: Plan, settings: Settings, publisher: StepPublisher, progress: Progress) -> Model:
    from worker.backends.embedding_opening import open_embedding  # noqa: PLC0415  # llama.cpp loads with the first
    from worker.backends.opening import open_llama  # noqa: PLC0415  # model

    if entry.purpose in POOLED:
        return open_embedding(entry, plan, settings, progress)
    return open_llama(entry, plan, settings, publisher, progress)
