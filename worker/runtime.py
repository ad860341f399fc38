"""Which models are in memory, and how a job finds its own: loaded at first use, evicted when room is needed.

serve(job) ─► resident? ─yes─► its backend
                 └ no ─► one load per model (worker.loading), one at a time (worker.loader) ─► its backend
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from tasks.contract import Job, ModelInfo
from tasks.errors import BadRequestError, NotFoundError, PendraError, UnavailableError, WorkerError
from tasks.figures import LoadFigures
from tasks.logs import event, where
from tasks.settings import Settings
from worker.backends.base import CancelToken, Reply, StepPublisher
from worker.capacity import POOLED
from worker.engine.api import EngineStats
from worker.figures import LoadCounts
from worker.keeper import Keeper, asked_keep_alive
from worker.loader import Loader, Opener, close_model
from worker.loading import Load, TimedReply, again
from worker.memory import free_bytes, whole_bytes
from worker.options import Options
from worker.residents import Loaded, Model, Residents
from worker.room import TooLarge
from worker.store.catalogue import Catalogue, Entry
from worker.store.watch import StoreWatch

_LOG = logging.getLogger("pendra.runtime")
_DRAIN_S = 600.0  # how long a forced uninstall lets jobs go on
_LOOK_S = 0.1
_PURPOSES = POOLED | {"chat"}  # what our backends can do so far; other models of the store are not advertised


class Runtime:
    """All methods are safe from any thread.

    `slots`: the most jobs this process runs at once. `changed` is called, on some thread, after a model was loaded
    or unloaded or the store changed; it must not block.
    """

    def __init__(
        self,
        settings: Settings,
        slots: int,
        publisher: StepPublisher,
        changed: Callable[[], None],
        *,
        opener: Opener | None = None,
        free: Callable[[Options], int] = free_bytes,
        whole: Callable[[Options], int | None] = whole_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed = changed
        self._residents = Residents(clock)
        self._loader = Loader(settings, slots, publisher, self._residents, evicted=changed, opener=opener, free=free)
        self._lock = threading.Lock()
        self._loads: dict[str, Load] = {}
        self._load_counts = LoadCounts()
        self._closed = threading.Event()
        self._catalogue = Catalogue(settings.models_dir, settings.models)
        self._entries = self._catalogue.entries()
        self._too_large = TooLarge(settings, whole)
        self._withdrawn: frozenset[str] = frozenset()  # about to be removed from the store
        self._watch = StoreWatch(self._catalogue, self._look, poll_s=settings.refresh_seconds, known=self._entries)
        self._watch.start()
        self.keeper = Keeper(self._residents, self._ended)
        """Unloads models that have been idle for as long as they are kept."""
        self.keeper.start()

    # ------------------------------------------------------------------ serving

    def serve(self, job: Job, reply: Reply, cancel: CancelToken) -> None:
        """Run the job and block until it has ended. Raises PendraError when it did not reach its model."""
        keep_s = asked_keep_alive(job.body)
        with self._using(job.model, reply, cancel, keep_s) as (model, waited_ms):
            model.serve(job, TimedReply(reply, waited_ms), cancel)

    def preload(self, models: Iterable[str]) -> None:
        """Load these, one after the other. Tries all; raises the first PendraError."""
        errors = []
        for model_id in models:
            try:
                with self._using(model_id, None, CancelToken()):
                    pass
            except PendraError as exc:
                errors.append(exc)
        if errors:
            raise errors[0]

    def unload(self, model_id: str) -> bool:
        """Take a model out of memory; what still runs on it ends with `draining`. Blocks. False: not loaded."""
        gone = close_model(self._residents.remove(model_id))
        if gone:
            self._changed()
        return gone

    def withdraw(self, model_id: str, *, force: bool) -> int:
        """Take a model out of memory, and do not load it again until `restore` or until its file is gone. Blocks.

        Refuses while jobs use it, and says how many; `force` waits for them instead (0 = it is out of memory).
        """
        self._mark(self._withdrawn | {model_id})
        deadline = time.monotonic() + _DRAIN_S
        while (busy := self._users(model_id)) and force and time.monotonic() < deadline:
            self._closed.wait(_LOOK_S)
        loaded = None if busy else self._residents.remove(model_id, idle=True)
        if loaded is None and (busy := busy or self._users(model_id)):  # somebody was quicker
            self.restore(model_id)
            return busy
        if close_model(loaded):
            self._changed()
        return 0

    def restore(self, model_id: str) -> None:
        """Serve a withdrawn model again."""
        self._mark(self._withdrawn - {model_id})

    def _ended(self, loaded: Loaded) -> None:
        if close_model(loaded, why="idle"):
            self._changed()

    def _mark(self, withdrawn: frozenset[str]) -> None:
        if withdrawn != self._withdrawn:
            self._withdrawn = withdrawn
            self._changed()

    def _users(self, model_id: str) -> int:
        """Jobs that use the model or wait for it to load."""
        running = sum(one.users for one in self._residents.all() if one.entry.id == model_id)
        return running + (model_id in self._loads)

    def close(self) -> None:
        """Unload everything and load nothing more. Blocks; idempotent."""
        self._closed.set()
        self._watch.stop()
        self.keeper.stop()
        with self._lock:
            for load in self._loads.values():
                load.stop()
        self._loader.close()
        for model_id in self.loaded():
            close_model(self._residents.remove(model_id))

    @contextmanager
    def _using(
        self, model_id: str, reply: Reply | None, cancel: CancelToken, keep_s: float | None = None
    ) -> Iterator[tuple[Model, float]]:
        """The model in memory for as long as the block runs, and the milliseconds waited for its load."""
        began = time.monotonic()
        waited_ms = 0.0
        while (loaded := self._residents.take(model_id)) is None:  # once more when it was evicted at once
            self._load_of(model_id).join(reply, cancel)
            waited_ms = round((time.monotonic() - began) * 1000, 3)
        try:
            yield loaded.model, waited_ms
        finally:
            self._residents.give(loaded, keep_s)
            self._forget_gone()
            self.keeper.poke()

    # ------------------------------------------------------------------- looking

    def loaded(self) -> tuple[str, ...]:
        """Ids of the models in memory."""
        return tuple(one.entry.id for one in self._residents.all())

    def models(self) -> tuple[ModelInfo, ...]:
        """What this process can serve: the store's good models, those in memory marked. Does not block."""
        inside = {one.entry.id: one for one in self._residents.all()}
        return tuple(
            _advert(entry, inside.get(entry.id), fits=entry not in self._too_large)
            for entry in self._entries
            if entry.problem is None and entry.purpose in _PURPOSES and entry.id not in self._withdrawn
        )

    def stats(self) -> dict[str, EngineStats]:
        """Slots and counters of every model in memory."""
        return {one.entry.id: one.model.stats() for one in self._residents.all()}

    def loads(self) -> tuple[LoadFigures, ...]:
        """How loads ended, since the process began."""
        return self._load_counts.figures()

    def _look(self, entries: tuple[Entry, ...]) -> None:
        """The store changed: advertise what is there, and forget idle models whose file is gone."""
        self._entries = entries
        self._withdrawn &= {entry.id for entry in entries}
        self._forget_gone()
        self._changed()

    def _forget_gone(self) -> None:
        """Free idle models whose file is gone; those in use are looked at again when their job ends."""
        here = {entry.id for entry in self._entries}
        for model_id in self.loaded():
            if model_id not in here and close_model(self._residents.remove(model_id, idle=True)):
                self._changed()

    # ------------------------------------------------------------------- loading

    def _load_of(self, model_id: str) -> Load:
        """The model's load, begun if none runs. Raises PendraError for what cannot be served."""
        entry = self._servable(model_id)
        with self._lock:
            if self._closed.is_set():
                raise UnavailableError("this worker is shutting down; try again", code="draining")
            load = self._loads.get(model_id)
            if load is None:
                load = self._loads[model_id] = Load()
                threading.Thread(target=self._load, args=(entry, load), name=f"load-{model_id}", daemon=True).start()
            return load

    def _servable(self, model_id: str) -> Entry:
        entry = self._catalogue.find(model_id)
        if entry is None or model_id in self._withdrawn:
            raise NotFoundError(f"the model {model_id} is not on this worker", param="model")
        if entry.problem is not None:
            raise again(entry.problem)
        if entry.purpose not in _PURPOSES:
            raise BadRequestError(f"{model_id} is a model for {entry.purpose}, which this worker does not serve yet")
        return entry

    def _load(self, entry: Entry, load: Load) -> None:
        """On a thread of its own, so that it goes on when the one who asked for it leaves and others wait."""
        began = time.monotonic()
        error = self._try(entry, load)
        self._load_counts.ended(entry.id, error, time.monotonic() - began)
        with self._lock:
            del self._loads[entry.id]
        if error is None:
            self._changed()
            self.keeper.poke()
        else:
            event(_LOG, logging.WARNING, "runtime.load_failed", model=entry.id, code=error.code, why=error.message)
        load.finish(error)

    def _try(self, entry: Entry, load: Load) -> PendraError | None:
        try:
            self._loader.load(entry, load.progress)
        except PendraError as exc:
            return exc
        except Exception as exc:  # noqa: BLE001  # those who wait must hear of it
            event(
                _LOG, logging.ERROR, "runtime.load_crashed", model=entry.id, error=type(exc).__name__, at=where(exc)
            )
            return WorkerError(f"loading {entry.id} failed; the worker's log says where", code="model_load_failed")
        return None


def _advert(entry: Entry, loaded: Loaded | None, *, fits: bool) -> ModelInfo:
    served = loaded.model.context_length if loaded else None
    return entry.advert(loaded=loaded is not None, context_length=served).model_copy(update={"fits": fits})
