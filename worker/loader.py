"""Brings models into memory: room, plan, weights, engine. One after the other, because each measures what is free."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tasks.errors import JobCancelledError, WorkerError
from tasks.logs import event
from tasks.settings import Settings
from worker.backends.base import StepPublisher
from worker.capacity import POOLED, SMALLEST_CTX, Demand, Plan, demand_of, plan_for, share
from worker.memory import free_bytes
from worker.options import Options, options_of
from worker.residency import decide
from worker.residents import Loaded, Model, Residents
from worker.store.adapters import located
from worker.store.catalogue import Entry

_LOG = logging.getLogger("pendra.runtime")

Progress = Callable[[float], bool]


class Opener(Protocol):
    """`_open`, or a test's."""

    def __call__(
        self, entry: Entry, plan: Plan, options: Options, publisher: StepPublisher, progress: Progress
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
        free: Callable[[Options], int] = free_bytes,
        rehearse: Callable[[Path], None] | None = None,
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._publisher = publisher
        self._residents = residents
        self._evicted = evicted
        self._opener = opener or _open
        self._rehearse = rehearse or _rehearse
        self._free = free
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
            options = self._options(entry)
            demand = demand_of(entry, options)
            self._make_room(entry, demand, options)
            plan = self._plan(demand, options)
            model = self._opener(entry, plan, options, self._publisher, progress)
            self._residents.add(Loaded(entry, model, demand.under(plan), options.cpu, options.keep_alive))
        ms = round((time.monotonic() - began) * 1000)
        ctx = model.context_length
        event(_LOG, logging.INFO, "runtime.loaded", model=entry.id, slots=plan.slots, context=ctx, ms=ms)

    def close(self) -> None:
        """Load nothing more. Blocks until the running load, which should be stopped first, has ended."""
        self._closed = True
        with self._one:
            pass

    def _options(self, entry: Entry) -> Options:
        options = options_of(self._settings, entry.id, entry.label.lora)
        return replace(options, adapters=located(self._settings.models_dir, options.lora))

    def _plan(self, demand: Demand, options: Options) -> Plan:
        plan = plan_for(demand, self._free(options), cpu=options.cpu)
        return Plan(min(plan.slots, self._slots), plan.ctx_per_slot)

    def _make_room(self, entry: Entry, demand: Demand, options: Options) -> None:
        """Evict idle models as far as that helps, for a model that would load.

        Raises WorkerError: `out_of_memory` when busy ones are too big, or what is wrong with the file.
        Of what an eviction frees, as of all free memory, only our share counts.
        """
        part = share(cpu=options.cpu)
        least = demand.under(Plan(1, min(demand.ctx, SMALLEST_CTX)))
        wanted = demand.under(Plan(min(demand.slots or self._slots, self._slots), demand.ctx))
        residents = self._residents.snapshot(cpu=options.cpu)
        ours = [replace(one, size_bytes=int(one.size_bytes * part)) for one in residents]
        decision = decide(least, wanted, int(self._free(options) * part), ours)
        busy = ", ".join(one.model for one in residents if one.busy)
        if not decision.fits and least <= int(self._free(options) * part) + sum(one.size_bytes for one in ours):
            why = f"{entry.id} does not fit beside the models in use ({busy}); try again when they are idle"
            raise WorkerError(why, code="out_of_memory")
        if decision.evict:
            self._rehearse(entry.path)
        for model_id in decision.evict:
            close_model(self._residents.remove(model_id, idle=True), why="evicted")
        if decision.evict:
            self._evicted()


def close_model(loaded: Loaded | None, *, why: str = "asked") -> bool:
    """Free a model that was taken out of the residents. Blocks until what runs on it has ended."""
    if loaded is None:
        return False
    loaded.model.close()
    event(_LOG, logging.INFO, "runtime.unloaded", model=loaded.entry.id, why=why)
    return True


def _rehearse(path: Path) -> None:
    from worker.engine.rehearsal import rehearse  # noqa: PLC0415  # llama.cpp loads with the first model

    rehearse(path)


def _open(entry: Entry, plan: Plan, options: Options, publisher: StepPublisher, progress: Progress) -> Model:
    from worker.backends.embedding_opening import open_embedding  # noqa: PLC0415  # llama.cpp loads with the first
    from worker.backends.opening import open_llama  # noqa: PLC0415  # model

    if entry.purpose in POOLED:
        return open_embedding(entry, plan, options, progress)
    return open_llama(entry, plan, options, publisher, progress)
